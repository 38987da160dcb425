"""Serving under load: code that the servers share, and the two states of the allocator."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from bench.apis import Api
from bench.lines import say, say_usage

LOOPBACK = "127.0.0.1"
CHUNK = 65536
"""Largest number of bytes that a server receives at once."""

BACKLOG = 1000
LARGE = 4 << 20
"""Size in bytes of a block larger than all that an echo of 1 MiB allocates at once."""

FREED = "freed"
"""State of a process that has freed a large block."""

AS_STARTED = "as-started"
"""State of a process that has not freed a large block."""

Address: TypeAlias = int | str
"""A port, or the path of a Unix socket."""

Start = Callable[[Api, int], AbstractAsyncContextManager[Address]]
"""Serves messages of ``size`` bytes inside the context, which yields the server's address."""


def free_large_block() -> None:
    """Allocate and free a block so large that the C library maps it on its own.

    When such a block is freed, glibc raises its threshold for mapping to the size of the block.
    From then on it takes smaller blocks from the heap, whose pages stay with the process, instead
    of mapping each block again and paying a page fault for every page.
    """
    bytearray(LARGE)


async def serve(api: Api, start: Start, size: int, state: str) -> None:
    """Serve until standard input ends; print the port, then the usage for each line read."""
    if state == FREED:
        free_large_block()
    loop = api.get_running_loop()
    async with start(api, size) as address:
        ended = loop.create_future()

        def answer() -> None:
            if os.read(0, 4096):
                say_usage()
            else:
                loop.remove_reader(0)
                ended.set_result(None)

        loop.add_reader(0, answer)
        say({"port": address})
        await ended

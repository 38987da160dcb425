"""Serving under load: what the servers share, and the two states of the allocator."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from bench.apis import Api
from bench.lines import say, say_usage

LOOPBACK = "127.0.0.1"
CHUNK = 65536
"""Bytes: as much as a server takes at once."""

BACKLOG = 1000
LARGE = 4 << 20
"""Bytes: larger than all that an echo of 1 MiB allocates at once."""

FREED = "freed"
"""The state of a process that has freed a large block."""

AS_STARTED = "as-started"
"""The state of a process that has not."""

Address: TypeAlias = int | str
"""A port, or the path of a Unix socket."""

Start = Callable[[Api, int], AbstractAsyncContextManager[Address]]
"""Serves messages of so many bytes inside the context, on the address that it gives."""


def free_large_block() -> None:
    """Free a block so large that the C library had mapped it on its own.

    glibc takes the size of such a block for its new threshold. From then on it takes smaller ones
    from the heap, whose pages stay there, instead of mapping each anew, page fault by page fault.
    """
    bytearray(LARGE)


async def serve(api: Api, start: Start, size: int, state: str) -> None:
    """Serve until the input ends; say the port, then what was used for each line that is read."""
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

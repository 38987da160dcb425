"""Cases for runtimes without an asyncio loop, written with the functions of those runtimes.

A case does the same work as the case of the same name in ``scheduler.py``, ``servers.py`` or
``memory.py``. A runtime is left out of every case that is not written for it here.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.apis import Api
from bench.cases import in_curio, in_trio
from bench.cases.memory import MEMORY_CASES, Weighing
from bench.cases.scheduler import SCHEDULER_CASES, Body
from bench.cases.servers import SERVERS
from bench.cases.serving import FREED, Address, Start, free_large_block
from bench.cases.serving import serve as serve_on_loop
from bench.lines import say, say_usage

T = TypeVar("T")


@dataclass(frozen=True)
class Foreign:
    """Cases that are written for one runtime."""

    bodies: Mapping[str, Body]
    servers: Mapping[str, Callable[[Any, int], AbstractAsyncContextManager[Address]]]
    weighings: Mapping[str, Weighing]
    readable: Callable[[Any, int], Awaitable[None]]
    """Waits until a descriptor is readable."""


FOREIGN = {
    "trio": Foreign(in_trio.BODIES, in_trio.SERVERS, in_trio.WEIGHINGS, in_trio.readable),
    "curio": Foreign(in_curio.BODIES, in_curio.SERVERS, in_curio.WEIGHINGS, in_curio.readable),
}


def body_of(api_name: str, case: str) -> Body:
    """Return a scheduler case. Raises NotImplementedError if it is not written for this runtime."""
    if api_name not in FOREIGN:
        return SCHEDULER_CASES[case].body
    return _implementation(FOREIGN[api_name].bodies, case)


def weighing_of(api_name: str, case: str) -> Weighing:
    """Return a memory case. Raises NotImplementedError if it is not written for this runtime."""
    if api_name not in FOREIGN:
        return MEMORY_CASES[case].body
    return _implementation(FOREIGN[api_name].weighings, case)


async def serve(api_name: str, api: Api, server: str, size: int, state: str) -> None:
    """Serve as ``serving.serve`` does. Raises NotImplementedError if the server is not written."""
    if api_name not in FOREIGN:
        await serve_on_loop(api, SERVERS[server], size, state)
        return
    foreign = FOREIGN[api_name]
    start: Start = _implementation(foreign.servers, server)
    if state == FREED:
        free_large_block()
    async with start(api, size) as address:
        say({"port": address})
        await foreign.readable(api, 0)
        while os.read(0, 4096):
            say_usage()
            await foreign.readable(api, 0)


def _implementation(written: Mapping[str, T], case: str) -> T:
    if case not in written:
        raise NotImplementedError("the runtime has no such feature, or no case is written for it")
    return written[case]

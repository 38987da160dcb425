"""One interface to the streams of asyncio and of runtime, for tests that run on both."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import runtime


class Reader(Protocol):
    """Methods of a stream reader."""

    async def read(self, n: int = -1) -> bytes: ...
    async def readline(self) -> bytes: ...
    async def readexactly(self, n: int) -> bytes: ...
    def at_eof(self) -> bool: ...


class Writer(Protocol):
    """Methods of a stream writer."""

    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


Handler = Callable[[Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Api:
    """One implementation of streams."""

    name: str
    run: Callable[[Coroutine[Any, Any, None]], None]
    open_connection: Callable[..., Awaitable[tuple[Reader, Writer]]]
    start_server: Callable[..., Awaitable[Any]]
    gather: Callable[..., Awaitable[list[Any]]]
    to_thread: Callable[..., Awaitable[Any]]
    timeout: Callable[[float], AbstractAsyncContextManager[Any]]
    new_future: Callable[[], Any]
    """Return a future of the running loop."""

    def end(self, writer: Writer) -> None:
        """Send the end of the stream."""
        try:
            writer.write_eof()
        except OSError as error:
            # asyncio's raises if the connection was lost and the reader does not know it yet.
            if self.name != "asyncio" or error.errno != errno.ENOTCONN:
                raise

    def abort(self, writer: Any) -> None:
        """Close the connection of ``writer`` now."""
        (writer.transport if self.name == "asyncio" else writer).abort()


ASYNCIO = Api(
    "asyncio",
    run=asyncio.run,
    open_connection=asyncio.open_connection,
    start_server=asyncio.start_server,
    gather=asyncio.gather,
    to_thread=asyncio.to_thread,
    timeout=asyncio.timeout,
    new_future=lambda: asyncio.get_running_loop().create_future(),
)
RUNTIME = Api(
    "runtime",
    run=runtime.run,
    open_connection=runtime.open_connection,
    start_server=runtime.start_server,
    gather=runtime.gather,
    to_thread=runtime.to_thread,
    timeout=runtime.timeout,
    new_future=lambda: runtime.get_running_loop().create_future(),
)

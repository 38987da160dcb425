"""Client and server for lines over TCP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import runtime


class LineServer:
    """Answers each line with the result of a function."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer

    async def _serve(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        async for line in reader:
            writer.write(self._answer(line.decode().rstrip("\n")).encode() + b"\n")
            await writer.drain()
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[int, None]:
        """Listen on a free port of this machine; yield its number."""
        async with await runtime.start_server(self._serve, "127.0.0.1", 0) as server:
            port: int = server.sockets[0].getsockname()[1]
            yield port


class LineClient:
    """A connection to a ``LineServer``."""

    def __init__(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncGenerator[LineClient, None]:
        """Connect; close the connection at the end."""
        reader, writer = await runtime.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, line: str) -> str:
        """Send a line; return the answer."""
        self._writer.write(line.encode() + b"\n")
        return (await self._reader.readline()).decode().rstrip("\n")

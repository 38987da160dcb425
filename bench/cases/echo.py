"""The echo server, on streams."""

from __future__ import annotations

import asyncio
import os

from bench.apis import Api
from bench.lines import say, say_usage

CHUNK = 65536
"""Bytes: messages of up to so many are echoed as they come, larger ones when they are whole."""


async def serve_streams(api: Api, size: int) -> None:
    """Echo messages of ``size`` bytes; say the port, then the CPU seconds for each line read."""

    async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def echo_messages(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await api.start_server(
        echo_chunks if size <= CHUNK else echo_messages,
        "127.0.0.1",
        0,
        limit=max(size, CHUNK),
        backlog=1000,
    )
    loop = api.get_running_loop()
    ended = loop.create_future()

    def answer() -> None:
        if os.read(0, 4096):
            say_usage()
        else:
            loop.remove_reader(0)
            ended.set_result(None)

    loop.add_reader(0, answer)
    say({"port": server.sockets[0].getsockname()[1]})
    await ended
    server.close()

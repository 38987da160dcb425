"""Libraries of asyncio, unchanged, in a simulated network: each against itself or a stub server.

Every scenario runs once in a perfect network, and then with seeds in a rough one, in which streams
arrive in any pieces and hosts answer late.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import asyncpg
import httpx
import pytest
import redis.asyncio as redis
import uvicorn
import websockets
from aiohttp import web

from runtime import simulation

ROUGH = simulation.Conditions(
    latency=simulation.Latency(0.0, 0.02, tail=0.02, longest=0.5),
    splitting=0.2,
    merging=0.1,
    short_writes=0.2,
    full_buffers=0.05,
)

SEEDS = [None, *range(6)]


def simulate(
    serve: Callable[[], Awaitable[None]], main: Callable[[], Awaitable[Any]], seed: int | None
) -> Any:
    """Run ``serve()`` on the host ``server``, and then ``main()`` on another one."""

    async def in_world() -> Any:
        world = simulation.current_world()
        if seed is not None:
            world.network.set(ROUGH)

        async def serving() -> None:
            await serve()

        task = world.host("server").start(serving)
        await asyncio.sleep(1)
        try:
            return await main()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return simulation.run(in_world, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_aiohttp(seed: int | None) -> None:
    async def upper(request: web.Request) -> web.Response:
        return web.Response(text=(await request.text()).upper())

    async def socket(request: web.Request) -> web.WebSocketResponse:
        answers = web.WebSocketResponse()
        await answers.prepare(request)
        async for message in answers:
            await answers.send_str(f"{message.data}, {message.data}")
        return answers

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/upper", upper)
        app.router.add_get("/socket", socket)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, port=80).start()
        try:
            await asyncio.sleep(3600)
        finally:
            await runner.cleanup()

    async def main() -> list[str]:
        async with aiohttp.ClientSession("http://server") as session:
            async with session.post("/upper", data="x" * 100_000) as response:
                text = await response.text()
            async with session.ws_connect("/socket") as connection:
                await connection.send_str("knock")
                message = await connection.receive_str()
        return [text[:3], str(len(text)), message]

    assert simulate(serve, main, seed) == ["XXX", "100000", "knock, knock"]


@pytest.mark.parametrize("seed", SEEDS)
def test_uvicorn_and_httpx(seed: int | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (body[:3], b"...", str(len(body)).encode()):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def serve() -> None:
        config = uvicorn.Config(app, host="0.0.0.0", port=80, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        task = asyncio.ensure_future(server.serve())
        try:
            await asyncio.sleep(3600)
        finally:
            server.should_exit = True
            await task

    async def main() -> list[str]:
        async with httpx.AsyncClient(base_url="http://server", timeout=60) as client:
            answers = [await client.post("/", content=b"abc" * count) for count in (1, 50_000)]
            return [answer.text for answer in answers]

    assert simulate(serve, main, seed) == ["abc...3", "abc...150000"]


@pytest.mark.parametrize("seed", SEEDS)
def test_websockets(seed: int | None) -> None:
    async def answer(connection: Any) -> None:
        async for message in connection:
            await connection.send(message[::-1])

    async def serve() -> None:
        async with websockets.serve(answer, "server", 8765) as server:
            await server.serve_forever()

    async def main() -> list[Any]:
        async with websockets.connect("ws://server:8765") as connection:
            answers = []
            for message in ("hello", b"x" * 100_000 + b"y"):
                await connection.send(message)
                answers.append(await connection.recv())
        return [answers[0], answers[1][:2], len(answers[1])]

    assert simulate(serve, main, seed) == ["olleh", b"yx", 100_001]


async def stub_redis() -> None:
    """Answer the commands of a Redis client that the test uses."""
    data: dict[bytes, bytes] = {}

    async def command(reader: asyncio.StreamReader) -> list[bytes]:
        line = await reader.readline()
        parts = []
        for _ in range(int(line[1:] or b"0")):
            size = int((await reader.readline())[1:])
            parts.append((await reader.readexactly(size + 2))[:-2])
        return parts

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while parts := await command(reader):
            name = parts[0].upper()
            if name == b"CLIENT":
                writer.write(b"+OK\r\n")
            elif name == b"SET":
                data[parts[1]] = parts[2]
                writer.write(b"+OK\r\n")
            elif name == b"GET":
                value = data.get(parts[1])
                writer.write(
                    b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
                )
            elif name == b"INCRBY":
                data[parts[1]] = b"%d" % (int(data.get(parts[1], b"0")) + int(parts[2]))
                writer.write(b":%s\r\n" % data[parts[1]])
            else:
                writer.write(b"-ERR unknown command\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, port=6379)
    async with server:
        await server.serve_forever()


@pytest.mark.parametrize("seed", SEEDS)
def test_redis(seed: int | None) -> None:
    async def main() -> list[Any]:
        async with redis.Redis(host="server", protocol=2) as client:
            await client.set("key", b"v" * 100_000)
            value = await client.get("key")
            missing = await client.get("other")
            counts = sorted(await asyncio.gather(*(client.incr("count") for _ in range(5))))
        return [len(value), missing, counts]

    assert simulate(stub_redis, main, seed) == [100_000, None, [1, 2, 3, 4, 5]]


def _message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


async def stub_postgresql() -> None:
    """Answer the queries of asyncpg's simple protocol, each with its own text as a status."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = struct.unpack("!i", await reader.readexactly(4))[0]
            start = await reader.readexactly(size - 4)
            if size == 8 and start == struct.pack("!i", 80877103):  # The client asks for TLS.
                writer.write(b"N")
                size = struct.unpack("!i", await reader.readexactly(4))[0]
                await reader.readexactly(size - 4)
            writer.write(_message(b"R", struct.pack("!i", 0)))
            for name, value in (("server_version", "16.0"), ("client_encoding", "UTF8")):
                writer.write(_message(b"S", f"{name}\0{value}\0".encode()))
            writer.write(_message(b"K", struct.pack("!ii", 1, 2)) + _message(b"Z", b"I"))
            while True:
                kind = await reader.readexactly(1)
                size = struct.unpack("!i", await reader.readexactly(4))[0]
                content = await reader.readexactly(size - 4)
                if kind == b"X":
                    break
                status = content.rstrip(b"\0")[:60] + b"\0"
                writer.write(_message(b"C", status) + _message(b"Z", b"I"))
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, port=5432)
    async with server:
        await server.serve_forever()


@pytest.mark.parametrize("seed", SEEDS)
def test_asyncpg(seed: int | None) -> None:
    async def main() -> list[str]:
        connection = await asyncpg.connect(host="server", user="user", database="db", ssl=False)
        statuses = [await connection.execute(f"QUERY {number}") for number in range(3)]
        await connection.close(timeout=10)
        return statuses

    assert simulate(stub_postgresql, main, seed) == ["QUERY 0", "QUERY 1", "QUERY 2"]

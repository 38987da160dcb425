"""The websockets library: its server and its client."""

from __future__ import annotations

import asyncio
from socket import create_server
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import broadcast, serve

from tests.ecosystem.runners import LoopRunner
from tests.support.certificates import Certificates, client_context, server_context


def address(server: Any, scheme: str = "ws") -> str:
    return f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"


async def echo(socket: Any) -> None:
    async for message in socket:
        await socket.send(message)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_fifty_conversations(runner: LoopRunner, certificates: Certificates, tls: bool) -> None:
    async def main() -> list[list[Any]]:
        async def talk(url: str) -> list[Any]:
            context = client_context(certificates) if tls else None
            async with connect(url, ssl=context) as socket:
                answers = []
                for message in ("text", b"binary", "x" * 500_000, ["in ", "three ", "parts"]):
                    await socket.send(message)
                    answers.append(await socket.recv())
                latency = await (await socket.ping())
                assert latency >= 0
                return [answers[0], answers[1], len(answers[2]), answers[3], socket.close_code]

        context = server_context(certificates) if tls else None
        async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
            url = address(server, "wss" if tls else "ws")
            return await asyncio.gather(*(talk(url) for _ in range(50)))

    assert runner(main) == [["text", b"binary", 500_000, "in three parts", None]] * 50


def test_a_server_that_closes_tells_its_clients(runner: LoopRunner) -> None:
    async def main() -> list[int]:
        server = await serve(echo, "127.0.0.1", 0)
        url = address(server)
        sockets = await asyncio.gather(*(connect(url) for _ in range(5)))
        receiving = [asyncio.create_task(socket.recv()) for socket in sockets]
        await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        ended = await asyncio.gather(*receiving, return_exceptions=True)
        with pytest.raises(OSError, match="Connect call failed"):
            await connect(url)
        closed = [each for each in ended if isinstance(each, websockets.ConnectionClosed)]
        return [each.rcvd.code if each.rcvd else 0 for each in closed]

    assert runner(main) == [1001] * 5


def test_a_broadcast_and_clients_that_come_and_go(runner: LoopRunner) -> None:
    async def main() -> tuple[list[list[str]], int]:
        connected: set[Any] = set()
        everybody, nobody = asyncio.Event(), asyncio.Event()

        async def register(socket: Any) -> None:
            connected.add(socket)
            if len(connected) == 10:
                everybody.set()
            try:
                await socket.wait_closed()
            finally:
                connected.remove(socket)
                if not connected:
                    nobody.set()

        async def listen(url: str) -> list[str]:
            heard = []
            async with connect(url) as socket:
                async for message in socket:
                    heard.append(message)
                    if len(heard) == 20:
                        break
            return heard

        async with serve(register, "127.0.0.1", 0) as server:
            listeners = [asyncio.create_task(listen(address(server))) for _ in range(10)]
            await everybody.wait()
            for number in range(20):
                broadcast(connected, str(number))
            heard = await asyncio.gather(*listeners)
            await nobody.wait()
            return heard, len(connected)

    assert runner(main) == ([[str(number) for number in range(20)]] * 10, 0)


def test_close_codes_time_outs_and_cancellation(runner: LoopRunner) -> None:
    async def main() -> list[Any]:
        ended: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

        async def listen(socket: Any) -> None:
            try:
                async for message in socket:
                    if message == "fail":
                        raise LookupError("the application's own")
            except websockets.ConnectionClosedError as error:
                await ended.put((error.rcvd.code if error.rcvd else 1006, "error"))
            else:
                await ended.put((socket.close_code, socket.close_reason))

        events: list[Any] = []
        async with serve(listen, "127.0.0.1", 0) as server:
            url = address(server)
            async with connect(url) as socket:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(socket.recv(), 0.02)
                waiting = asyncio.create_task(socket.recv())
                await asyncio.sleep(0)
                waiting.cancel()
                cancelled = await asyncio.gather(waiting, return_exceptions=True)
                events.append(type(cancelled[0]).__name__)
                await socket.close(code=4001, reason="enough")
            events.append(await ended.get())
            async with connect(url) as socket:
                await socket.send("fail")
                with pytest.raises(websockets.ConnectionClosedError) as raised:
                    await socket.recv()
                assert raised.value.rcvd is not None
                events.append(raised.value.rcvd.code)
            async with connect(url) as socket:
                socket.transport.abort()
            events.append((await ended.get())[1])
            # The server does not answer: the handshake is given up.
            with create_server(("127.0.0.1", 0)) as quiet, pytest.raises(TimeoutError):
                await connect(f"ws://127.0.0.1:{quiet.getsockname()[1]}", open_timeout=0.05)
        return events

    assert runner(main) == ["CancelledError", (4001, "error"), 1011, "error"]

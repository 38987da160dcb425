"""tornado: its server, its client, and its IOLoop interface, on the running loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.iostream
import tornado.tcpserver
import tornado.testing
import tornado.web
import tornado.websocket
from tornado.tcpclient import TCPClient

from tests.ecosystem.runners import LoopRunner
from tests.support.certificates import Certificates, client_context, server_context


class Hello(tornado.web.RequestHandler):
    async def get(self, name: str) -> None:
        await asyncio.sleep(0)
        self.write(f"hello, {name}")


class Download(tornado.web.RequestHandler):
    async def get(self) -> None:
        for number in range(50):
            self.write(bytes([number]) * 65_537)
            await self.flush()


class Never(tornado.web.RequestHandler):
    gone: asyncio.Event

    async def get(self) -> None:
        await asyncio.Event().wait()

    def on_connection_close(self) -> None:
        Never.gone.set()


class Shout(tornado.websocket.WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message.upper())


ROUTES = [
    (r"/hello/(.*)", Hello),
    (r"/download", Download),
    (r"/never", Never),
    (r"/shout", Shout),
]


def listening(context: Any = None) -> tuple[Any, int]:
    listener, port = tornado.testing.bind_unused_port()
    server = tornado.httpserver.HTTPServer(tornado.web.Application(ROUTES), ssl_options=context)
    server.add_socket(listener)
    return server, port


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_requests(runner: LoopRunner, certificates: Certificates, tls: bool) -> None:
    async def main() -> tuple[list[bytes], int]:
        server, port = listening(server_context(certificates) if tls else None)
        client = tornado.httpclient.AsyncHTTPClient(force_instance=True, max_clients=20)
        url = f"{'https' if tls else 'http'}://localhost:{port}"
        options = {"ssl_options": client_context(certificates)} if tls else {}
        fetches = (client.fetch(f"{url}/hello/{number}", **options) for number in range(100))
        bodies = [response.body for response in await asyncio.gather(*fetches)]
        download = await client.fetch(f"{url}/download", **options)
        client.close()
        server.stop()
        await server.close_all_connections()
        return bodies, len(download.body)

    assert runner(main) == ([b"hello, %d" % number for number in range(100)], 50 * 65_537)


def test_time_outs_errors_and_disconnects(runner: LoopRunner) -> None:
    async def main() -> list[Any]:
        Never.gone = asyncio.Event()
        server, port = listening()
        client = tornado.httpclient.AsyncHTTPClient(force_instance=True)
        url = f"http://127.0.0.1:{port}"
        events: list[Any] = []
        for path, timeout in (("/never", 0.05), ("/missing", 30)):
            with pytest.raises(tornado.httpclient.HTTPError) as raised:
                await client.fetch(f"{url}{path}", request_timeout=timeout)
            events.append(raised.value.code)
        await Never.gone.wait()
        server.stop()
        await server.close_all_connections()
        with pytest.raises(ConnectionRefusedError) as refused:
            await client.fetch(f"{url}/hello/you")
        events.append(type(refused.value).__name__)
        client.close()
        return events

    assert runner(main) == [599, 404, "ConnectionRefusedError"]


def test_web_sockets(runner: LoopRunner) -> None:
    async def main() -> list[list[Any]]:
        server, port = listening()

        async def talk(number: int) -> list[Any]:
            socket = await tornado.websocket.websocket_connect(f"ws://127.0.0.1:{port}/shout")
            answers = []
            for word in ("one", f"number {number}"):
                await socket.write_message(word)
                answers.append(await socket.read_message())
            socket.close(1000, "enough")
            answers.append(await socket.read_message())
            return answers

        answers = await asyncio.gather(*(talk(number) for number in range(20)))
        server.stop()
        await server.close_all_connections()
        return answers

    assert runner(main) == [["ONE", f"NUMBER {number}", None] for number in range(20)]


def test_the_interface_of_tornados_loop(runner: LoopRunner) -> None:
    async def main() -> list[Any]:
        loop = tornado.ioloop.IOLoop.current()
        events: list[Any] = [loop.asyncio_loop is asyncio.get_running_loop()]
        enough = asyncio.Event()
        ticks: list[int] = []

        async def tick() -> None:
            ticks.append(len(ticks))
            if len(ticks) == 3:
                enough.set()

        periodic = tornado.ioloop.PeriodicCallback(tick, 1)
        periodic.start()
        await enough.wait()
        periodic.stop()
        events.append(periodic.is_running())
        called: asyncio.Queue[str] = asyncio.Queue()
        loop.add_callback(called.put_nowait, "callback")
        events.append(await called.get())
        handle = loop.call_later(600, called.put_nowait, "never")
        loop.remove_timeout(handle)
        loop.call_later(0.001, called.put_nowait, "later")
        events.append(await called.get())
        events.append(await loop.run_in_executor(None, pow, 2, 10))
        await asyncio.to_thread(loop.add_callback, called.put_nowait, "from a thread")
        events.append(await called.get())
        return events

    assert runner(main) == [True, False, "callback", "later", 1024, "from a thread"]


def test_streams_of_its_own(runner: LoopRunner) -> None:
    class Echo(tornado.tcpserver.TCPServer):
        async def handle_stream(self, stream: Any, address: tuple[str, int]) -> None:
            try:
                while True:
                    await stream.write(await stream.read_until(b"\n"))
            except tornado.iostream.StreamClosedError:
                pass

    async def main() -> tuple[list[bytes], str]:
        listener, port = tornado.testing.bind_unused_port()
        server = Echo()
        server.add_socket(listener)

        async def talk(number: int) -> bytes:
            stream = await TCPClient().connect("127.0.0.1", port)
            await stream.write(b"%d\n" % number)
            answer: bytes = await stream.read_until(b"\n")
            stream.close()
            return answer

        answers = await asyncio.gather(*(talk(number) for number in range(20)))
        server.stop()
        with pytest.raises(tornado.iostream.StreamClosedError) as raised:
            await TCPClient().connect("127.0.0.1", port)
        return answers, type(raised.value.real_error).__name__

    expected = [b"%d\n" % number for number in range(20)]
    assert runner(main) == (expected, "ConnectionRefusedError")

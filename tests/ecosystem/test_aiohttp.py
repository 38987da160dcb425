"""aiohttp's server and client, talking to each other."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import python_program
from tests.support.certificates import Certificates, client_context, server_context

Handler = Callable[[Any], Awaitable[Any]]


@asynccontextmanager
async def serving(
    *routes: tuple[str, str, Handler],
    context: ssl.SSLContext | None = None,
    on_shutdown: Callable[[Any], Awaitable[None]] | None = None,
    path: str | None = None,
    **options: Any,
) -> AsyncIterator[str]:
    """Serve on a free port, or on the Unix socket ``path``; yield the URL."""
    app = web.Application(client_max_size=64 << 20)
    for method, route, handler in routes:
        app.router.add_route(method, route, handler)
    if on_shutdown is not None:
        app.on_shutdown.append(on_shutdown)
    app_runner = web.AppRunner(app, **options)
    await app_runner.setup()
    if path is not None:
        site = web.UnixSite(app_runner, path)
    else:
        site = web.TCPSite(app_runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        if path is not None:
            yield "http://localhost"
        else:
            port = app_runner.addresses[0][1]
            yield f"{'https' if context else 'http'}://localhost:{port}"
    finally:
        await app_runner.cleanup()


async def hello(request: Any) -> Any:
    return web.Response(text=f"hello, {request.match_info['name']}")


def test_five_hundred_requests_at_once(runner: LoopRunner) -> None:
    async def main() -> list[str]:
        async with serving(("GET", "/{name}", hello)) as url, aiohttp.ClientSession() as session:

            async def fetch(number: int) -> str:
                async with session.get(f"{url}/{number}") as response:
                    assert response.status == 200
                    text: str = await response.text()
                    return text

            return await asyncio.gather(*(fetch(number) for number in range(500)))

    assert runner(main) == [f"hello, {number}" for number in range(500)]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_chunked_upload_and_a_chunked_download(
    runner: LoopRunner, certificates: Certificates, tls: bool
) -> None:
    blocks = [bytes([number]) * 65_537 for number in range(100)]

    async def store(request: Any) -> Any:
        digest = hashlib.sha256()
        size = 0
        async for chunk in request.content.iter_chunked(10_000):
            digest.update(chunk)
            size += len(chunk)
        chunked = request.headers.get("Transfer-Encoding") == "chunked"
        return web.json_response({"size": size, "sum": digest.hexdigest(), "chunked": chunked})

    async def give(request: Any) -> Any:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for block in blocks:
            await response.write(block)
        await response.write_eof()
        return response

    async def generate() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    async def main() -> tuple[dict[str, Any], bool]:
        context = server_context(certificates) if tls else None
        routes = ("POST", "/store", store), ("GET", "/give", give)
        connector = aiohttp.TCPConnector(ssl=client_context(certificates))
        async with (
            serving(*routes, context=context) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            async with session.post(f"{url}/store", data=generate()) as response:
                stored = await response.json()
            async with session.get(f"{url}/give") as response:
                received = [chunk async for chunk in response.content.iter_any()]
            return stored, b"".join(received) == b"".join(blocks)

    whole = b"".join(blocks)
    expected = {"size": len(whole), "sum": hashlib.sha256(whole).hexdigest(), "chunked": True}
    assert runner(main) == (expected, True)


def test_a_form_with_a_file(runner: LoopRunner, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "upload").write_bytes(content)

    async def take(request: Any) -> Any:
        form = await request.post()
        same = form["file"].file.read() == content
        return web.json_response([form["name"], form["file"].filename, same])

    async def main() -> list[Any]:
        async with serving(("POST", "/", take)) as url, aiohttp.ClientSession() as session:
            form = aiohttp.FormData({"name": "value"})
            with (tmp_path / "upload").open("rb") as file:
                form.add_field("file", file, filename="upload")
                async with session.post(url, data=form) as response:
                    answer: list[Any] = await response.json()
                    return answer

    assert runner(main) == ["value", "upload", True]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_file_is_sent(
    runner: LoopRunner, tmp_path: Path, certificates: Certificates, tls: bool
) -> None:
    """Without TLS, aiohttp uses the loop's sendfile."""
    content = bytes(range(251)) * 20_000
    (tmp_path / "file").write_bytes(content)

    async def give(_: Any) -> Any:
        return web.FileResponse(tmp_path / "file")

    async def main() -> tuple[bool, int, bool]:
        context = server_context(certificates) if tls else None
        connector = aiohttp.TCPConnector(ssl=client_context(certificates))
        async with (
            serving(("GET", "/", give), context=context) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            async with session.get(url) as response:
                whole = await response.read()
            async with session.get(url, headers={"Range": "bytes=1000-400000"}) as response:
                part = await response.read()
                return whole == content, response.status, part == content[1000:400001]

    assert runner(main) == (True, 206, True)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_web_sockets(runner: LoopRunner, certificates: Certificates, tls: bool) -> None:
    async def echo(request: Any) -> Any:
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                if message.data == "close":
                    await socket.close(code=4000, message=b"as you wish")
                else:
                    await socket.send_str(message.data.upper())
            else:
                await socket.send_bytes(message.data[::-1])
        return socket

    async def talk(session: Any, url: str, number: int) -> tuple[list[str], bytes, int]:
        async with session.ws_connect(url) as socket:
            answers = []
            for word in ("one", "two", f"number {number}"):
                await socket.send_str(word)
                answers.append(await socket.receive_str())
            await socket.send_bytes(b"abc" * 100_000)
            reverse = await socket.receive_bytes()
            await socket.ping()
            await socket.send_str("close")
            closed = await socket.receive()
            assert closed.type == aiohttp.WSMsgType.CLOSE
            return answers, reverse[:6], closed.data

    async def main() -> list[Any]:
        context = server_context(certificates) if tls else None
        connector = aiohttp.TCPConnector(ssl=client_context(certificates))
        async with (
            serving(("GET", "/", echo), context=context) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            return await asyncio.gather(*(talk(session, url, number) for number in range(20)))

    assert runner(main) == [
        (["ONE", "TWO", f"NUMBER {number}"], b"cbacba", 4000) for number in range(20)
    ]


def test_a_client_that_goes_away_cancels_its_handler(runner: LoopRunner) -> None:
    async def main() -> list[str]:
        events: list[str] = []
        started, ended = asyncio.Event(), asyncio.Event()

        async def wait(_: Any) -> Any:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise
            finally:
                ended.set()

        async with serving(("GET", "/", wait), handler_cancellation=True) as url:
            async with aiohttp.ClientSession() as session:
                request = asyncio.create_task(session.get(url))
                await started.wait()
                request.cancel()
                ended_with = await asyncio.gather(request, return_exceptions=True)
                events.append(type(ended_with[0]).__name__)
            await ended.wait()
        return events

    assert runner(main) == ["CancelledError", "cancelled"]


def test_a_client_that_goes_away_in_the_middle_of_a_download(runner: LoopRunner) -> None:
    async def main() -> bool:
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        async def pour(request: Any) -> Any:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(bytes(100_000))
            except ConnectionError as error:
                failed.set_result(error)
                raise

        async with serving(("GET", "/", pour)) as url:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                assert len(await response.content.readexactly(1_000_000)) == 1_000_000
                response.close()
            return isinstance(await failed, ConnectionError)

    assert runner(main)


def test_time_outs_of_the_client(runner: LoopRunner) -> None:
    async def main() -> list[str]:
        release = asyncio.Event()

        async def wait(_: Any) -> Any:
            await release.wait()
            return web.Response()

        async def trickle(request: Any) -> Any:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"some")
            await release.wait()
            return response

        names = []
        routes = ("GET", "/wait", wait), ("GET", "/trickle", trickle)
        async with serving(*routes) as url, aiohttp.ClientSession() as session:
            for timeout in (
                aiohttp.ClientTimeout(total=0.05),
                aiohttp.ClientTimeout(total=None, sock_read=0.05),
            ):
                for path in ("wait", "trickle"):
                    with pytest.raises(TimeoutError) as raised:
                        async with session.get(f"{url}/{path}", timeout=timeout) as response:
                            await response.read()
                    names.append(type(raised.value).__name__)
            with pytest.raises(TimeoutError) as raised_by_asyncio:
                async with asyncio.timeout(0.05):
                    await session.get(f"{url}/wait")
            names.append(type(raised_by_asyncio.value).__name__)
            release.set()
        return names

    assert runner(main) == [
        "TimeoutError",
        "TimeoutError",
        "SocketTimeoutError",
        "SocketTimeoutError",
        "TimeoutError",
    ]


def test_a_graceful_shutdown_finishes_begun_requests(runner: LoopRunner) -> None:
    async def main() -> tuple[str, int, str]:
        started, release = asyncio.Event(), asyncio.Event()
        sockets: list[Any] = []

        async def work(_: Any) -> Any:
            started.set()
            await release.wait()
            return web.Response(text="finished")

        async def listen(request: Any) -> Any:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            sockets.append(socket)
            async for _ in socket:
                pass
            return socket

        async def say_goodbye(_: Any) -> None:
            release.set()
            for each in sockets:
                await each.close(code=aiohttp.WSCloseCode.GOING_AWAY)

        routes = ("GET", "/work", work), ("GET", "/listen", listen)
        async with aiohttp.ClientSession() as session:
            async with serving(*routes, on_shutdown=say_goodbye) as url:
                request = asyncio.create_task(session.get(f"{url}/work"))
                web_socket = await session.ws_connect(f"{url}/listen")
                closed = asyncio.create_task(web_socket.receive())
                await started.wait()
            async with await request as response:
                text = await response.text()
            code = (await closed).data
            with pytest.raises(aiohttp.ClientConnectorError) as raised:
                await session.get(f"{url}/work")
            return text, code, type(raised.value).__name__

    assert runner(main) == ("finished", 1001, "ClientConnectorError")


def test_a_unix_socket(runner: LoopRunner, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")

    async def main() -> str:
        async with (
            serving(("GET", "/{name}", hello), path=path) as url,
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path)) as session,
            session.get(f"{url}/unix") as response,
        ):
            text: str = await response.text()
            return text

    assert runner(main) == "hello, unix"


def test_an_untrusted_certificate(runner: LoopRunner, certificates: Certificates) -> None:
    async def main() -> str:
        context = server_context(certificates, certificates.stranger)
        connector = aiohttp.TCPConnector(ssl=client_context(certificates))
        async with (
            serving(("GET", "/{name}", hello), context=context) as url,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as raised:
                await session.get(f"{url}/name")
            return type(raised.value).__name__

    assert runner(main) == "ClientConnectorCertificateError"


def test_garbage_gets_a_400(runner: LoopRunner) -> None:
    async def main() -> bytes:
        async with serving(("GET", "/{name}", hello)) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", url.rpartition(":")[2])
            writer.write(b"this is no HTTP\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer.partition(b"\r\n")[0]

    assert runner(main) == b"HTTP/1.0 400 Bad Request"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_app_ends_in_good_order_on_a_signal(
    runner: LoopRunner, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "http.sock"
    program = ("-m", "tests.ecosystem.programs.aiohttp_app", runner.name, path)
    with python_program(*program, log=tmp_path / "log") as running:
        running.wait_until(lambda: "ready" in running.output())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            running.wait_until(lambda: "working" in running.output())
            running.process.send_signal(number)
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        status = running.wait()
        printed = [line for line in running.output().splitlines() if line]
    assert answer.endswith(b"finished")
    assert (status, printed) == (0, [f"loop {runner.name}", "ready", "working", "clean"])

"""uvicorn: serving Starlette and FastAPI in a process of its own, over real HTTP.

The client is httpx, which runs on the same kind of loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.uvicorns import Uvicorn, running_uvicorn
from tests.support.segments import segments

BLOCKS = [bytes([number]) * 65_537 for number in range(100)]
SUM = hashlib.sha256(b"".join(BLOCKS)).hexdigest()


@pytest.fixture(params=["h11", "httptools"])
def implementation(request: pytest.FixtureRequest) -> str:
    """Return the name of the HTTP parser."""
    name: str = request.param
    return name


@pytest.fixture(params=["starlette_app", "fastapi_app"])
def server(
    request: pytest.FixtureRequest, runner: LoopRunner, tmp_path: Path, implementation: str
) -> Iterator[Uvicorn]:
    """Start a server for each combination; check that SIGTERM ends it properly."""
    options = ("--http", implementation, "--log-level", "info")
    with running_uvicorn(runner, tmp_path, request.param, *options) as running:
        yield running
        status = running.program.stop()
    assert status in (0, -signal.SIGTERM)
    assert "ended in good order" in running.program.output()


def test_ordinary_requests_under_load(runner: LoopRunner, server: Uvicorn) -> None:
    async def main() -> tuple[list[str], list[str], str, str]:
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:

            async def text(path: str) -> str:
                body: str = (await client.get(path)).raise_for_status().text
                return body

            greetings = await asyncio.gather(*(text(f"/hello/{number}") for number in range(200)))
            squares = await asyncio.gather(*(text(f"/thread/{number}") for number in range(20)))

            async def generate() -> AsyncIterator[bytes]:
                for block in BLOCKS:
                    yield block

            uploaded = (await client.post("/digest", content=generate())).json()["sum"]
            downloaded = hashlib.sha256()
            async with client.stream("GET", "/download") as response:
                async for chunk in response.aiter_bytes():
                    downloaded.update(chunk)
            return greetings, squares, uploaded, downloaded.hexdigest()

    assert runner(main) == (
        [f"hello, {number}" for number in range(200)],
        [str(number * number) for number in range(20)],
        SUM,
        SUM,
    )


def test_failures_disconnects_and_later_requests(runner: LoopRunner, server: Uvicorn) -> None:
    async def main() -> tuple[int, int, str]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            # uvicorn closes the connection after this answer, without announcing it in the answer.
            failed = (await client.get("/fail")).status_code
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            missing = (await client.get("/nowhere")).status_code
            async with client.stream("GET", "/endless") as response:
                async for _ in response.aiter_bytes():
                    break
            return failed, missing, (await client.get("/afterwards")).text

    assert runner(main) == (500, 404, "soon")
    server.wait_for("nobody listens")
    server.wait_for("done afterwards")
    assert "LookupError: the application's own" in server.program.output()


def test_web_sockets(runner: LoopRunner, server: Uvicorn) -> None:
    async def main() -> list[list[str]]:
        async def talk(number: int) -> list[str]:
            async with websockets.connect(server.url.replace("http", "ws") + "/echo") as socket:
                answers = []
                for word in ("one", "two", f"number {number}"):
                    await socket.send(word)
                    answers.append(await socket.recv())
                return answers

        return await asyncio.gather(*(talk(number) for number in range(20)))

    assert runner(main) == [["ONE", "TWO", f"NUMBER {number}"] for number in range(20)]
    server.wait_for("disconnected 1000")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_finish(
    runner: LoopRunner, tmp_path: Path, implementation: str, number: signal.Signals
) -> None:
    options = ("--http", implementation)
    with running_uvicorn(runner, tmp_path, "starlette_app", *options) as server:

        async def main() -> tuple[str, str]:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                request = asyncio.create_task(client.get("/slow"))
                await asyncio.to_thread(server.wait_for, "working")
                server.program.process.send_signal(number)
                response = await request
                await asyncio.to_thread(server.program.wait)
                with pytest.raises(httpx.ConnectError) as raised:
                    await client.get("/slow")
                return response.text, type(raised.value).__name__

        assert runner(main) == ("finished", "ConnectError")
        status = server.program.wait()
        output = server.program.output()
    # uvicorn raises the received signal again once everything is done.
    assert status in (0, -number)
    assert "ended in good order" in output
    assert "Traceback" not in output.partition("ended in good order")[0]


def test_a_limit_on_the_shutdown(runner: LoopRunner, tmp_path: Path, implementation: str) -> None:
    options = ("--http", implementation, "--timeout-graceful-shutdown", "1")
    with running_uvicorn(runner, tmp_path, "starlette_app", *options) as server:

        async def main() -> str:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                request = asyncio.create_task(client.get("/never"))
                await client.get("/hello/you")
                server.program.process.send_signal(signal.SIGTERM)
                ended: Any = (await asyncio.gather(request, return_exceptions=True))[0]
                return getattr(ended, "reason_phrase", type(ended).__name__)

        assert runner(main) in ("RemoteProtocolError", "ReadError", "Internal Server Error")
        server.program.wait()
        assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in (
            server.program.output()
        )


def test_several_workers_on_one_port(runner: LoopRunner, tmp_path: Path) -> None:
    """With uvicorn's own supervisor, the workers share a socket, and end with the supervisor."""
    with running_uvicorn(runner, tmp_path, "starlette_app", workers=2) as server:

        async def main() -> list[str]:
            limits = httpx.Limits(max_keepalive_connections=0)
            async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
                requests = (client.get(f"/hello/{number}") for number in range(50))
                return [response.text for response in await asyncio.gather(*requests)]

        assert runner(main) == [f"hello, {number}" for number in range(50)]
        server.program.stop()
        assert server.program.output().count("ended in good order") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="it counts segments as Linux does")
def test_the_head_and_the_body_of_a_response_are_sent_together(
    runner: LoopRunner, server: Uvicorn
) -> None:
    """Uvicorn writes them one after the other; asyncio sends each at once."""
    request = b"GET /hello/7 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        sent = []
        for _ in range(5):
            before = segments(client)
            client.sendall(request)
            received = b""
            while not received.endswith(b"hello, 7"):
                part = client.recv(10_000)
                assert part
                received += part
            sent.append(segments(client) - before)
    # On a busy machine the system may send a segment again, which counts too: hence the median.
    assert statistics.median_low(sent[1:]) == (1 if runner.name == "runtime" else 2)

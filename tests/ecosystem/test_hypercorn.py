"""hypercorn: serving Starlette in the same loop, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.ecosystem.programs.web import starlette_app
from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import python_program
from tests.support.certificates import Certificates, client_context


@asynccontextmanager
async def serving(certificates: Certificates) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Serve over TLS; yield the address, and a function that shuts the server down."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.certfile = config.keyfile = str(certificates.server)
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = 30
    config.loglevel = "WARNING"
    port = listener.getsockname()[1]
    listener.detach()
    stop = asyncio.Event()
    server = asyncio.create_task(serve(starlette_app, config, shutdown_trigger=stop.wait))
    try:
        yield f"https://localhost:{port}", stop
    finally:
        stop.set()
        await server


@pytest.mark.parametrize("http2", [False, True], ids=["h11", "h2"])
def test_requests(runner: LoopRunner, certificates: Certificates, http2: bool) -> None:
    blocks = [bytes([number]) * 65_537 for number in range(20)]

    async def main() -> tuple[list[str], set[str], str, int]:
        context = client_context(certificates, alpn=["h2"] if http2 else ["http/1.1"])
        async with (
            serving(certificates) as (url, _),
            httpx.AsyncClient(
                base_url=url, verify=context, http1=not http2, http2=http2, timeout=60
            ) as client,
        ):
            requests = (client.get(f"/hello/{number}") for number in range(50))
            responses = await asyncio.gather(*requests)

            async def generate() -> AsyncIterator[bytes]:
                for block in blocks:
                    yield block

            digest = (await client.post("/digest", content=generate())).json()["sum"]
            downloaded = await client.get("/download")
            versions = {response.http_version for response in responses}
            return [each.text for each in responses], versions, digest, len(downloaded.content)

    assert runner(main) == (
        [f"hello, {number}" for number in range(50)],
        {"HTTP/2" if http2 else "HTTP/1.1"},
        hashlib.sha256(b"".join(blocks)).hexdigest(),
        100 * 65_537,
    )


@pytest.mark.parametrize("http2", [False, True], ids=["h11", "h2"])
def test_a_shutdown_lets_requests_finish(
    runner: LoopRunner, certificates: Certificates, http2: bool
) -> None:
    async def main() -> tuple[str, str]:
        context = client_context(certificates)
        options: dict[str, Any] = {"http1": not http2, "http2": http2, "timeout": 60}
        async with (
            serving(certificates) as (url, stop),
            httpx.AsyncClient(base_url=url, verify=context, **options) as client,
        ):
            await client.get("/hello/you")
            request = asyncio.create_task(client.get("/slow"))
            await asyncio.sleep(0.1)
            stop.set()
            text = (await request).text
        async with httpx.AsyncClient(base_url=url, verify=context, **options) as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get("/hello/you")
        return text, type(raised.value).__name__

    assert runner(main) == ("finished", "ConnectError")


def test_a_signal_ends_it(runner: LoopRunner, tmp_path: Path) -> None:
    program = ("-m", "tests.ecosystem.programs.hypercorn_server", runner.name)
    with python_program(*program, log=tmp_path / "log") as running:
        running.wait_until(lambda: "Running on" in running.output())
        status = running.stop(signal.SIGTERM)
        output = running.output()
    assert (status, "ended in good order" in output) == (0, True)
    assert f"loop {runner.name}" in output

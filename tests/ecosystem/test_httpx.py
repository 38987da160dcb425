"""httpx: its client over TLS, against uvicorn on the same kind of loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.uvicorns import Uvicorn, running_uvicorn
from tests.support.certificates import Certificates, client_context


@pytest.fixture
def server(runner: LoopRunner, tmp_path: Path, certificates: Certificates) -> Iterator[Uvicorn]:
    """Start a TLS server."""
    keys = ("--ssl-keyfile", certificates.server, "--ssl-certfile", certificates.server)
    # Some requests are never answered, and without this limit uvicorn would wait for them.
    limit = ("--timeout-graceful-shutdown", "1")
    with running_uvicorn(runner, tmp_path, "starlette_app", *keys, *limit) as running:
        yield running


def test_requests_over_tls(runner: LoopRunner, server: Uvicorn, certificates: Certificates) -> None:
    async def main() -> tuple[list[str], int]:
        async with httpx.AsyncClient(
            base_url=server.url, verify=client_context(certificates), timeout=60
        ) as client:
            requests = (client.get(f"/hello/{number}") for number in range(60))
            texts = [response.text for response in await asyncio.gather(*requests)]
            size = 0
            async with client.stream("GET", "/download") as response:
                async for chunk in response.aiter_raw():
                    size += len(chunk)
            return texts, size

    assert server.scheme == "https"
    assert runner(main) == ([f"hello, {number}" for number in range(60)], 100 * 65_537)


def test_an_authority_that_is_not_trusted(runner: LoopRunner, server: Uvicorn) -> None:
    async def main() -> bool:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get("/hello/you")
            return "CERTIFICATE_VERIFY_FAILED" in str(raised.value)

    assert runner(main)


def test_time_outs_and_cancellation(
    runner: LoopRunner, server: Uvicorn, certificates: Certificates
) -> None:
    async def main() -> list[str]:
        events: list[str] = []
        limits = httpx.Limits(max_connections=2)
        async with httpx.AsyncClient(
            base_url=server.url, verify=client_context(certificates), limits=limits, timeout=60
        ) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/never", timeout=httpx.Timeout(60, read=0.05))
            events.append("read")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("/never")
            events.append("asyncio")
            waiting = [asyncio.create_task(client.get("/never")) for _ in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(httpx.PoolTimeout):
                await client.get("/hello/you", timeout=httpx.Timeout(60, pool=0.05))
            events.append("pool")
            for task in waiting:
                task.cancel()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            events += [type(each).__name__ for each in ended]
            # Both places in the pool are free again.
            both = await asyncio.gather(client.get("/hello/a"), client.get("/hello/b"))
            return events + [response.text for response in both]

    assert runner(main) == [
        "read",
        "asyncio",
        "pool",
        "CancelledError",
        "CancelledError",
        "hello, a",
        "hello, b",
    ]


def test_no_server(runner: LoopRunner) -> None:
    async def main() -> str:
        async with httpx.AsyncClient(timeout=60) as client:
            with pytest.raises(httpx.ConnectError) as raised:
                await client.get("http://127.0.0.1:1/")
            return type(raised.value).__name__

    assert runner(main) == "ConnectError"

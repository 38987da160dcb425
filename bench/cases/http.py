"""Widely used HTTP servers, on the loop of a contender.

Each server answers GET with "hello " and the path. A server that is not installed is reported as
lacking.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from bench.apis import Api
from bench.cases.serving import BACKLOG, LOOPBACK, Address

Say = Callable[[dict[str, Any]], Awaitable[None]]


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NotImplementedError(f"{name} is not installed") from None


@contextlib.contextmanager
def _listening() -> Iterator[tuple[socket.socket, int]]:
    """Yield a listening socket and its port: a loop that takes the socket over hides the port.

    The protocol is given explicitly because asyncio sets TCP_NODELAY only on sockets that name it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.bind((LOOPBACK, 0))
        sock.listen(BACKLOG)
        yield sock, sock.getsockname()[1]


@contextlib.asynccontextmanager
async def aiohttp(api: Api, size: int) -> AsyncIterator[Address]:
    """Serve with aiohttp."""
    web = _installed("aiohttp.web")

    async def hello(request: Any) -> Any:
        return web.Response(text=f"hello {request.path}")

    application = web.Application()
    application.router.add_get("/{name}", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    with _listening() as (listening, port):
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
        try:
            yield port
        finally:
            await runner.cleanup()


async def _application(scope: dict[str, Any], receive: object, send: Say) -> None:
    body = f"hello {scope['path']}".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _uvicorn(http: str) -> AsyncIterator[Address]:
    uvicorn = _installed("uvicorn")
    _installed(http)
    options = {"loop": "none", "lifespan": "off", "log_level": "critical", "access_log": False}
    server = uvicorn.Server(uvicorn.Config(_application, http=http, backlog=BACKLOG, **options))
    with _listening() as (listening, port):
        serving = asyncio.ensure_future(server.serve([listening]))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            await serving


def uvicorn_h11(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Serve with uvicorn, which parses with h11, in Python."""
    return _uvicorn("h11")


def uvicorn_httptools(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Serve with uvicorn, which parses with httptools, in C."""
    return _uvicorn("httptools")

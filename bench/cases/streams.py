"""Echo servers on streams, plain and with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.apis import Api
from bench.cases.serving import BACKLOG, CHUNK, LOOPBACK, Address

CERTIFICATE = Path(__file__).parent / "certificate.pem"
"""Certificate and key of these cases, valid until 2120. The clients do not verify the issuer."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo bytes as they arrive."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo line by line."""
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


def _echo(size: int) -> Handler:
    """Return a handler that echoes small messages as they arrive and large ones once complete.

    Messages of up to CHUNK bytes are small.
    """

    async def echo_messages(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            # The clients disconnect in the middle of a message, and TLS clients send no
            # close_notify.
            writer.close()

    return echo_chunks if size <= CHUNK else echo_messages


@contextlib.asynccontextmanager
async def _serving(api: Api, handler: Handler, size: int, **options: Any) -> AsyncIterator[Address]:
    limit = max(size, CHUNK)
    listening = await api.start_server(
        handler, LOOPBACK, 0, limit=limit, backlog=BACKLOG, **options
    )
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def unix(api: Api, size: int) -> AsyncIterator[Address]:
    """Echo messages that arrive over a Unix socket."""
    limit = max(size, CHUNK)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo"
        listening = await api.start_unix_server(_echo(size), path, limit=limit, backlog=BACKLOG)
        try:
            yield path
        finally:
            listening.close()


@contextlib.asynccontextmanager
async def watched(api: Api, size: int) -> AsyncIterator[Address]:
    """Echo messages while the loop watches for slow callbacks.

    Raises AttributeError if the loop cannot watch for slow callbacks.
    """
    loop: Any = api.get_running_loop()
    loop.watch_slow_callbacks()
    async with streams(api, size) as address:
        yield address


def streams(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo messages."""
    return _serving(api, _echo(size), size)


def lines(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo lines."""
    return _serving(api, echo_lines, size)


def tls(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo messages over TLS. Raises NotImplementedError if the API has no TLS."""
    parameters = inspect.signature(api.start_server).parameters.values()
    if not any(one.name == "ssl" or one.kind is one.VAR_KEYWORD for one in parameters):
        raise NotImplementedError("start_server() takes no ssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return _serving(api, _echo(size), size, ssl=context)

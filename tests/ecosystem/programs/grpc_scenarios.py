"""Scenarios of grpc.aio: ``grpc_scenarios LOOP SCENARIO``; prints the outcome.

There is no compiled schema: messages are strings, and methods are found by their names.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.ecosystem.runners import LoopRunner
from tests.support.certificates import make_certificates

METHODS = "tests.Methods"
started: list[str] = []
ended: list[str] = []
"""Outcomes of the handlers that wait for ever."""


def encode(text: str | bytes) -> bytes:
    # In a server, grpcio has already encoded a string.
    return text if isinstance(text, bytes) else text.encode()


def decode(data: bytes) -> str:
    return data.decode()


async def shout(request: str, context: Any) -> str:
    return request.upper()


async def count(request: str, context: Any) -> AsyncIterator[str]:
    for number in range(int(request)):
        yield str(number)


async def add(requests: AsyncIterator[str], context: Any) -> str:
    total = 0
    async for request in requests:
        total += int(request)
    return str(total)


async def emphasise(requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
    async for request in requests:
        yield f"{request}!"


async def wait(request: str, context: Any) -> str:
    started.append(request)
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")
    return request


async def drip(request: str, context: Any) -> AsyncIterator[str]:
    try:
        yield "one"
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")


async def refuse(request: str, context: Any) -> str:
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
    return request


async def slow(request: str, context: Any) -> str:
    await asyncio.sleep(0.2)
    return request.upper()


async def reflect(request: str, context: Any) -> str:
    context.set_trailing_metadata([("after", "trailing")])
    return str(dict(context.invocation_metadata())["key"])


KINDS = {
    "unary_unary": (shout, wait, refuse, slow, reflect),
    "unary_stream": (count, drip),
    "stream_unary": (add,),
    "stream_stream": (emphasise,),
}


@asynccontextmanager
async def serving(credentials: Any = None) -> AsyncIterator[tuple[Any, str]]:
    """Start a server; yield it and its address."""
    handlers = {
        function.__name__: getattr(grpc, f"{kind}_rpc_method_handler")(
            function, request_deserializer=decode, response_serializer=encode
        )
        for kind, functions in KINDS.items()
        for function in functions
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHODS, handlers),))
    if credentials is None:
        port = server.add_insecure_port("localhost:0")
    else:
        port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield server, f"localhost:{port}"
    finally:
        await server.stop(None)


def method(channel: Any, name: str) -> Any:
    """Return a callable for the method ``name``."""
    kind = next(kind for kind, found in KINDS.items() if name in (each.__name__ for each in found))
    path = f"/{METHODS}/{name}"
    return getattr(channel, kind)(path, request_serializer=encode, response_deserializer=decode)


async def code_of(call: Any) -> str:
    """Return the name of the status with which a call fails."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


async def next_of(events: list[str]) -> str:
    """Wait until a handler has appended an event to ``started`` or ``ended``, and return it."""
    while not events:
        await asyncio.sleep(0.01)
    return events.pop()


async def unary() -> list[Any]:
    async with serving() as (_, address), grpc.aio.insecure_channel(address) as channel:
        call = method(channel, "shout")
        few = await asyncio.gather(*(call(f"hello {number}") for number in range(3)))
        many = await asyncio.gather(*(call(str(number)) for number in range(200)))
        return [few, len(many)]


async def streams() -> list[Any]:
    async def numbers(end: int) -> AsyncIterator[str]:
        for number in range(end):
            yield str(number)

    async with serving() as (_, address), grpc.aio.insecure_channel(address) as channel:
        counted = [int(each) async for each in method(channel, "count")("5")]
        total = await method(channel, "add")(numbers(100))
        call = method(channel, "emphasise")()
        answers = []
        for number in range(3):
            await call.write(str(number))
            answers.append(await call.read())
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        return [counted, total, answers]


async def deadline() -> list[Any]:
    async with serving() as (_, address), grpc.aio.insecure_channel(address) as channel:
        code = await code_of(method(channel, "wait")("never", timeout=1))
        return [code, await next_of(ended), await method(channel, "shout")("hello")]


async def cancellation() -> list[Any]:
    async with serving() as (_, address), grpc.aio.insecure_channel(address) as channel:
        outcome: list[Any] = []
        stream = method(channel, "drip")("never")
        assert await stream.read() == "one"
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        reading.cancel()
        result = await asyncio.gather(reading, return_exceptions=True)
        outcome += [type(result[0]).__name__, await next_of(ended)]
        call = method(channel, "wait")("never")
        try:
            async with asyncio.timeout(60) as patience:
                await next_of(started)
                patience.reschedule(asyncio.get_running_loop().time())
                await call
        except TimeoutError as error:
            outcome.append(type(error.__cause__).__name__)
        outcome += [await next_of(ended), await method(channel, "shout")("hello")]
        return outcome


async def errors() -> list[Any]:
    refused: list[Any] = []
    async with serving() as (_, address), grpc.aio.insecure_channel(address) as channel:
        try:
            await method(channel, "refuse")("anything")
        except grpc.aio.AioRpcError as error:
            refused = [error.code().name, error.details()]
        missing = channel.unary_unary(f"/{METHODS}/missing")
        unimplemented = await code_of(missing(b""))
    async with grpc.aio.insecure_channel("localhost:1") as channel:
        return [*refused, unimplemented, await code_of(method(channel, "shout")("hello"))]


async def shutdown() -> list[Any]:
    async with serving() as (server, address), grpc.aio.insecure_channel(address) as channel:
        call = asyncio.ensure_future(method(channel, "slow")("hello"))
        await channel.channel_ready()
        await asyncio.sleep(0.05)
        await server.stop(30)
        return [await call, await code_of(method(channel, "shout")("hello"))]


async def abrupt_shutdown() -> list[Any]:
    async with serving() as (server, address), grpc.aio.insecure_channel(address) as channel:
        stream = method(channel, "drip")("never")
        assert await stream.read() == "one"
        await server.stop(None)
        return [await code_of(stream.read()), await next_of(ended)]


async def tls() -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_certificates(Path(folder))
        pem = certificates.server.read_bytes()
        authority = certificates.authority.read_bytes()
    async with serving(grpc.ssl_server_credentials([(pem, pem)])) as (_, address):
        trusting = grpc.ssl_channel_credentials(authority)
        async with grpc.aio.secure_channel(address, trusting) as channel:
            greeting = await method(channel, "shout")("hello")
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials()) as channel:
            return [greeting, await code_of(method(channel, "shout")("hello"))]


async def metadata() -> list[Any]:
    async with serving() as (_, address), grpc.aio.insecure_channel(address) as channel:
        call = method(channel, "reflect")("", metadata=(("key", "value"),))
        return [[await call, dict(await call.trailing_metadata())["after"]]]


SCENARIOS: dict[str, Callable[[], Awaitable[list[Any]]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        unary,
        streams,
        deadline,
        cancellation,
        errors,
        shutdown,
        abrupt_shutdown,
        tls,
        metadata,
    )
}


def main() -> None:
    name, scenario = sys.argv[1:]

    async def run() -> list[Any]:
        return await SCENARIOS[scenario]()

    print(*LoopRunner(name)(run))


if __name__ == "__main__":
    main()

"""The result of each stream method when the network fails during the call."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.net.tools import echo, serving, until
from tests.support.faults import (
    FAULTLESS,
    Delay,
    HalfClose,
    Plan,
    Reset,
    SlowReader,
    Split,
    Stall,
    Truncate,
)
from tests.support.proxy import FaultProxy, Outcome

Streams = tuple[runtime.StreamReader, runtime.StreamWriter]
MESSAGE = b"first\nsecond"
CALLS: dict[str, Callable[[runtime.StreamReader], Awaitable[Any]]] = {
    "read to the end": lambda reader: reader.read(),
    "readexactly": lambda reader: reader.readexactly(100),
    "readuntil": lambda reader: reader.readuntil(b"missing"),
    "readline": lambda reader: reader.readline(),
}


async def say(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Send the message once asked, then wait for the client's end."""
    try:
        await reader.readexactly(1)
        writer.write(MESSAGE)
        await reader.read()
    except (ConnectionError, runtime.IncompleteReadError):
        pass
    writer.close()


@contextlib.asynccontextmanager
async def through(plan: Plan, handler: Any = say) -> AsyncIterator[tuple[FaultProxy, Streams]]:
    """Yield a proxy, and streams through it to a server."""
    async with serving(handler) as address:
        with FaultProxy(address, plan) as proxy:
            reader, writer = await runtime.open_connection(*proxy.address)
            try:
                yield proxy, (reader, writer)
            finally:
                writer.abort()
                proxy.resume()
                await runtime.to_thread(proxy.wait_until, lambda: not proxy.connections[0].lanes)


@pytest.mark.parametrize("call", CALLS)
async def test_a_reset_is_raised_and_earlier_bytes_stay(call: str) -> None:
    async with through(Plan(to_client=(Reset(len(MESSAGE)),))) as (_, (reader, writer)):
        writer.write(b"?")
        if call == "readline":
            assert await reader.readline() == b"first\n"
        left = b"second" if call == "readline" else MESSAGE
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await CALLS[call](reader)
        assert await reader.read(100) == left
        with pytest.raises(ConnectionResetError):
            await reader.read(100)
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


@pytest.mark.parametrize("fault", [Truncate, HalfClose])
@pytest.mark.parametrize("call", CALLS)
async def test_an_early_end_is_distinguished_from_a_complete_message(
    call: str, fault: type[Truncate] | type[HalfClose]
) -> None:
    size = len(MESSAGE) - 3
    async with through(Plan(to_client=(fault(size),))) as (_, (reader, writer)):
        writer.write(b"?")
        if call == "read to the end":
            assert await reader.read() == MESSAGE[:size]
        elif call == "readline":
            assert await reader.readline() == b"first\n"
            assert await reader.readline() == b"sec"
        else:
            with pytest.raises(runtime.IncompleteReadError) as caught:
                await CALLS[call](reader)
            assert caught.value.partial == MESSAGE[:size]
        assert reader.at_eof()
        assert await reader.read(1) == b""
        writer.write(b"writing goes on")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def give_up(call: Awaitable[Any]) -> None:
    await call


@pytest.mark.parametrize("call", CALLS)
async def test_a_read_cancelled_during_a_stall_loses_nothing(call: str) -> None:
    size = len(MESSAGE) - 3
    async with through(Plan(to_client=(Stall(size),))) as (proxy, (reader, writer)):
        writer.write(b"?")
        first = await reader.readline() if call == "readline" else b""
        await until(lambda: proxy.stalled)
        waiting = runtime.create_task(give_up(CALLS[call](reader)))
        await runtime.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(runtime.CancelledError):
            await waiting
        proxy.resume()
        assert first + await reader.readexactly(len(MESSAGE) - len(first)) == MESSAGE


FLOOD = b"x" * (32 << 20)
"""Bytes: more than the system's buffers hold between two ends that do not read."""


async def flood(proxy: FaultProxy, writer: runtime.StreamWriter) -> runtime.Task[None]:
    """Write more than can be sent during a stall; return the task that awaits ``drain``."""
    await until(lambda: proxy.stalled)
    writer.write(FLOOD)
    draining = runtime.create_task(writer.drain())
    await runtime.sleep(0)
    assert not draining.done()
    return draining


async def test_abort_ends_a_connection_whose_close_would_wait() -> None:
    async with through(Plan(to_server=(Stall(0),))) as (proxy, (_, writer)):
        draining = await flood(proxy, writer)
        writer.close()
        closing = runtime.create_task(writer.wait_closed())
        await runtime.sleep(0)
        assert not closing.done()
        writer.abort()
        await closing
        with pytest.raises(ConnectionAbortedError):
            await draining


async def test_close_sends_the_bytes_that_a_stall_delayed() -> None:
    received: list[int] = []

    async def count(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        received.append(len(await reader.read()))
        writer.close()

    plan = Plan(to_server=(Stall(0), Split((60_000, 1))))
    async with through(plan, count) as (proxy, (_, writer)):
        draining = await flood(proxy, writer)
        writer.write(b"last")
        writer.close()
        proxy.resume()
        await draining
        await writer.wait_closed()
        await until(lambda: received)
    assert received == [len(FLOOD) + 4]
    assert proxy.connections[0].to_server.sent == len(FLOOD) + 4


@pytest.mark.parametrize("dies", ["reset", "abandoned"])
async def test_a_waiting_drain_raises_when_the_connection_is_lost(dies: str) -> None:
    faults = (Stall(0), Reset(100)) if dies == "reset" else (Stall(0),)
    async with through(Plan(to_server=faults)) as (proxy, (reader, writer)):
        draining = await flood(proxy, writer)
        reading = runtime.create_task(reader.read(1))
        if dies == "reset":
            proxy.resume()
        else:
            await runtime.to_thread(proxy.close)
        for task in (draining, reading):
            with pytest.raises(ConnectionError):
                await task
        with pytest.raises(ConnectionError):
            await writer.wait_closed()


def test_one_server_with_clients_on_sound_and_faulty_networks() -> None:
    """Clients on a sound or slow network are served while those on others fail."""
    sound = {Outcome.CLOSED}
    fates = [
        (FAULTLESS, sound),
        (Plan(to_server=(Reset(1000),)), {Outcome.RESET}),
        (Plan((Delay(0.001),), (Split(range(1, 3000), by_chance=True),)), sound),
        (Plan(to_client=(Truncate(1),)), {Outcome.TRUNCATED}),
        (Plan((SlowReader(20_000, 0.001),), (Delay(0.001),)), sound),
        (Plan(to_client=(Reset(50_000),)), {Outcome.RESET}),
        # The client has left when the stall ends.
        (Plan(to_server=(Stall(0),)), {Outcome.LOST, Outcome.CLOSED}),
    ]
    plans = [plan for plan, _ in fates] * 6
    message = random.Random(0).randbytes(100_000)

    async def client(proxy: FaultProxy) -> bytes:
        received = b""
        reader, writer = await runtime.open_connection(*proxy.address)
        try:
            writer.write(message)
            writer.write_eof()
            while data := await reader.read(30_000):
                received += data
        except ConnectionError:
            pass
        finally:
            # Not close(): the connections with stalled bytes would stay open.
            writer.abort()
        return received

    async def main() -> None:
        async with serving(echo) as address:
            with FaultProxy(address, plans) as proxy:
                clients = [runtime.create_task(client(proxy)) for _ in plans]
                await until(lambda: sum(task.done() for task in clients) == len(clients) - 6)
                await until(lambda: sum(each.stalled for each in proxy.connections) == 6)
                for task in clients:
                    task.cancel()
                results = await runtime.gather(*clients, return_exceptions=True)
                proxy.resume()
                await until(lambda: not any(each.lanes for each in proxy.connections))
        whole = [each for each in results if each == message]
        assert len(whole) == 3 * 6
        assert all(message.startswith(each) for each in results if isinstance(each, bytes))
        expected = [outcomes for _, outcomes in fates] * 6
        assert all(each.outcome in expected[each.number] for each in proxy.connections)

    runtime.run(main())

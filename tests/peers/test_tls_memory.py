"""Memory of TLS connections, which must not leak through reference cycles.

See https://github.com/python/cpython/issues/109534 and
https://github.com/MagicStack/uvloop/issues/565.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import Recorder, contexts
from tests.net.tools import echo, serving
from tests.support import build
from tests.support.certificates import NAME, Certificates

pytestmark = pytest.mark.usefixtures("no_collector")

Connect = Callable[[tuple[str, int], ssl.SSLContext], Awaitable[None]]
AT_ONCE = 20


def population() -> Counter[str]:
    """Count the objects that make up connections, by class."""
    counted = Counter(type(each).__name__ for each in gc.get_objects())
    counted.update(type(each).__name__ for each in gc.get_objects() if type(each) is ssl.SSLObject)
    return counted


def resident() -> int:
    """Return the resident memory in bytes, or 0 if it does not show the memory in use."""
    status = Path("/proc/self/statm")
    # AddressSanitizer keeps freed memory, in order to detect later accesses to it.
    if not status.exists() or build.accelerator_kind() == "address":
        return 0
    return int(status.read_text().split()[1]) * 4096


async def with_streams(address: tuple[str, int], context: ssl.SSLContext) -> None:
    reader, writer = await runtime.open_connection(*address, ssl=context, server_hostname=NAME)
    writer.write(b"x" * 1000)
    assert await reader.readexactly(1000) == b"x" * 1000
    writer.close()
    await writer.wait_closed()


async def aborted(address: tuple[str, int], context: ssl.SSLContext) -> None:
    _, writer = await runtime.open_connection(*address, ssl=context, server_hostname=NAME)
    writer.abort()


async def with_a_protocol(address: tuple[str, int], context: ssl.SSLContext) -> None:
    loop = runtime.get_running_loop()
    transport, protocol = await loop.create_connection(
        Recorder, *address, ssl=context, server_hostname=NAME
    )
    transport.write(b"x")
    transport.close()
    await protocol.ended()


async def upgraded(address: tuple[str, int], context: ssl.SSLContext) -> None:
    """Open a TLS connection inside another, and give it up half-way."""
    _, writer = await runtime.open_connection(*address, ssl=context, server_hostname=NAME)
    task = runtime.create_task(writer.start_tls(context, server_hostname=NAME))
    await runtime.sleep(0)
    task.cancel()
    await runtime.wait([task])


async def refused(address: tuple[str, int], context: ssl.SSLContext) -> None:
    try:
        await runtime.open_connection(*address, ssl=context, server_hostname="wrong.example")
    except ssl.SSLCertVerificationError:
        return
    pytest.fail("it was not refused")


async def refused_with_a_protocol(address: tuple[str, int], context: ssl.SSLContext) -> None:
    try:
        await runtime.get_running_loop().create_connection(
            asyncio.Protocol, *address, ssl=context, server_hostname="wrong.example"
        )
    except ssl.SSLCertVerificationError:
        return
    pytest.fail("it was not refused")


async def many(connect: Connect, address: Any, context: ssl.SSLContext, count: int) -> None:
    for _ in range(count // AT_ONCE):
        await runtime.gather(*(connect(address, context) for _ in range(AT_ONCE)))


async def settled() -> None:
    """Let the server notice the last ends."""
    for _ in range(50):
        await runtime.sleep(0.001)


@pytest.mark.parametrize(
    "connect",
    [with_streams, aborted, with_a_protocol, upgraded, refused, refused_with_a_protocol],
    ids=lambda each: each.__name__,
)
async def test_objects_are_deallocated_at_once(
    certificates: Certificates, connect: Connect
) -> None:
    server_side, client_side = contexts(certificates)
    async with serving(echo, ssl=server_side) as address:
        await many(connect, address, client_side, 2 * AT_ONCE)
        await settled()
        before = population()
        await many(connect, address, client_side, 5 * AT_ONCE)
        await settled()
        more = population() - before
    # Sets of weak references may keep those to the tasks of the last connections for a while. A
    # leak is at least an object for each of the connections.
    grown = {name: count for name, count in more.items() if count >= 4 * AT_ONCE}
    assert grown == {}


async def check_memory(certificates: Certificates, rounds: int, count: int) -> None:
    """Check that after some round there is no more memory in use than before it.

    A leak per connection shows in every round; the memory that the allocator keeps for later stops
    growing after a few rounds.
    """
    server_side, client_side = contexts(certificates)
    more_objects, more_memory = [], []
    async with serving(echo, ssl=server_side) as address:
        await many(with_streams, address, client_side, 200)
        await settled()
        for _ in range(rounds):
            before, objects = resident(), len(gc.get_objects())
            await many(with_streams, address, client_side, count)
            await settled()
            more_objects.append(len(gc.get_objects()) - objects)
            more_memory.append(resident() - before)
    assert min(more_objects) < count // 10
    # A connection that stayed would take 50 KiB or more.
    assert min(more_memory) < count * 2048


@pytest.mark.variation
async def test_memory_does_not_grow(certificates: Certificates) -> None:
    await check_memory(certificates, 5, 200)


@pytest.mark.slow
async def test_memory_does_not_grow_for_long(certificates: Certificates) -> None:
    await check_memory(certificates, 4, 800)

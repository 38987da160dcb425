"""``Loop.join_all_writes``: a lone write of a turn is sent when the turn ends as well."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import Any

import pytest

import runtime
from runtime.kernel.joined_writes import HOLD_MOST, LONG_STEP
from tests.net.tls_tools import contexts
from tests.net.tools import received_by
from tests.support.certificates import NAME, Certificates

pytestmark = pytest.mark.usefixtures("no_leaks")


class Pair:
    """A protocol's connection on this loop, and the other end: a socket that nothing else reads."""

    def __init__(self, transport: Any, peer: socket.socket) -> None:
        self.transport = transport
        self.peer = peer

    def received(self) -> bytes:
        return received_by(self.peer)

    async def close(self) -> None:
        self.peer.close()
        self.transport.abort()
        await runtime.sleep(0.001)


async def connected() -> Pair:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        peer, _ = listener.accept()
    peer.setblocking(False)
    return Pair(transport, peer)


async def in_one_turn(*callbacks: Any) -> float:
    """Run callbacks in one turn of the loop; return the seconds that it took."""
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    for callback in callbacks:
        loop.call_soon(callback)
    await runtime.sleep(0)
    return time.monotonic() - began


@pytest.mark.parametrize("debug", [False, True])
def test_lone_writes_are_sent_when_their_turn_ends(debug: bool) -> None:
    async def main() -> None:
        runtime.get_running_loop().join_all_writes()
        pairs = [await connected(), await connected()]
        began = time.monotonic()
        for _ in range(3):
            seen: list[bytes] = []

            def look(seen: list[bytes] = seen) -> None:
                seen.extend(pair.received() for pair in pairs)

            def write(index: int) -> None:
                pairs[index].transport.write(b"%d" % index)

            lasted = await in_one_turn(lambda: write(0), look, lambda: write(1), look)
            if lasted >= HOLD_MOST or time.monotonic() - began >= LONG_STEP:
                break  # The machine was slow: the loop did not hold the data for that long.
            assert not any(seen)
            await runtime.sleep(0)
            assert [pair.received() for pair in pairs] == [b"0", b"1"]
        for pair in pairs:
            await pair.close()

    runtime.run(main(), debug=debug)


async def test_a_lone_write_waits_for_one_long_step_at_most() -> None:
    runtime.get_running_loop().join_all_writes()
    pair = await connected()
    seen: list[bytes] = []
    await in_one_turn(
        lambda: pair.transport.write(b"data"),
        lambda: time.sleep(2 * HOLD_MOST),
        lambda: seen.append(pair.received()),
    )
    assert seen == [b"data"]
    await pair.close()


async def test_connections_that_exist_send_at_once() -> None:
    pair = await connected()
    runtime.get_running_loop().join_all_writes()
    for _ in range(3):
        await runtime.sleep(0)
        pair.transport.write(b"data")
        assert pair.received() == b"data"
    await pair.close()


async def test_connections_that_exist_join_all_writes_once_they_join() -> None:
    pair = await connected()
    loop = runtime.get_running_loop()
    loop.join_all_writes()
    await runtime.sleep(0)
    pair.transport.write(b"head")
    pair.transport.write(b"body")
    assert pair.received() == b"headbody"
    for _ in range(2):
        await runtime.sleep(0)
        pair.transport.write(b"data")
        assert pair.received() == b""
        await runtime.sleep(0)
        assert pair.received() == b"data"
    loop.join_all_writes(False)
    pair.transport.write(b"data")
    assert pair.received() == b""
    await runtime.sleep(0)
    pair.transport.write(b"data")
    assert pair.received() == b"datadata"
    await pair.close()


async def test_it_can_be_turned_off() -> None:
    loop = runtime.get_running_loop()
    loop.join_all_writes()
    pair = await connected()
    loop.join_all_writes(False)
    later = await connected()
    later.transport.write(b"data")
    assert later.received() == b"data"
    pair.transport.write(b"joined")
    assert pair.received() == b""
    await runtime.sleep(0)
    assert pair.received() == b"joined"
    await runtime.sleep(0)
    pair.transport.write(b"data")
    assert pair.received() == b"data"
    await pair.close()
    await later.close()


async def test_drain_sends_a_lone_write() -> None:
    runtime.get_running_loop().join_all_writes()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, writer = await runtime.open_connection(*listener.getsockname())
        peer, _ = listener.accept()
    with peer:
        peer.setblocking(False)
        async with writer:
            writer.write(b"data")
            assert received_by(peer) == b""
            await writer.drain()
            assert received_by(peer) == b"data"


async def test_with_tls_a_lone_write_is_sent_when_its_turn_ends(certificates: Certificates) -> None:
    loop = runtime.get_running_loop()
    loop.join_all_writes()
    ours, theirs = contexts(certificates)
    sent: list[int] = []

    async def send(_reader: object, writer: runtime.StreamWriter) -> None:
        async with writer:
            await runtime.sleep(0)  # The turn of the handshake has sent session tickets.
            sent.append(loop.metrics().bytes_sent)
            writer.write(b"data")
            sent.append(loop.metrics().bytes_sent)
            await runtime.sleep(0)
            sent.append(loop.metrics().bytes_sent)

    async with await runtime.start_server(send, "127.0.0.1", 0, ssl=ours) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await runtime.open_connection(*address, ssl=theirs, server_hostname=NAME)
        async with writer:
            assert await reader.read() == b"data"
    before, written, later = sent
    assert before == written < later


@pytest.mark.skipif(sys.platform == "win32", reason="it watches a pipe")
async def test_a_pipe_sends_a_lone_write_when_its_turn_ends() -> None:
    loop = runtime.get_running_loop()
    loop.join_all_writes()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write_end, "wb"))
    transport.write(b"data")
    with pytest.raises(BlockingIOError):
        os.read(read_end, 100)
    await runtime.sleep(0)
    assert os.read(read_end, 100) == b"data"
    transport.close()
    await runtime.sleep(0.001)
    os.close(read_end)

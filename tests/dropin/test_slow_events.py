"""Slow methods of protocols, which debug mode reports for every kind of event."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates

LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "runtime": runtime.new_event_loop,
}


class Clock:
    """A clock that is advanced by slow methods only."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ending:
    """A protocol with a future that is done at the end of its connection."""

    def __init__(self) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.lost = self.loop.create_future()

    def be_slow(self) -> None:
        self.loop.time.now += 5.0

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)


class SlowReceiver(Ending, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.be_slow()


class SlowBuffer(Ending, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(100)

    def buffer_updated(self, nbytes: int) -> None:
        self.be_slow()


class SlowAtEnd(Ending, asyncio.Protocol):
    def eof_received(self) -> None:
        self.be_slow()


class SlowDatagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        asyncio.get_running_loop().time.now += 5.0  # type: ignore[attr-defined]
        self.received.set_result(None)


class SlowWithProcess(Ending, asyncio.SubprocessProtocol):
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.be_slow()


async def receiving(kind: Callable[[], Any]) -> None:
    ours, peer = socket.socketpair()
    _, protocol = await asyncio.get_running_loop().create_connection(kind, sock=ours)
    peer.send(b"bytes")
    peer.close()
    await protocol.lost


async def receiving_over_tls(certificates: Certificates) -> None:
    loop = asyncio.get_running_loop()
    for_server, for_client = contexts(certificates)
    protocols: list[SlowReceiver] = []

    def made() -> SlowReceiver:
        protocols.append(SlowReceiver())
        return protocols[-1]

    server = await loop.create_server(made, "127.0.0.1", 0, ssl=for_server)
    address = server.sockets[0].getsockname()
    _, writer = await asyncio.open_connection(*address[:2], ssl=for_client, server_hostname=NAME)
    writer.write(b"bytes")
    writer.close()
    while not protocols:
        await asyncio.sleep(0)
    await protocols[0].lost
    server.close()


async def receiving_datagrams() -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        SlowDatagrams, local_addr=("127.0.0.1", 0)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"bytes", transport.get_extra_info("sockname"))
    await protocol.received
    transport.close()


async def receiving_from_a_pipe() -> None:
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_read_pipe(SlowReceiver, os.fdopen(reading, "rb", 0))
    os.write(writing, b"bytes")
    os.close(writing)
    await protocol.lost


async def receiving_from_a_process() -> None:
    loop = asyncio.get_running_loop()
    program = (sys.executable, "-c", "import os; os.write(1, b'bytes')")
    transport, protocol = await loop.subprocess_exec(SlowWithProcess, *program, stdin=None)
    await protocol.lost
    transport.close()


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "data_received": (lambda: receiving(SlowReceiver), "SlowReceiver"),
    "buffer_updated": (lambda: receiving(SlowBuffer), "SlowBuffer"),
    "eof_received": (lambda: receiving(SlowAtEnd), "SlowAtEnd"),
    "datagram_received": (receiving_datagrams, "SlowDatagrams"),
    "of a pipe": (receiving_from_a_pipe, "SlowReceiver"),
    "of a process": (receiving_from_a_process, "SlowWithProcess"),
}


def slow_ones(
    make_loop: Callable[[], Any], work: Any, caplog: pytest.LogCaptureFixture, debug: bool = True
) -> list[str]:
    """Run ``work`` on a ``Clock``; return the reports of slow methods."""
    loop = make_loop()
    loop.time = Clock()
    with (
        caplog.at_level(logging.WARNING, "asyncio"),
        asyncio.Runner(loop_factory=lambda: loop, debug=debug) as runner,
    ):
        runner.run(work)
    return [m for m in caplog.messages if m.startswith("Executing ")]


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("case", CASES)
def test_a_slow_method_is_reported_once(
    case: str, make_loop: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    work, protocol = CASES[case]
    reports = slow_ones(make_loop, work(), caplog)
    assert len(reports) == 1, reports
    assert reports[0].endswith(" took 5.000 seconds")
    if make_loop is runtime.new_event_loop:
        assert f"for protocol {protocol}" in reports[0]


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_a_slow_method_behind_tls_is_reported(
    make_loop: Callable[[], Any], caplog: pytest.LogCaptureFixture, certificates: Certificates
) -> None:
    reports = slow_ones(make_loop, receiving_over_tls(certificates), caplog)
    assert len(reports) == 1, reports
    assert reports[0].endswith(" took 5.000 seconds")


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_reported_outside_debug_mode(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert slow_ones(runtime.new_event_loop, CASES[case][0](), caplog, debug=False) == []


def test_of_a_batch_of_events_the_slow_one_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        peers: list[socket.socket] = []
        ends: list[Any] = []
        for kind in (SlowAtEnd, SlowReceiver, SlowAtEnd):
            ours, peer = socket.socketpair()
            transport, protocol = await loop.create_connection(kind, sock=ours)
            peers.append(peer)
            ends.append((transport, protocol))
        for peer in peers:
            peer.send(b"bytes")
        await all_tasks_blocked()
        for transport, protocol in ends:
            transport.abort()
            await protocol.lost
        for peer in peers:
            peer.close()

    reports = slow_ones(runtime.new_event_loop, main(), caplog)
    assert len(reports) == 1, reports
    assert "for protocol SlowReceiver" in reports[0]

"""Sequences of calls and of the peer's actions, compared with a simple model of a transport.

The model: written data arrives in order, all of it unless the connection was aborted or reset; the
peer's data is received in order, all of it unless we closed first; events occur in the allowed
order, and those of flow control alternate.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import runtime
from tests.net.transport_tools import (
    BufferedRecorder,
    Recorder,
    collect_reports,
    small_buffers,
    turns,
)
from tests.support.examples import examples

Step = tuple[Any, ...]

sizes = st.one_of(st.integers(0, 5), st.integers(1000, 3000), st.integers(20_000, 200_000))
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("write"), sizes),
    st.tuples(st.just("writelines"), st.lists(sizes, max_size=4)),
    st.tuples(st.just("writelines"), st.lists(st.integers(0, 3), min_size=100, max_size=200)),
    st.tuples(st.just("limit"), st.sampled_from([0, 1, 1000, 100_000])),
    st.tuples(st.sampled_from(["pause", "resume", "write_eof"])),
    st.tuples(st.sampled_from(["close", "abort"])),
    st.tuples(st.just("peer reads"), sizes),
    st.tuples(st.just("peer writes"), sizes),
    st.tuples(st.sampled_from(["peer ends", "peer vanishes"])),
    st.tuples(st.just("turn"), st.integers(1, 4)),
)


class Checked:
    """A transport, its peer, and the state of the model."""

    def __init__(self, transport: Any, protocol: Any, peer: socket.socket) -> None:
        self.transport = transport
        self.protocol = protocol
        self.peer = peer
        self.written = bytearray()
        self.arrived = bytearray()
        self.peer_sent = bytearray()
        self.eof_written = False
        self.peer_ended = False
        # Whether bytes may be missing: ours, and the peer's.
        self.cut_off = False
        self.deaf = False

    def apply(self, step: Step) -> None:
        """Do a step that takes no turn of the loop, and check its immediate result."""
        name = step[0].replace(" ", "_")
        getattr(self, name)(*step[1:])
        self.check()

    def _data(self, size: int) -> bytes:
        start = len(self.written)
        return bytes((start + i) % 251 for i in range(size))

    def write(self, size: int) -> None:
        self._send(self._data(size), self.transport.write)

    def writelines(self, parts: list[int]) -> None:
        data = self._data(sum(parts))
        pieces = []
        for size in parts:
            pieces.append(data[:size])
            data = data[size:]
        self._send(b"".join(pieces), lambda _: self.transport.writelines(pieces))

    def _send(self, data: bytes, call: Callable[[bytes], None]) -> None:
        # While the transport is closing, the write buffer is sent, and data added to it.
        open_still = not self.transport.is_closing() or self.transport.get_write_buffer_size()
        try:
            call(data)
        except RuntimeError:
            assert self.eof_written
            return
        assert not self.eof_written or not data
        if open_still:
            self.written += data

    def limit(self, high: int) -> None:
        self.transport.set_write_buffer_limits(high=high)

    def pause(self) -> None:
        self.transport.pause_reading()
        assert not self.transport.is_reading()

    def resume(self) -> None:
        self.transport.resume_reading()
        assert self.transport.is_reading() is not self.transport.is_closing()

    def write_eof(self) -> None:
        if not self.transport.is_closing():
            self.eof_written = True
        self.transport.write_eof()

    def close(self) -> None:
        self.deaf = True
        self.transport.close()
        assert self.transport.is_closing()

    def abort(self) -> None:
        self.deaf = self.cut_off = True
        self.transport.abort()
        assert self.transport.is_closing()

    def peer_reads(self, most: int) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self.arrived += self.peer.recv(most)

    def peer_writes(self, size: int) -> None:
        if self.peer_ended:
            return
        start = len(self.peer_sent)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sent = self.peer.send(bytes((start + i) % 253 for i in range(size)))
            self.peer_sent += bytes((start + i) % 253 for i in range(sent))

    def peer_ends(self) -> None:
        if not self.peer_ended:
            self.peer_ended = True
            with contextlib.suppress(OSError):
                self.peer.shutdown(socket.SHUT_WR)
            if not self.protocol.keep_open:
                # Read half only: the other half is sent all the same.
                self.deaf = self.deaf or self.transport.is_closing()

    def peer_vanishes(self) -> None:
        self.peer_ended = self.cut_off = self.deaf = True
        self.peer.close()

    def check(self) -> None:
        """Check the conditions that hold at any time."""
        calls = self.protocol.calls
        assert calls[0] == "connection_made"
        assert "connection_made" not in calls[1:]
        assert "connection_lost" not in calls[:-1]
        assert calls.count("eof_received") <= 1
        if "eof_received" in calls:
            assert "data_received" not in calls[calls.index("eof_received") :]
        flow = [call for call in calls if call.endswith("_writing")]
        assert flow == (["pause_writing", "resume_writing"] * len(flow))[: len(flow)]
        held = bool(flow) and flow[-1] == "pause_writing"
        unsent = self.transport.get_write_buffer_size()
        if not self.transport.is_closing():
            assert held or unsent <= self.transport.get_write_buffer_limits()[1]
            assert not held or unsent
        assert self.written.startswith(self.arrived)
        assert self.peer_sent.startswith(self.protocol.received)

    async def turn(self, count: int) -> None:
        received = len(self.protocol.received)
        reading = self.transport.is_reading()
        await turns(count)
        assert reading or len(self.protocol.received) == received, "received while paused"
        self.check()

    async def finish(self) -> None:
        """Read everything, end the connection regularly, and check that no byte is missing."""
        self.resume()
        self.peer_ends()
        await self.turn(3)
        if not self.deaf:
            await self.protocol.until(lambda: {"eof_received", "connection_lost"} & set(self.calls))
            assert self.protocol.received == self.peer_sent
        self.transport.close()
        while not self.protocol.lost:
            self.peer_reads(1 << 20)
            await self.turn(1)
        # The system resets a connection that is closed with unread bytes.
        with contextlib.suppress(ConnectionResetError) if self.deaf else contextlib.nullcontext():
            while not self.cut_off and (rest := self.peer.recv(1 << 20)):
                self.arrived += rest
        self.check()
        assert self.cut_off or self.arrived == self.written
        [error] = self.protocol.lost
        assert error is None or (isinstance(error, ConnectionError) and self.cut_off)
        before = list(self.calls)
        await turns(5)
        assert self.calls == before, "nothing comes after connection_lost"

    @property
    def calls(self) -> list[str]:
        calls: list[str] = self.protocol.calls
        return calls


async def play(steps: list[Step], factory: Callable[[], Any]) -> None:
    reports = collect_reports()
    ours, peer = socket.socketpair()
    made = await runtime.get_running_loop().create_connection(factory, sock=ours)
    with peer:
        small_buffers(made[0], peer)
        peer.setblocking(False)
        checked = Checked(*made, peer)
        for step in steps:
            if step[0] == "turn":
                await checked.turn(step[1])
            else:
                checked.apply(step)
        async with runtime.timeout(30):
            await checked.finish()
    assert reports == []
    assert len(runtime.get_running_loop()._poller.watchers()) == 1


class Wide(BufferedRecorder):
    """Recorder with larger buffers, so that an example does not take thousands of turns."""

    size = 5000


@settings(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(STEPS, max_size=25),
    base=st.sampled_from([Recorder, Wide]),
    keep_open=st.booleans(),
)
@example(
    steps=[("write", 200_000), ("close",), ("write", 5), ("peer ends",), ("turn", 2)],
    base=Recorder,
    keep_open=True,
)
@example(
    steps=[("write", 200_000), ("write_eof",), ("peer ends",), ("turn", 2), ("pause",)],
    base=Recorder,
    keep_open=True,
)
def test_any_sequence(steps: list[Step], base: Any, keep_open: bool) -> None:
    runtime.run(play(steps, lambda: base(keep_open=keep_open)))

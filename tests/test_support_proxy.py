"""The proxy that injects faults, tested between plain sockets."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.support.faults import (
    FAULTLESS,
    Delay,
    Fault,
    Flip,
    HalfClose,
    Insert,
    Mark,
    Merge,
    Pause,
    Pipeline,
    Plan,
    Reset,
    SlowReader,
    Split,
    Stall,
    Step,
    Truncate,
)
from tests.support.proxy import FaultProxy, Outcome, reset_at_close

pytestmark = pytest.mark.once

MESSAGE = random.Random(1).randbytes(1 << 20)


@contextlib.contextmanager
def through(
    plan: Plan | Sequence[Plan] = FAULTLESS, seed: int = 0
) -> Iterator[tuple[FaultProxy, socket.socket, socket.socket]]:
    """Yield a proxy, and the client's and the server's end of a connection through it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        with (
            FaultProxy(listener.getsockname(), plan, seed) as proxy,
            socket.create_connection(proxy.address, timeout=30) as client,
        ):
            server, _ = listener.accept()
            with server:
                server.settimeout(30)
                proxy.wait_until(lambda: proxy.connections)
                yield proxy, client, server


def receive(sock: socket.socket, size: int = -1) -> bytes:
    """Receive ``size`` bytes, or all bytes until the end."""
    received = bytearray()
    while len(received) != size and (data := sock.recv(65536)):
        received += data
    return bytes(received)


def receive_until_reset(sock: socket.socket) -> bytes:
    """Receive until the reset, which must arrive."""
    received = bytearray()
    with pytest.raises(ConnectionResetError):
        while True:
            data = sock.recv(65536)
            assert data, "an end instead of a reset"
            received += data
    return bytes(received)


@contextlib.contextmanager
def sending(sock: socket.socket, data: bytes, *, end: bool = True) -> Iterator[None]:
    """Send from a thread."""

    def send() -> None:
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


# -- The pipeline ----------------------------------------------------------------------------------


def steps_of(faults: Sequence[Fault], *chunks: bytes, seed: int = 0) -> list[Step]:
    pipeline = Pipeline(faults, random.Random(seed))
    steps = pipeline.begin()
    for chunk in chunks:
        steps += pipeline.feed(chunk, 0.0)
    return steps + pipeline.end()


@pytest.mark.parametrize(
    ("fault", "steps"),
    [
        (Delay(0.5), [Pause(0.5), b"abcd", Pause(0.5), b"ef"]),
        (Split(), [b"a", b"b", b"c", b"d", b"e", b"f"]),
        (Split((1, 3)), [b"a", b"bcd", b"e", b"f"]),
        (Split((1,), until=2), [b"a", b"b", b"cd", b"ef"]),
        (Split((3,), gap=0.5), [b"abc", Pause(0.5), b"d", Pause(0.5), b"ef", Pause(0.5)]),
        (Merge(5), [b"abcde", b"f"]),
        (Merge(100), [b"abcdef"]),
        (Reset(0), [Mark.RESET, b"abcd", b"ef"]),
        (Reset(4), [b"abcd", Mark.RESET, b"ef"]),
        (Stall(1), [b"a", Mark.STALL, b"bcd", b"ef"]),
        (HalfClose(5), [b"abcd", b"e", Mark.FIN, b"f"]),
        (Truncate(6), [b"abcd", b"ef", Mark.CUT]),
        (Truncate(7), [b"abcd", b"ef"]),
        (Flip(3, size=2), [b"abc\x9b", b"\x9af"]),
        (Flip(1, mask=0x20), [b"aBcd", b"ef"]),
        (Insert(0, b"!"), [b"!", b"abcd", b"ef"]),
        (Insert(3, b"!"), [b"abc", b"!", b"d", b"ef"]),
        (SlowReader(), [b"abcd", b"ef"]),
    ],
)
def test_each_fault_on_two_chunks(fault: Fault, steps: list[Step]) -> None:
    assert steps_of([fault], b"abcd", b"ef") == [*steps, Mark.FIN]


def test_faults_apply_one_after_the_other() -> None:
    faults: list[Fault] = [Merge(4), Insert(2, b"xy"), Split((3,)), Stall(3)]
    assert steps_of(faults, b"a", b"bcde", b"f") == [
        *(b"ab", b"x", Mark.STALL, b"y", b"cd", b"ef"),
        Mark.FIN,
    ]


def test_held_back_bytes_go_before_a_mark() -> None:
    assert steps_of([Reset(3), Merge(100)], b"abcdef") == [b"abc", Mark.RESET, b"def", Mark.FIN]


def test_chance_is_decided_by_the_seed() -> None:
    faults: list[Fault] = [Split(range(1, 50), by_chance=True), Delay(0, jitter=1), Insert(100, 10)]
    one, same, other = (steps_of(faults, MESSAGE[:2000], seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_merge_is_flushed_when_its_time_has_come() -> None:
    pipeline = Pipeline([Merge(10, flush_after=2.0), Split((2,))], random.Random(0))
    assert pipeline.deadline() is None
    assert pipeline.feed(b"abc", 1.0) == []
    assert pipeline.feed(b"d", 2.0) == []
    assert pipeline.deadline() == 3.0
    assert pipeline.expire(2.5) == []
    assert pipeline.expire(3.0) == [b"ab", b"cd"]
    assert pipeline.deadline() is None
    assert pipeline.feed(b"0123456789", 4.0) == [b"01", b"23", b"45", b"67", b"89"]
    assert pipeline.deadline() is None
    assert pipeline.feed(b"x", 5.0) == []
    assert pipeline.end() == [b"x", Mark.FIN]
    assert pipeline.deadline() is None


@pytest.mark.parametrize("make", [lambda: Split(()), lambda: Split((0,)), lambda: Reset(-1)])
def test_faults_that_make_no_sense_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="number"):
        make()


# -- The proxy -------------------------------------------------------------------------------------

LOSSLESS = [
    (),
    (Delay(0.001, jitter=0.001),),
    (Split(until=4096),),
    (Split(range(1, 5000), by_chance=True),),
    (Split((1, 20, 300)),),
    (Merge(100_000),),
    (Merge(100_000, flush_after=0.01),),
    (SlowReader(65536, 0.001),),
    (Delay(0.001), Merge(10_000), Split((1, 9999))),
]


@pytest.mark.parametrize("faults", LOSSLESS)
def test_nothing_is_lost(faults: tuple[Fault, ...]) -> None:
    with through(Plan(faults, faults)) as (proxy, client, server):
        answer = MESSAGE[::-1]
        with sending(client, MESSAGE), sending(server, answer):
            received: list[bytes] = []
            thread = threading.Thread(target=lambda: received.append(receive(client)))
            thread.start()
            assert receive(server) == MESSAGE
            thread.join()
            assert received == [answer]
        connection = proxy.connections[0]
        proxy.wait_until(lambda: connection.outcome is Outcome.CLOSED)
        for lane in (connection.to_server, connection.to_client):
            assert (lane.received, lane.sent, lane.dropped) == (len(MESSAGE), len(MESSAGE), 0)


def test_turns_of_single_bytes_through_splits_and_merges() -> None:
    faults = (Split(), Merge(1))
    with through(Plan(faults, faults)) as (_, client, server):
        for number in range(100):
            client.sendall(bytes([number]))
            assert server.recv(10) == bytes([number])
            server.sendall(bytes([number, number]))
            assert receive(client, 2) == bytes([number, number])


def test_a_merge_waits_for_its_size() -> None:
    with through(Plan(to_server=(Merge(3),))) as (proxy, client, server):
        client.sendall(b"ab")
        proxy.wait_until(lambda: proxy.connections[0].to_server.received == 2)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(10)
        server.settimeout(30)
        client.sendall(b"cd")
        assert server.recv(10) == b"abc"
        client.shutdown(socket.SHUT_WR)
        assert receive(server) == b"d"


def test_a_merge_with_a_time_does_not_wait_for_ever() -> None:
    with through(Plan(to_server=(Merge(1000, flush_after=0.01),))) as (_, client, server):
        client.sendall(b"ab")
        assert server.recv(10) == b"ab"


@pytest.mark.parametrize("after", [1, 1000, 300_000])
def test_reset(after: int) -> None:
    with through(Plan(to_server=(Reset(after),))) as (proxy, client, server):
        with contextlib.suppress(ConnectionError):
            client.sendall(MESSAGE)
        assert receive_until_reset(server) == MESSAGE[:after]
        connection = proxy.connections[0]
        proxy.wait_until(lambda: connection.outcome is Outcome.RESET)
        assert connection.to_server.sent == after
        with pytest.raises(ConnectionError):
            for _ in range(2):
                client.sendall(b"more")


def test_reset_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        with FaultProxy(listener.getsockname(), Plan(to_server=(Reset(0),))) as proxy:
            assert meets_a_reset(proxy)
            server, _ = listener.accept()
            with server:
                assert receive_until_reset(server) == b""
            assert proxy.connections[0].outcome is Outcome.RESET


def meets_a_reset(proxy: FaultProxy) -> bool:
    """Connect and receive; return whether there was a reset, which may come while connecting."""
    try:
        with socket.create_connection(proxy.address, timeout=30) as client:
            return receive(client) != b""
    except ConnectionResetError:
        return True


def test_a_reset_reaches_the_sender_too() -> None:
    with through(Plan(to_client=(Reset(3),))) as (_, client, server):
        server.sendall(b"abcd")
        assert receive_until_reset(client) == b"abc"
        assert receive_until_reset(server) == b""


@pytest.mark.parametrize("after", [0, 5, 100_000])
def test_stall_until_told_to_go_on(after: int) -> None:
    with through(Plan(to_client=(Stall(after),))) as (proxy, client, server):
        with sending(server, MESSAGE):
            assert receive(client, after) == MESSAGE[:after]
            proxy.wait_until(lambda: proxy.stalled)
            client.sendall(b"the other direction goes on")
            assert receive(server, 27) == b"the other direction goes on"
            assert proxy.connections[0].to_client.sent == after
            proxy.resume()
            assert receive(client) == MESSAGE[after:]
        assert not proxy.stalled


def test_a_stall_holds_up_the_sender() -> None:
    with through(Plan(to_server=(Stall(0),))) as (proxy, client, server):
        client.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += client.send(MESSAGE)
        client.settimeout(30)
        client.shutdown(socket.SHUT_WR)
        proxy.wait_until(lambda: proxy.stalled)
        proxy.resume()
        assert len(receive(server)) == sent


@pytest.mark.parametrize("after", [0, 5, 100_000])
def test_half_close(after: int) -> None:
    with through(Plan(to_server=(HalfClose(after),))) as (proxy, client, server):
        client.sendall(MESSAGE)
        assert receive(server) == MESSAGE[:after]
        with sending(server, MESSAGE):
            assert receive(client) == MESSAGE
        client.sendall(b"more")
        client.shutdown(socket.SHUT_WR)
        connection = proxy.connections[0]
        proxy.wait_until(lambda: connection.outcome is Outcome.CLOSED)
        lane = connection.to_server
        assert (lane.sent, lane.dropped) == (after, len(MESSAGE) + 4 - after)
        assert lane.received == lane.sent + lane.dropped


@pytest.mark.parametrize("after", [0, 5, 100_000])
def test_truncate(after: int) -> None:
    with through(Plan(to_client=(Truncate(after),))) as (proxy, client, server):
        server.sendall(MESSAGE)
        assert receive(client) == MESSAGE[:after]
        assert receive(server) == b""
        client.sendall(b"nobody gets this")
        server.close()
        client.close()
        connection = proxy.connections[0]
        proxy.wait_until(lambda: not connection.lanes)
        assert connection.outcome is Outcome.TRUNCATED
        assert (connection.to_client.sent, connection.to_server.sent) == (after, 0)
        assert connection.to_server.dropped == 16


def test_garbage() -> None:
    plan = Plan((Flip(2, size=2, mask=1),), (Insert(3, b"garbage"),))
    with through(plan) as (_, client, server):
        client.sendall(b"abcdef")
        assert receive(server, 6) == b"abbeef"
        server.sendall(b"abc")
        assert receive(client, 10) == b"abcgarbage"


def test_random_garbage_is_the_same_in_every_run() -> None:
    def garbage(seed: int) -> bytes:
        with through(Plan(to_client=(Insert(0, 20),)), seed) as (_, client, _server):
            return receive(client, 20)

    assert garbage(7) == garbage(7) != garbage(8)


def test_a_slow_reader_holds_up_the_sender() -> None:
    with through(Plan(to_server=(SlowReader(1, seconds=3600),))) as (proxy, client, server):
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                client.send(MESSAGE)
        assert receive(server, 1) == MESSAGE[:1]
        assert proxy.connections[0].to_server.received == 1
        server.sendall(b"the other direction is not slow")
        client.settimeout(30)
        assert receive(client, 31) == b"the other direction is not slow"


def test_each_connection_has_its_own_plan() -> None:
    plans = [Plan(to_server=(Truncate(1),)), FAULTLESS]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        with FaultProxy(listener.getsockname(), plans) as proxy:
            received = []
            for _ in range(3):
                with socket.create_connection(proxy.address, timeout=30) as client:
                    client.sendall(b"abc")
                    client.shutdown(socket.SHUT_WR)
                    server, _ = listener.accept()
                    with server:
                        received.append(receive(server))
    assert received == [b"a", b"abc", b"abc"]
    assert [each.number for each in proxy.connections] == [0, 1, 2]


@pytest.mark.parametrize("dies", ["client", "server"])
def test_an_end_that_resets_resets_the_other(dies: str) -> None:
    with through() as (proxy, client, server):
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        dying, other = (client, server) if dies == "client" else (server, client)
        reset_at_close(dying)
        dying.close()
        assert receive_until_reset(other) == b""
        proxy.wait_until(lambda: proxy.connections[0].outcome is Outcome.LOST)


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with FaultProxy(address) as proxy:
        assert meets_a_reset(proxy)
        proxy.wait_until(lambda: proxy.connections)
        assert proxy.connections[0].outcome is Outcome.UNREACHABLE


def test_it_ends_in_the_middle_of_anything() -> None:
    plan = Plan((Stall(10),), (Delay(3600),))
    with through(plan) as (proxy, client, server):
        client.sendall(MESSAGE[:100_000])
        server.sendall(b"delayed")
        proxy.wait_until(lambda: proxy.stalled)
        proxy.wait_until(lambda: proxy.connections[0].to_client.received == 7)
        proxy.close()
        assert proxy.connections[0].outcome is Outcome.ABANDONED
        assert receive(client) == b""


def test_waiting_in_vain_fails_with_the_state_of_things() -> None:
    with through() as (proxy, *_), pytest.raises(TimeoutError, match="OPEN"):
        proxy.wait_until(lambda: False, patience=0.01)


def test_errors_of_the_thread_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Delay, "stage", bad)
    with (
        pytest.raises(ZeroDivisionError),
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultProxy(listener.getsockname(), Plan(to_server=(Delay(0),))) as proxy,
    ):
        assert meets_a_reset(proxy)

"""The poller, tested on every selector of the system."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.diagnostics.debug_mode import EventTimer
from runtime.kernel.poller import Poller
from runtime.kernel.watcher import READ, WRITE, Watcher

KINDS = [
    getattr(selectors, name)
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector")
    if hasattr(selectors, name)
]


class Recorder(Watcher):
    """A watcher that records its events, and performs a given action on each of them."""

    def __init__(self, sock: socket.socket, log: list[str], name: str) -> None:
        super().__init__(sock.fileno())
        self.sock = sock
        self.log = log
        self.name = name
        self.then: Callable[[], object] = lambda: None

    def on_readable(self) -> None:
        self.log.append(f"{self.name} readable")
        self.then()

    def on_writable(self) -> None:
        self.log.append(f"{self.name} writable")
        self.then()

    def on_lost(self) -> None:
        self.log.append(f"{self.name} lost")


class Clocked:
    """Clock and threshold for a poller in debug mode."""

    slow_callback_duration = 10.0

    def time(self) -> float:
        return 0.0


@pytest.fixture(params=KINDS)
def untimed_poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    reports.clear()
    poller = Poller(request.param(), lambda *report: reports.append(report))
    yield poller
    poller.close()


@pytest.fixture(params=[False, True], ids=["untimed", "timed"])
def poller(request: pytest.FixtureRequest, untimed_poller: Poller) -> Poller:
    if request.param:
        untimed_poller.set_timer(EventTimer(Clocked()))
    return untimed_poller


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


reports: list[Any] = []
Pairs = list[tuple[socket.socket, socket.socket]]


def test_events(poller: Poller, pairs: Pairs) -> None:
    log: list[str] = []
    one, two = pairs[0]
    watcher = Recorder(one, log, "w")
    poller.watch(watcher, 0)
    assert poller.watchers() == []
    poller.watch(watcher, READ)
    assert poller.watcher(one.fileno()) is watcher
    poller.poll(0.0)
    assert log == []
    two.send(b"x")
    poller.poll(1.0)
    assert log == ["w readable"]
    poller.watch(watcher, READ | WRITE)
    poller.watch(watcher, READ | WRITE)
    poller.poll(1.0)
    assert sorted(log) == ["w readable", "w readable", "w writable"]
    log.clear()
    poller.watch(watcher, WRITE)
    poller.poll(1.0)
    assert log == ["w writable"]
    poller.watch(watcher, 0)
    poller.poll(0.0)
    assert log == ["w writable"]
    assert poller.watchers() == []


def test_a_hang_up_wakes_the_watcher(poller: Poller, pairs: Pairs) -> None:
    log: list[str] = []
    one, two = pairs[0]
    poller.watch(Recorder(one, log, "w"), READ)
    two.close()
    poller.poll(1.0)
    assert log == ["w readable"]


def test_one_failing_watcher_does_not_keep_the_others_from_their_events(
    poller: Poller, pairs: Pairs
) -> None:
    log: list[str] = []
    for number, (one, two) in enumerate(pairs):
        watcher = Recorder(one, log, str(number))
        watcher.then = lambda: 1 // 0
        poller.watch(watcher, READ)
        two.send(b"x")
    poller.poll(1.0)
    assert sorted(log) == ["0 readable", "1 readable", "2 readable"]
    assert len(reports) == 3
    assert isinstance(reports[0][1], ZeroDivisionError)


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_fatal_exceptions_pass(poller: Poller, pairs: Pairs, fatal: type[BaseException]) -> None:
    def stop() -> None:
        raise fatal

    watcher = Recorder(pairs[0][0], [], "w")
    watcher.then = stop
    poller.watch(watcher, READ)
    pairs[0][1].send(b"x")
    with pytest.raises(fatal):
        poller.poll(1.0)


def test_a_watcher_removed_in_the_same_round_gets_no_event(poller: Poller, pairs: Pairs) -> None:
    log: list[str] = []
    watchers = [Recorder(one, log, str(n)) for n, (one, _) in enumerate(pairs)]

    def remove_all() -> None:
        for watcher in watchers:
            poller.watch(watcher, 0)

    for watcher, (_, two) in zip(watchers, pairs, strict=True):
        watcher.then = remove_all
        poller.watch(watcher, READ)
        two.send(b"x")
    poller.poll(1.0)
    assert len(log) == 1


def test_a_descriptor_that_is_used_again_in_the_same_round_gets_no_stale_event(
    poller: Poller, pairs: Pairs
) -> None:
    """The watcher that comes first closes the other's socket, and a new socket takes its number."""
    log: list[str] = []
    fresh: list[socket.socket] = []
    first, second = (Recorder(one, log, name) for name, (one, _) in zip("ab", pairs, strict=False))

    def replace(victim: Recorder) -> None:
        poller.watch(victim, 0)
        number = victim.fd
        victim.sock.close()
        new, far = socket.socketpair()
        fresh.extend((new, far))
        taken = new if new.fileno() == number else far
        assert taken.fileno() == number
        poller.watch(Recorder(taken, log, "new"), READ)

    first.then = lambda: replace(second)
    second.then = lambda: replace(first)
    for watcher, (_, two) in zip((first, second), pairs, strict=False):
        poller.watch(watcher, READ)
        two.send(b"x")
    poller.poll(1.0)
    assert len(log) == 1
    poller.poll(0.0)
    assert "new readable" not in log
    for sock in fresh:
        sock.close()


def test_a_descriptor_closed_under_the_selector(poller: Poller, pairs: Pairs) -> None:
    log: list[str] = []
    (one, _), (other, far), _ = pairs
    poller.watch(Recorder(one, log, "closed"), READ)
    poller.watch(Recorder(other, log, "other"), READ)
    one.close()
    far.send(b"x")
    for _ in range(3):
        poller.poll(0.1)
    assert "other readable" in log


def test_a_number_that_is_taken_over(poller: Poller, pairs: Pairs) -> None:
    log: list[str] = []
    one, _ = pairs[0]
    old = Recorder(one, log, "old")
    poller.watch(old, READ)
    number = one.fileno()
    one.close()
    new, far = socket.socketpair()
    taken, peer = (new, far) if new.fileno() == number else (far, new)
    assert taken.fileno() == number
    watcher = Recorder(taken, log, "new")
    poller.watch(watcher, READ)
    assert log == ["old lost"]
    peer.send(b"x")
    poller.poll(1.0)
    assert log == ["old lost", "new readable"]
    assert old.events == 0
    poller.reregister(watcher)
    poller.poll(1.0)
    assert log[-1] == "new readable"
    poller.watch(watcher, 0)
    new.close()
    far.close()


def test_changing_the_watched_events_of_a_reused_number(poller: Poller, pairs: Pairs) -> None:
    log: list[str] = []
    one, _ = pairs[0]
    watcher = Recorder(one, log, "w")
    poller.watch(watcher, READ)
    number = one.fileno()
    one.close()
    new, far = socket.socketpair()
    assert number in (new.fileno(), far.fileno())
    poller.watch(watcher, READ | WRITE)
    poller.poll(1.0)
    assert "w writable" in log
    poller.watch(watcher, 0)
    new.close()
    far.close()


def test_files_that_cannot_be_watched(tmp_path: Any) -> None:
    poller = Poller(None, lambda *report: None)
    with open(tmp_path / "regular", "w") as file:
        watcher = Watcher(file.fileno())
        with pytest.raises(PermissionError):
            poller.watch(watcher, READ)
        assert watcher.events == 0
        assert poller.watchers() == []
    poller.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_program_on_each_selector(kind: type[selectors.BaseSelector]) -> None:
    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        async for line in reader:
            writer.write(line)
        writer.close()

    async def main() -> None:
        async with await runtime.start_server(handler, "127.0.0.1", 0) as server:
            reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
            for number in range(20):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
                await runtime.sleep(0.0001)
            writer.close()

    runtime.run(main(), loop_factory=lambda: runtime.Loop(kind()))


def work(seconds: float) -> None:
    """Keep the processor busy for a time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.parametrize(("kind", "most"), [(None, 2), (selectors.SelectSelector, 10)])
def test_a_busy_loop_with_long_turns_sees_events_soon(
    kind: type[selectors.BaseSelector] | None, most: int
) -> None:
    """Quiet polls are skipped, yet an event is seen in one of the next turns."""

    async def main() -> int:
        receiver, sender = os.pipe()
        loop = runtime.get_running_loop()
        seen: list[int] = []
        for _ in range(50):
            work(300e-6)
            await runtime.sleep(0)
        loop.add_reader(receiver, lambda: seen.append(1))
        os.write(sender, b"x")
        turns = 0
        while not seen:
            work(300e-6)
            await runtime.sleep(0)
            turns += 1
        loop.remove_reader(receiver)
        os.close(receiver)
        os.close(sender)
        return turns

    factory = None if kind is None else lambda: runtime.Loop(kind())
    assert runtime.run(main(), loop_factory=factory) <= most


def test_every_turn_with_many_entries_polls() -> None:
    async def go_on() -> None:
        while True:
            await runtime.sleep(0)

    async def main() -> int:
        receiver, sender = os.pipe()
        loop = runtime.get_running_loop()
        seen: list[int] = []
        others = [runtime.create_task(go_on()) for _ in range(200)]
        for _ in range(200):
            await runtime.sleep(0)
        loop.add_reader(receiver, lambda: seen.append(1))
        os.write(sender, b"x")
        turns = 0
        while not seen:
            await runtime.sleep(0)
            turns += 1
        loop.remove_reader(receiver)
        os.close(receiver)
        os.close(sender)
        for each in others:
            each.cancel()
        return turns

    assert runtime.run(main()) <= 2


def test_another_selector_is_polled_in_every_eighth_short_turn() -> None:
    class Counting(selectors.SelectSelector):
        polls = 0

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            Counting.polls += 1
            return super().select(timeout)

    async def main() -> int:
        for _ in range(100):
            await runtime.sleep(0)
        before = Counting.polls
        for _ in range(800):
            await runtime.sleep(0)
        return Counting.polls - before

    assert runtime.run(main(), loop_factory=lambda: runtime.Loop(Counting())) in range(99, 102)


def test_a_busy_loop_sees_events_between_short_turns() -> None:
    async def main() -> None:
        receiver, sender = os.pipe()
        loop = runtime.get_running_loop()
        seen: list[int] = []
        for _ in range(200):
            await runtime.sleep(0)
        loop.add_reader(receiver, lambda: seen.append(1))
        os.write(sender, b"x")
        while not seen:
            await runtime.sleep(0)
        loop.remove_reader(receiver)
        os.close(receiver)
        os.close(sender)

    runtime.run(main())


def test_each_run_of_a_busy_loop_polls_in_its_first_turn() -> None:
    async def spin(turns: int) -> None:
        for _ in range(turns):
            await runtime.sleep(0)

    left, right = socket.socketpair()
    with left, right:
        loop = runtime.new_event_loop()
        received: list[bytes] = []
        loop.add_reader(left, lambda: received.append(left.recv(10)))
        for turns in range(100, 109):
            loop.run_until_complete(spin(turns))
            right.send(b"x")
            loop.stop()
            loop.run_forever()
            assert received.pop() == b"x"
        loop.remove_reader(left)
        loop.close()

"""``wait_all_tasks_blocked``: the events that it waits for, those that it ignores, the cushion."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any

import pytest

import runtime
from runtime.kernel.core import LoopCore
from runtime.testing import VirtualClock, blocked, new_event_loop, run, wait_all_tasks_blocked
from runtime.testing.clock import poll_without_jumping

HOUR = 3600.0

Clock = Callable[[Awaitable[None]], None]


@pytest.fixture(params=["real", "virtual"])
def run_on_clock(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine on the real clock, and on a virtual one that waits for real I/O."""
    if request.param == "real":
        return functools.partial(run, clock="real")
    return functools.partial(run, real_io="wait")


class FakeMonotonic:
    """The real time that the check sees: each look at it takes ``step`` seconds.

    ``on_look`` is called with the number of the look, starting with 1.
    """

    def __init__(self, step: float, on_look: Callable[[int], object]) -> None:
        self._step = step
        self._on_look = on_look
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        self._on_look(self.looks)
        return self.looks * self._step


async def pass_on(link: int, log: list[int]) -> None:
    """Start the next task of a chain, and log its number when that one has ended."""
    await runtime.sleep(0)
    if link:
        await runtime.create_task(pass_on(link - 1, log))
    log.append(link)


def test_tasks_go_as_far_as_they_can(run_on_clock: Clock) -> None:
    async def main() -> None:
        log: list[int] = []
        chain = runtime.create_task(pass_on(40, log))
        await wait_all_tasks_blocked()
        assert log == list(range(41))
        assert chain.done()

    run_on_clock(main())


def test_tasks_that_wait_are_not_waited_for(run_on_clock: Clock) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        release = threading.Event()
        event = runtime.Event()
        tasks = [
            runtime.create_task(runtime.sleep(HOUR)),
            runtime.create_task(event.wait()),
            runtime.create_task(runtime.to_thread(release.wait)),
        ]
        try:
            before = loop.time()
            await wait_all_tasks_blocked()
            assert not any(task.done() for task in tasks)
            assert loop.time() - before < HOUR
            event.set()
            await wait_all_tasks_blocked()
            assert [task.done() for task in tasks] == [False, True, False]
        finally:
            release.set()
            tasks[0].cancel()
            await runtime.wait(tasks)

    run_on_clock(main())


def test_the_virtual_clock_does_not_move() -> None:
    async def main() -> None:
        sleeping = runtime.create_task(runtime.sleep(1))
        await wait_all_tasks_blocked()
        await wait_all_tasks_blocked(cushion=0.01)
        assert clock() == 5
        await sleeping
        assert clock() == 6

    clock = VirtualClock(5)
    run(main(), clock=clock)


def test_timers_that_are_due_are_waited_for(run_on_clock: Clock) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        log: list[int] = []

        def tick(rest: int) -> None:
            log.append(rest)
            if rest:
                loop.call_at(loop.time(), tick, rest - 1)

        loop.call_later(0, tick, 5)
        await wait_all_tasks_blocked()
        assert log == [5, 4, 3, 2, 1, 0]

    run_on_clock(main())


def test_a_timer_that_is_set_and_due_in_the_turn_of_the_check_is_waited_for(
    run_on_clock: Clock,
) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        log: list[str] = []
        loop.call_soon(loop.call_at, loop.time(), log.append, "due")
        await wait_all_tasks_blocked()
        assert log == ["due"]

    run_on_clock(main())


def test_cancelled_timers_do_not_matter(run_on_clock: Clock) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.call_at(loop.time(), pytest.fail).cancel()
        await wait_all_tasks_blocked()

    run_on_clock(main())


class Echo(asyncio.Protocol):
    """Sends back each byte that arrives, less one, until it is zero; no task takes part."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.current_tasks: set[Any] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data[0])
        self.current_tasks.add(asyncio.current_task())
        if data[0]:
            self.transport.write(bytes([data[0] - 1]))


def test_protocols_go_as_far_as_they_can(run_on_clock: Clock) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        ends = [await loop.create_connection(Echo, sock=sock) for sock in socket.socketpair()]
        (transport, left), (_, right) = ends
        transport.write(b"\x1e")
        await wait_all_tasks_blocked()
        assert right.received == list(range(30, -1, -2))
        assert left.received == list(range(29, 0, -2))
        assert left.current_tasks | right.current_tasks == {None}
        for each, _ in ends:
            each.close()
        await wait_all_tasks_blocked()

    run_on_clock(main())


def test_events_that_the_check_finds_are_handled_outside_of_tasks(run_on_clock: Clock) -> None:
    async def send(sock: socket.socket) -> None:
        sock.send(b"\0")

    async def main() -> None:
        loop = runtime.get_running_loop()
        ours, theirs = socket.socketpair()
        with closing(theirs):
            transport, protocol = await loop.create_connection(Echo, sock=ours)
            # It sends in the turn of the check, just before that.
            sending = runtime.create_task(send(theirs))
            await wait_all_tasks_blocked()
            assert (protocol.received, protocol.current_tasks) == ([0], {None})
            await sending
            transport.close()
            await wait_all_tasks_blocked()

    run_on_clock(main())


def test_calls_from_other_threads_are_waited_for(run_on_clock: Clock) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        calls: list[int] = []

        def call() -> None:
            for number in range(1000):  # More than one turn of the loop takes from a thread.
                loop.call_soon_threadsafe(calls.append, number)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        await wait_all_tasks_blocked()
        assert calls == list(range(1000))

    run_on_clock(main())


def test_tasks_that_wait_for_it_wake_together(run_on_clock: Clock) -> None:
    async def main() -> None:
        log: list[str] = []

        async def wait(name: str) -> None:
            await wait_all_tasks_blocked()
            log.append(name)

        async with runtime.TaskGroup() as group:
            group.create_task(wait("first"))
            group.create_task(wait("second"))
            await wait_all_tasks_blocked()
            log.append("body")
        assert sorted(log) == ["body", "first", "second"]

    run_on_clock(main())


def test_the_shortest_cushion_comes_first(run_on_clock: Clock) -> None:
    async def main() -> None:
        log: list[float] = []

        async def wait(cushion: float) -> None:
            await wait_all_tasks_blocked(cushion)
            log.append(cushion)

        async with runtime.TaskGroup() as group:
            for cushion in (0.03, 0.02, 0.0):
                group.create_task(wait(cushion))
        assert log == [0.0, 0.02, 0.03]

    run_on_clock(main())


def test_the_cushion_begins_anew_when_something_runs(
    run_on_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    async def main() -> None:
        loop = runtime.get_running_loop()

        def call_something(look: int) -> None:
            if look in (3, 6):
                loop.call_soon_threadsafe(calls.append, look)

        loop.slow_callback_duration = 0.001  # Have it poll for no longer than that.
        clock = FakeMonotonic(1.0, call_something)
        monkeypatch.setattr(blocked, "time", clock)
        await wait_all_tasks_blocked(cushion=3.5)
        # Looks 1 to 3 and 4 to 6 are interrupted; 7 to 11 are four seconds without anything.
        assert (calls, clock.looks) == ([3, 6], 11)

    run_on_clock(main())


def test_an_event_begins_the_cushion_anew(
    run_on_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        ours, theirs = socket.socketpair()
        with closing(theirs):
            transport, protocol = await loop.create_connection(Echo, sock=ours)

            def send_something(look: int) -> None:
                if look == 2:
                    theirs.send(b"\0")

            loop.slow_callback_duration = 0.001
            clock = FakeMonotonic(1.0, send_something)
            monkeypatch.setattr(blocked, "time", clock)
            await wait_all_tasks_blocked(cushion=1.5)
            assert (protocol.received, clock.looks) == ([0], 5)
            transport.close()
            await runtime.sleep(0)

    run_on_clock(main())


def test_a_timer_begins_the_cushion_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        ran: list[int] = []

        def set_timer(look: int) -> None:
            if look == 2:
                loop.call_later(0.001, ran.append, look)

        clock = FakeMonotonic(1.0, set_timer)
        monkeypatch.setattr(blocked, "time", clock)
        await wait_all_tasks_blocked(cushion=1.5)
        assert (ran, clock.looks) == ([2], 5)

    run(main(), clock="real")


def test_no_part_of_a_cushion_takes_as_long_as_a_slow_callback(
    run_on_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise debug mode and the watch for slow callbacks would report the check."""
    timeouts: list[float] = []

    def poll(loop: LoopCore, timeout: float, next_timer: float) -> None:
        timeouts.append(timeout)
        poll_without_jumping(loop, timeout, next_timer)

    async def main() -> None:
        runtime.get_running_loop().slow_callback_duration = 0.05
        await wait_all_tasks_blocked(cushion=0.15)

    monkeypatch.setattr(blocked, "poll_without_jumping", poll)
    run_on_clock(main())
    assert 0 < max(timeouts) <= 0.05 / 2


def test_it_can_be_cancelled(run_on_clock: Clock) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        cancelled = runtime.create_task(wait_all_tasks_blocked())
        other = runtime.create_task(wait_all_tasks_blocked())
        await runtime.sleep(0)
        cancelled.cancel()
        await other
        await runtime.wait([cancelled])
        assert cancelled.cancelled()
        with pytest.raises(TimeoutError):
            async with runtime.timeout(0):
                await wait_all_tasks_blocked()
        # The check leaves the ready queue when it has found that no task waits for it.
        await runtime.sleep(0)
        assert not loop._ready

    run_on_clock(main())


def test_a_task_that_waits_keeps_the_run_from_being_idle(run_on_clock: Any) -> None:
    log: list[str] = []

    async def wait() -> None:
        await wait_all_tasks_blocked(cushion=0.01)
        log.append("blocked")

    async def main() -> None:
        runtime.create_task(wait())

    run_on_clock(main(), until="idle")
    assert log == ["blocked"]


def test_a_daemon_that_waits_does_not_keep_the_run_going(run_on_clock: Any) -> None:
    async def wait_again_and_again() -> None:
        while True:
            await wait_all_tasks_blocked()

    async def main() -> str:
        runtime.create_task(wait_again_and_again(), daemon=True)
        await runtime.sleep(0)
        return "done"

    assert run_on_clock(main(), until="idle") == "done"


def test_it_goes_on_after_the_loop_was_left() -> None:
    """An exception that leaves the loop from the check's own poll does not lose the check."""

    class Exits(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise SystemExit(data)

    async def wait(sock: socket.socket) -> None:
        # It runs in the turn of the check, before that: the loop has polled by then.
        runtime.get_running_loop().call_soon(sock.send, b"x")
        await wait_all_tasks_blocked()

    with closing(new_event_loop(real_io="wait")) as loop:
        ours, theirs = socket.socketpair()
        with closing(theirs):
            transport, _ = loop.run_until_complete(loop.create_connection(Exits, sock=ours))
            waiting = loop.create_task(wait(theirs))
            with pytest.raises(SystemExit):
                loop.run_until_complete(waiting)
            assert not waiting.done()
            loop.run_until_complete(waiting)
            transport.close()
            loop.run_until_complete(runtime.sleep(0))


@pytest.mark.parametrize("cushion", [-1, -0.001, float("inf"), float("nan")])
def test_a_cushion_is_a_finite_number_that_is_not_negative(cushion: float) -> None:
    with pytest.raises(ValueError, match=r"wait_all_tasks_blocked\(\)"):
        run(wait_all_tasks_blocked(cushion))


def test_a_cushion_is_a_number() -> None:
    with pytest.raises(TypeError, match=r"wait_all_tasks_blocked\(\)"):
        run(wait_all_tasks_blocked("1"))  # type: ignore[arg-type]


def test_it_is_refused_on_another_loop() -> None:
    with pytest.raises(RuntimeError, match="must be one of runtime's"):
        asyncio.run(wait_all_tasks_blocked())


async def test_the_joined_writes_of_a_connection_have_arrived() -> None:
    """A connection that writes twice in a turn has both sent at its end, behind the check."""

    async def write_twice() -> None:
        writer.write(b"head;")
        writer.write(b"body;")

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, writer = await runtime.open_connection(*listener.getsockname())
        peer, _ = listener.accept()
    with closing(peer):
        async with writer:
            peer.setblocking(False)
            for _ in range(3):
                received = runtime.create_task(loop.sock_recv(peer, 100))
                await runtime.sleep(0)
                runtime.create_task(write_twice())
                await wait_all_tasks_blocked()
                assert received.done()
                with suppress(BlockingIOError):
                    peer.recv(100)

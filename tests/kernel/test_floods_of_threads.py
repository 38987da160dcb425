"""Threads that call faster than the loop can follow: timers, tasks and events still get turns."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.kernel.tools import turn

CALLS = 20_000
MOST = 1000
"""Number of calls that may run before a due timer or an event gets its turn."""


def flood(loop: runtime.Loop, call: Callable[[int, int], object], threads: int = 4) -> None:
    """Call from several threads, ``CALLS`` times in total, and wait until they are done."""

    def run(thread: int) -> None:
        for number in range(CALLS // threads):
            loop.call_soon_threadsafe(call, thread, number)

    running = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()


@pytest.mark.parametrize("debug", [False, True])
def test_timers_tasks_and_descriptors_come_between(loop: runtime.Loop, debug: bool) -> None:
    loop.set_debug(debug)
    loop.slow_callback_duration = 1e9
    ran = 0
    seen: dict[str, int] = {}

    def count(thread: int, number: int) -> None:
        nonlocal ran
        ran += 1

    def note(what: str) -> None:
        seen.setdefault(what, ran)

    async def step() -> None:
        await runtime.sleep(0)
        note("task")
        await runtime.sleep(0.000001)
        note("sleep")

    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            loop.add_reader(one, note, "reader")
            task = runtime.create_task(step())
            loop.call_later(0, note, "timer")
            loop.call_soon(note, "callback")
            flood(loop, count)
            other.send(b"x")
            while ran < CALLS:
                await runtime.sleep(0)
            loop.remove_reader(one)
            await task

    loop.run_until_complete(main())
    assert ran == CALLS
    assert seen.keys() == {"timer", "callback", "task", "sleep", "reader"}
    assert seen["callback"] == 0
    assert max(seen.values()) <= MOST * 4, seen


def test_threads_that_never_stop_calling_wait_for_the_loop(loop: runtime.Loop) -> None:
    """A thread gives up the interpreter after a call that has to wait: few calls pile up."""
    threads = 4
    made = [0] * threads
    ran = 0
    most = 0
    stopped = threading.Event()

    def count() -> None:
        nonlocal ran
        ran += 1

    def call(thread: int) -> None:
        while not stopped.is_set():
            loop.call_soon_threadsafe(count)
            made[thread] += 1

    async def main() -> None:
        nonlocal most
        calling = [threading.Thread(target=call, args=(thread,)) for thread in range(threads)]
        for each in calling:
            each.start()
        while ran < 2 * CALLS:
            await runtime.sleep(0)
            most = max(most, sum(made) - ran)
        stopped.set()
        for each in calling:
            each.join()

    loop.run_until_complete(main())
    assert most < CALLS


def test_the_order_of_each_thread_is_kept(loop: runtime.Loop) -> None:
    """The order is kept while the loop runs, and while it is stopped in between."""
    threads = 4
    order: list[list[int]] = [[] for _ in range(threads)]
    done = threading.Event()

    def note(thread: int, number: int) -> None:
        order[thread].append(number)

    def run() -> None:
        flood(loop, note, threads)
        done.set()
        loop.call_soon_threadsafe(loop.stop)

    flooding = threading.Thread(target=run)
    flooding.start()
    while not done.is_set():
        turn(loop)
    flooding.join()
    while loop._ready or loop._inbound:
        turn(loop)
    assert order == [[*range(CALLS // threads)]] * threads


def test_calls_of_the_loops_own_thread_keep_their_order(loop: runtime.Loop) -> None:
    order: list[int] = []

    def schedule() -> None:
        flood(loop, lambda *_: None)
        for number in range(0, 1000, 2):
            loop.call_soon(order.append, number)
            loop.call_soon_threadsafe(order.append, number + 1)

    # These calls come before the loop runs, from the thread that will run it.
    for number in range(-1000, 0, 2):
        loop.call_soon(order.append, number)
        loop.call_soon_threadsafe(order.append, number + 1)
    loop.call_soon(schedule)
    while len(order) < 2000:
        turn(loop)
    assert order == [*range(-1000, 1000)]
    while loop._inbound:
        turn(loop)


def test_a_call_that_waits_can_be_cancelled(loop: runtime.Loop) -> None:
    ran: list[object] = []
    handles: list[Any] = []

    def schedule() -> None:
        flood(loop, lambda *_: None)
        thread = threading.Thread(
            target=lambda: handles.append(loop.call_soon_threadsafe(ran.append, 1))
        )
        thread.start()
        thread.join()
        handles[0].cancel()

    loop.call_soon(schedule)
    turn(loop, 3)
    assert loop._inbound
    while loop._inbound:
        turn(loop)
    turn(loop)
    assert ran == []


def test_a_closed_loop_releases_waiting_callbacks() -> None:
    loop = runtime.new_event_loop()
    loop.call_soon(flood, loop, lambda *_: None)
    turn(loop)
    assert loop._inbound
    loop.close()
    assert not loop._inbound
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)


def test_a_run_until_idle_runs_it_all() -> None:
    ran: list[object] = []

    async def main() -> None:
        flood(runtime.get_running_loop(), lambda *_: ran.append(None))

    runtime.run(main(), until="idle")
    assert len(ran) == CALLS

"""Reports of the calls that block a loop, with the asynchronous way to do the same."""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

import runtime
from runtime.kernel.diagnostics.blocking_calls import BlockingCall, advice_for, blocking_call_of
from runtime.observe import BlockedPlace, blocked


def call_while_it_runs(function: Callable[[], object]) -> BlockingCall:
    """Return the call that blocks ``function`` for longest, as another thread sees it."""
    found: list[BlockingCall] = []
    done = threading.Event()
    thread_id = threading.get_ident()

    def look() -> None:
        while not done.is_set():
            call = blocking_call_of(sys._current_frames()[thread_id])
            # This thread may not be in the function yet.
            if call.place.startswith(function.__qualname__) and call.call:
                found.append(call)
            time.sleep(0.001)

    thread = threading.Thread(target=look)
    thread.start()
    function()
    done.set()
    thread.join()
    calls = Counter(each.call for each in found)
    return max(found, key=lambda each: calls[each.call])


def sleep() -> None:
    time.sleep(0.2)


def sleep_by_another_name() -> None:
    nap = time.sleep
    nap(0.2)


def run_a_process() -> None:
    subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(0.2)"], check=True)


def wait_for_an_event() -> None:
    threading.Event().wait(0.2)


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=0.2)


def get_from_a_queue() -> None:
    try:
        queue.Queue[int]().get(timeout=0.2)
    except queue.Empty:
        pass


def receive() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(0.2)
        try:
            one.recv(1)
        except TimeoutError:
            pass


def read_a_pipe() -> None:
    reading, writing = os.pipe()
    threading.Timer(0.2, os.close, [writing]).start()
    os.read(reading, 1)
    os.close(reading)


@pytest.mark.parametrize(
    ("function", "call", "instead"),
    [
        (sleep, "time.sleep(0.2)", "await runtime.sleep()"),
        (sleep_by_another_name, "nap(0.2)", "await runtime.sleep()"),
        (run_a_process, "subprocess.run()", "runtime.create_subprocess_exec()"),
        (wait_for_an_event, "threading.Event.wait()", "runtime.Lock, runtime.Event"),
        (wait_for_a_lock, "lock.acquire(timeout=0.2)", "runtime.Lock, runtime.Event"),
        (get_from_a_queue, "queue.Queue.get()", "runtime.Queue"),
        (receive, "one.recv(1)", "runtime.open_connection()"),
        (read_a_pipe, "os.read(reading, 1)", "runtime.to_thread()"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_call_is_named_and_what_to_use_instead(
    function: Callable[[], object], call: str, instead: str
) -> None:
    found = call_while_it_runs(function)
    assert found.call == call
    assert found.instead.startswith(instead)
    assert found.place.startswith(f"{function.__name__}() at {__file__}:")


def test_a_calculation_has_a_line_and_no_call() -> None:
    found: list[BlockingCall] = []

    def calculate() -> None:
        frame = sys._getframe()
        found.append(blocking_call_of(frame))

    calculate()
    assert found[0].place.endswith(f"{__file__}:{calculate.__code__.co_firstlineno + 2}")
    assert found[0].instead == "runtime.to_thread(), or a process for a calculation"


def test_advice_is_found_by_the_function_or_by_its_module() -> None:
    assert advice_for("requests.sessions.Session.send") == advice_for("requests")
    assert advice_for("time.sleep") != advice_for("time")
    assert advice_for("time") is advice_for("") is None


async def stall(times: int, places: Callable[[], list[BlockedPlace]], pause: float) -> None:
    deadline = time.monotonic() + 30
    while not places() or places()[0].count <= times:
        assert time.monotonic() < deadline
        time.sleep(pause)
        await runtime.sleep(0.01)


def test_a_place_is_reported_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[BlockedPlace]:
        loop = runtime.get_running_loop()
        assert blocked() == []
        loop.watch_slow_callbacks(0.005)
        await runtime.create_task(stall(10, blocked, 0.03), name="stalling")
        found = blocked()
        loop.watch_slow_callbacks(None)
        return found

    with caplog.at_level(logging.WARNING):
        places = runtime.run(main(), debug=False)
    place = places[0]
    assert (place.task, place.coroutine) == ("stalling", "stall")
    assert place.call.call == "time.sleep(pause)"
    assert place.count >= 10
    assert 0.01 <= place.longest <= place.total
    texts = [text for record in caplog.records if "sleep(pause)" in (text := record.getMessage())]
    assert len(texts) == 2
    assert "stuck for more than 0.005 seconds in one turn, at:" in texts[0]
    assert texts[0].endswith(
        f"In task 'stalling', {place.call.place} calls time.sleep(pause). "
        "Use await runtime.sleep() instead."
    )
    assert texts[1].startswith("The event loop was stuck 10 times, for ")


def test_a_callback_that_blocks_is_reported_as_one(caplog: pytest.LogCaptureFixture) -> None:
    loop = runtime.new_event_loop()
    loop.watch_slow_callbacks(0.005)

    def block() -> None:
        deadline = time.monotonic() + 30
        while not blocked(loop) and time.monotonic() < deadline:
            time.sleep(0.02)

    loop.call_soon(block)
    loop.call_soon(loop.stop)
    with caplog.at_level(logging.WARNING):
        loop.run_forever()
    (place,) = [each for each in blocked(loop) if "block" in each.call.place]
    assert (place.task, place.coroutine) == ("", "")
    assert str(place).startswith("In a callback, test_a_callback")
    loop.close()
    with pytest.raises(RuntimeError, match="no running event loop"):
        blocked()


def test_a_thousand_places_are_kept_and_the_rest_is_one() -> None:
    loop = runtime.new_event_loop()
    loop.watch_slow_callbacks(10)
    watch = loop._slow_watch
    assert watch is not None
    for number in range(1100):
        call = BlockingCall(f"place {number}", "call", "nothing")
        watch._count(BlockedPlace(call, "", "", 0, 0.0, 0.0), 1.0, None)
    places = blocked(loop)
    assert len(places) == 1001
    assert places[0].count == 100
    loop.close()

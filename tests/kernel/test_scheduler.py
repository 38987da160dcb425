"""Callbacks, timers and descriptors of a loop, and reports of errors without a receiver."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from runtime.kernel.handles import Runnable
from runtime.kernel.timers import TimerHeap
from tests.kernel.tools import turn


def test_call_soon_keeps_the_order_and_the_turns(loop: runtime.Loop) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        loop.call_soon(calls.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(calls.append, "second")
    turn(loop)
    assert calls == ["first", "second"]
    turn(loop)
    assert calls == ["first", "second", "next turn"]


def test_cancelled_handles_do_not_run(loop: runtime.Loop) -> None:
    calls: list[int] = []
    handle = loop.call_soon(calls.append, 1)
    assert not handle.cancelled()
    assert "append" in repr(handle)
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    assert repr(handle) == "<Handle cancelled>"
    handles: list[runtime.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(calls.append, 2))
    turn(loop)
    assert calls == []


def test_contexts(loop: runtime.Loop) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []
    context = contextvars.copy_context()
    context.run(variable.set, 5)
    handle = loop.call_soon(lambda: seen.append(variable.get()), context=context)
    assert handle.get_context() is context
    loop.call_later(0, lambda: seen.append(variable.get()), context=context)
    loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=context)
    loop.call_soon(lambda: seen.append(variable.get()))
    variable.set(1)
    loop.run_until_complete(runtime.sleep(0.001))
    assert sorted(seen) == [0, 5, 5, 5]


def test_timers_run_in_the_order_of_their_deadlines(loop: runtime.Loop) -> None:
    calls: list[Any] = []
    now = loop.time()
    loop.call_at(now + 0.003, calls.append, "late")
    for number in range(5):
        loop.call_at(now + 0.001, calls.append, number)
    loop.call_at(now - 1, calls.append, "past")
    handle = loop.call_later(0.002, calls.append, "cancelled")
    assert handle.when() == pytest.approx(now + 0.002, abs=0.1)
    assert " when=" in repr(handle)
    handle.cancel()
    handle.cancel()
    loop.run_until_complete(runtime.sleep(0.01))
    assert calls == ["past", 0, 1, 2, 3, 4, "late"]
    handle.cancel()


def test_bad_input_raises_at_the_call(loop: runtime.Loop) -> None:
    async def coroutine_function() -> None: ...

    schedules: list[Callable[[Any], object]] = [
        loop.call_soon,
        loop.call_soon_threadsafe,
        lambda callback: loop.call_later(1, callback),
        lambda callback: loop.call_at(1, callback),
        lambda callback: loop.add_reader(0, callback),
        lambda callback: loop.add_writer(0, callback),
    ]
    for schedule in schedules:
        coro = coroutine_function()
        with pytest.raises(TypeError, match="create_task"):
            schedule(coro)
        with pytest.raises(TypeError, match="callable"):
            schedule(None)
        loop.set_debug(True)
        with pytest.raises(TypeError, match="coroutine function"):
            schedule(coroutine_function)
        loop.set_debug(False)
    for method in (loop.call_later, loop.call_at):
        with pytest.raises(TypeError, match="None"):
            method(None, print)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="NaN"):
            method(float("nan"), print)


def test_a_closed_loop_takes_nothing() -> None:
    loop = runtime.new_event_loop()
    loop.call_soon(print, "never")
    loop.call_later(1, print, "never")
    loop.close()
    loop.close()
    assert loop.is_closed()
    coro = runtime.sleep(1)
    one, two = socket.socketpair()
    with one, two:
        for attempt in (
            lambda: loop.call_soon(print),
            lambda: loop.call_soon_threadsafe(print),
            lambda: loop.call_later(1, print),
            lambda: loop.call_at(1, print),
            lambda: loop.add_reader(one, print),
            lambda: loop.create_task(coro),
            lambda: loop.run_in_executor(None, print),
            loop.run_forever,
            lambda: loop._sleep_future(1),
        ):
            with pytest.raises(RuntimeError, match="Event loop is closed"):
                attempt()
    loop._wake()


def test_debug_mode_sees_the_wrong_thread() -> None:
    loop = runtime.new_event_loop()
    loop.set_debug(True)
    errors: list[str] = []

    def in_a_thread() -> None:
        coro = runtime.sleep(1)
        for attempt in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(1, print),
            lambda: loop.add_reader(0, print),
            lambda: loop.create_task(coro),
        ):
            try:
                attempt()
            except RuntimeError as error:
                errors.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=in_a_thread)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
    assert len(errors) == 4
    assert all("another thread" in error for error in errors)


def test_call_soon_threadsafe_from_eight_threads(loop: runtime.Loop) -> None:
    received: list[tuple[int, int]] = []
    done = loop.create_future()

    def receive(thread: int, number: int) -> None:
        received.append((thread, number))
        if len(received) == 8 * 500:
            done.set_result(None)

    def send(thread: int) -> None:
        for number in range(500):
            loop.call_soon_threadsafe(receive, thread, number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    loop.run_until_complete(done)
    for thread in threads:
        thread.join()
    for number in range(8):
        assert [n for t, n in received if t == number] == list(range(500))


def test_a_wake_up_between_the_turns_is_not_lost(loop: runtime.Loop) -> None:
    """The thread calls when the loop is asleep, about to sleep, or just awake."""
    for _ in range(200):
        done = threading.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
        thread.start()
        loop.run_forever()
        thread.join()
        done.set()


def test_readers_and_writers(loop: runtime.Loop) -> None:
    calls: list[str] = []
    one, two = socket.socketpair()
    with one, two:
        assert not loop.remove_reader(one)
        assert not loop.remove_writer(one)
        loop.add_reader(one, calls.append, "old reader")
        loop.add_reader(one.fileno(), calls.append, "reader")
        loop.add_writer(one, calls.append, "old writer")
        loop.add_writer(one, calls.append, "writer")
        two.send(b"x")
        while set(calls) != {"reader", "writer"}:
            turn(loop)
            assert set(calls) <= {"reader", "writer"}
        assert loop.remove_writer(one)
        assert not loop.remove_writer(one)
        calls.clear()
        while not calls:
            turn(loop)
        assert loop.remove_reader(one)
        assert not loop.remove_reader(one)
        calls.clear()
        turn(loop)
        turn(loop)
        assert calls == []


def test_a_reader_that_is_removed_in_its_own_turn_is_not_called(loop: runtime.Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    calls: list[int] = []

    def on_readable(number: int) -> None:
        calls.append(number)
        for one, _ in pairs:
            loop.remove_reader(one)

    for number, (one, two) in enumerate(pairs):
        loop.add_reader(one, on_readable, number)
        two.send(b"x")
    while not calls:
        turn(loop)
    turn(loop)
    assert len(calls) == 1
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_descriptors_that_are_none(loop: runtime.Loop, tmp_path: Any) -> None:
    closed = socket.socket()
    closed.close()
    for wrong in (closed, -1):
        with pytest.raises(ValueError, match="closed"):
            loop.add_reader(wrong, print)
    with pytest.raises(ValueError, match="file descriptor"):
        loop.add_reader("no", print)  # type: ignore[arg-type]
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)
    assert not loop.remove_reader(0)


async def test_a_descriptor_of_a_stream_cannot_have_another_reader() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    with two:
        _, writer = await runtime.open_connection(sock=one)
        with pytest.raises(RuntimeError, match="is used by"):
            loop.add_reader(writer.get_extra_info("socket"), print)
        writer.close()


class Failing(Exception):
    pass


def fail() -> None:
    raise Failing("in a callback")


def test_a_failing_callback_is_reported_and_the_loop_goes_on(loop: runtime.Loop) -> None:
    reports: list[dict[str, Any]] = []
    assert loop.get_exception_handler() is None
    loop.set_exception_handler(lambda _, context: reports.append(context))
    assert loop.get_exception_handler() is not None
    with pytest.raises(TypeError, match="callable"):
        loop.set_exception_handler(1)  # type: ignore[arg-type]
    loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.run_until_complete(runtime.sleep(0.001))
    assert len(reports) == 2
    assert all(isinstance(report["exception"], Failing) for report in reports)
    assert "fail() at " in reports[0]["message"]


def test_the_default_handler_logs(loop: runtime.Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    handle = loop.call_soon(fail)
    assert "created at" in repr(handle)
    turn(loop)
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert "Exception in callback" in record.getMessage()
    assert "source traceback" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Failing)


def test_a_failing_exception_handler(
    loop: runtime.Loop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(_: object, context: dict[str, Any]) -> None:
        raise Failing("in the handler")

    class Unprintable:
        def __repr__(self) -> str:
            raise Failing("in repr")

    loop.set_exception_handler(handler)
    loop.call_exception_handler({"message": "first"})
    assert "Unhandled error in exception handler" in caplog.text
    loop.set_exception_handler(None)
    loop.call_exception_handler({"task": Unprintable()})
    assert "whose repr() raised Failing" in caplog.text

    class Broken(runtime.Loop):
        def default_exception_handler(self, context: Mapping[str, Any]) -> None:
            raise Failing("in the default")

    broken = Broken()
    broken.call_exception_handler({"message": "x"})
    assert "Exception in default exception handler" in caplog.text
    broken.set_exception_handler(handler)
    broken.call_exception_handler({"message": "x"})
    assert "while handling an unexpected error" in caplog.text
    broken.close()


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_fatal_exceptions_pass(loop: runtime.Loop, fatal: type[BaseException]) -> None:
    def stop() -> None:
        raise fatal

    def handler(_: object, context: dict[str, Any]) -> None:
        raise fatal

    loop.call_soon(stop)
    with pytest.raises(fatal):
        loop.run_forever()
    loop.set_exception_handler(handler)
    with pytest.raises(fatal):
        loop.call_exception_handler({})
    loop.set_exception_handler(None)


def test_a_signal_handler_can_wake_the_loop(loop: runtime.Loop) -> None:
    def handler(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        loop.run_forever()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)


class Stamp(Runnable):
    """An entry for the heap of timers."""

    def __init__(self, when: float, heap: TimerHeap) -> None:
        self.when = when
        self.heap = heap
        self.gone = False

    def _run(self) -> None: ...

    def _due(self) -> float:
        return self.when

    def cancelled(self) -> bool:
        return self.gone

    def _leave_heap(self) -> bool:
        return not self.gone

    def cancel(self) -> None:
        if not self.gone:
            self.gone = True
            self.heap.forget(self)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(min_value=0, max_value=50)),
            st.tuples(st.just("push many"), st.integers(min_value=0, max_value=50)),
            st.tuples(st.just("cancel"), st.integers(min_value=0, max_value=300)),
            st.tuples(st.just("pop"), st.integers(min_value=0, max_value=60)),
        ),
        max_size=300,
    )
)
def test_the_heap_against_a_sorted_list(operations: list[tuple[str, int]]) -> None:
    heap = TimerHeap()
    model: list[Stamp] = []
    pushed: list[Stamp] = []
    for operation, number in operations:
        if operation.startswith("push"):
            # So many timers that they are sorted, unless the heap is already very large.
            for step in range(100 if operation == "push many" else 1):
                stamp = Stamp((number + step * 7) % 51, heap)
                heap.push(stamp, stamp.when)
                pushed.append(stamp)
                model.append(stamp)
            model.sort(key=lambda stamp: stamp.when)
        elif operation == "cancel" and pushed:
            stamp = pushed[number % len(pushed)]
            if stamp in model:
                stamp.cancel()
                model.remove(stamp)
        elif operation == "pop":
            heap.merge()
            expected = model[0].when - 3 if model else -1.0
            assert heap.wait_time(3) == (max(expected, 0.0) if model else -1.0)
            due: list[Runnable] = []
            heap.pop_due(number, due.append)
            split = sum(stamp.when <= number for stamp in model)
            assert due == model[:split]
            model = model[split:]
    heap.merge()
    rest: list[Runnable] = []
    heap.pop_due(1e9, rest.append)
    assert rest == model


@pytest.mark.slow
def test_a_million_timers(loop: runtime.Loop) -> None:
    handles = [loop.call_later(3600 + n % 1000, print) for n in range(1_000_000)]
    turn(loop)
    assert loop._timers.size() == 1_000_000
    for handle in handles[::2]:
        handle.cancel()
    for handle in handles[1::2]:
        handle.cancel()
    turn(loop)
    assert loop._timers.size() < 1000


def test_setting_and_cancelling_without_end_keeps_the_heap_small(loop: runtime.Loop) -> None:
    kept = [loop.call_later(3600, print) for _ in range(10)]
    turn(loop)
    for number in range(100_000):
        handle = loop.call_later(10 + number % 7, print)
        second = loop.call_later(20, print)
        if number % 50 == 0:
            turn(loop)
        handle.cancel()
        second.cancel()
    assert loop._timers.size() < 1000
    assert not any(handle.cancelled() for handle in kept)


def test_timers_far_in_the_future(loop: runtime.Loop) -> None:
    loop.call_later(1e12, print, "not in this life")
    loop.call_later(float("inf"), print, "never")
    threading.Timer(0.02, loop.call_soon_threadsafe, (loop.stop,)).start()
    loop.run_forever()


def test_the_logger_is_asyncios() -> None:
    assert logging.getLogger("asyncio") is logging.getLogger(asyncio.__name__)

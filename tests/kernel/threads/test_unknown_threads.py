"""Threads unknown to ``threading``: while one of them may wake the loop, there is no deadlock."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.threads.unknown_threads import is_referenced_by_program, unknown_threads
from runtime.testing import run
from tests.support.programs import run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pthread_create")

_START = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


class Native:
    """Threads created by the C library, which call back once."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._begun: list[tuple[ctypes.c_ulong, object]] = []

    def start(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` in a new thread, some time after it has begun."""

        def begin(_: object) -> None:
            callback()

        # The wait is entirely in C, so that the interpreter does not know of the thread.
        code = _START(begin)
        number = ctypes.c_ulong()
        assert self._library.pthread_create(ctypes.byref(number), None, code, None) == 0
        self._begun.append((number, code))

    def join(self) -> None:
        for number, _ in self._begun:
            self._library.pthread_join(number, None)
        self._begun.clear()


@pytest.fixture
def native() -> Iterator[Native]:
    threads = Native()
    yield threads
    threads.join()


def wait_in_c(seconds: float) -> None:
    ctypes.CDLL(None).usleep(ctypes.c_uint(int(seconds * 1e6)))


def read_in_c(descriptor: int) -> None:
    ctypes.CDLL(None).read(descriptor, ctypes.create_string_buffer(1), 1)


class Player:
    """Holds a loop that the callbacks of a library wake, as programs do."""

    def __init__(self) -> None:
        self.loop = runtime.get_running_loop()
        self.ended = runtime.Event()

    def callback(self) -> None:
        wait_in_c(0.2)
        self.loop.call_soon_threadsafe(self.ended.set)


def by_closure(wake: Callable[[], object]) -> Callable[[], object]:
    loop = runtime.get_running_loop()

    def callback() -> None:
        wait_in_c(0.2)
        loop.call_soon_threadsafe(wake)

    return callback


def by_method(wake: Callable[[], object]) -> Callable[[], object]:
    call = runtime.get_running_loop().call_soon_threadsafe

    def callback() -> None:
        wait_in_c(0.2)
        call(wake)

    return callback


def by_partial(wake: Callable[[], object]) -> Callable[[], object]:
    def callback(loop: runtime.Loop) -> None:
        wait_in_c(0.2)
        loop.call_soon_threadsafe(wake)

    return functools.partial(callback, runtime.get_running_loop())


HELD: list[Callable[[Callable[[], object]], Callable[[], object]]] = [
    by_closure,
    by_method,
    by_partial,
]


def in_debug_mode(main: Any) -> None:
    runtime.run(main, debug=True)


def until_idle(main: Any) -> None:
    runtime.run(main, until="idle")


def on_the_real_clock(main: Any) -> None:
    run(main, clock="real")


runs = pytest.mark.parametrize("run_it", [run, on_the_real_clock, in_debug_mode, until_idle])


@runs
@pytest.mark.parametrize("hold", HELD)
def test_a_callback_of_a_c_library_may_still_come(
    native: Native, run_it: Callable[[Any], None], hold: Callable[[Any], Callable[[], object]]
) -> None:
    async def main() -> None:
        event = runtime.Event()
        native.start(hold(event.set))
        await event.wait()

    run_it(main())


@runs
def test_an_object_of_the_program_s_may_hold_the_loop(
    native: Native, run_it: Callable[[Any], None]
) -> None:
    async def main() -> None:
        player = Player()
        native.start(player.callback)
        await player.ended.wait()

    run_it(main())


@runs
def test_suspend_may_be_resumed(native: Native, run_it: Callable[[Any], None]) -> None:
    async def main() -> None:
        def arm(resume: runtime.Resume[str]) -> None:
            def callback() -> None:
                wait_in_c(0.2)
                resume("woken")

            native.start(callback)

        assert await runtime.suspend(arm) == "woken"

    run_it(main())


@runs
def test_a_concurrent_future_may_be_finished(native: Native, run_it: Callable[[Any], None]) -> None:
    async def main() -> None:
        future: concurrent.futures.Future[str] = concurrent.futures.Future()

        def callback() -> None:
            wait_in_c(0.2)
            future.set_result("woken")

        native.start(callback)
        assert await runtime.wrap_future(future) == "woken"

    run_it(main())


@runs
def test_a_thread_of_the_module__thread_may_wake_it(run_it: Callable[[Any], None]) -> None:
    ended = threading.Event()

    async def main() -> None:
        event = runtime.Event()

        def wake(loop: runtime.Loop) -> None:
            time.sleep(0.2)
            loop.call_soon_threadsafe(event.set)
            ended.set()

        _thread.start_new_thread(wake, (runtime.get_running_loop(),))
        await event.wait()

    run_it(main())
    assert ended.wait(60)


ENDED = """
import runtime
from tests.kernel.threads.test_unknown_threads import Native, by_closure

async def main():
    native.start(by_closure(print))
    await runtime.Event().wait()

native = Native()
try:
    runtime.run(main(), debug=True)
except runtime.DeadlockError as error:
    print(error)
native.join()
"""


def test_once_it_has_ended_a_deadlock_is_reported() -> None:
    # This runs in a process of its own, in which no test tool has a thread.
    done = run_program("-c", ENDED)
    assert done.returncode == 0, done.stderr
    called_back, report = done.stdout.split("\n", 1)
    assert called_back == ""
    assert report.startswith("Deadlock: ")
    assert "loop.set_deadlock_reports(False)" in report


@runs
def test_a_thread_that_cannot_know_the_loop_keeps_no_deadlock_from_being_reported(
    native: Native, run_it: Callable[[Any], None]
) -> None:
    class Own(runtime.Event):
        pass

    read_end, write_end = os.pipe()

    async def main() -> None:
        loop = runtime.get_running_loop()
        tasks: list[Any] = [
            loop.create_task(asyncio.Event().wait()),
            loop.create_task(Own().wait()),
        ]
        native.start(functools.partial(read_in_c, read_end))
        assert not is_referenced_by_program(loop)
        await tasks[0]

    with pytest.raises(runtime.DeadlockError):
        run_it(main())
    assert unknown_threads(), "the thread has not ended"
    os.close(write_end)
    native.join()
    os.close(read_end)


@runs
def test_the_report_can_be_turned_off(native: Native, run_it: Callable[[Any], None]) -> None:
    if run_it is until_idle:
        pytest.skip("a run until idle ends instead of reporting a deadlock")

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.set_deadlock_reports(False)
        event = runtime.Event()
        # The callback knows the loop only by its address, a reference that cannot be detected.
        address = id(loop)

        def callback() -> None:
            wait_in_c(0.5)
            loop: runtime.Loop = ctypes.cast(address, ctypes.py_object).value
            loop.call_soon_threadsafe(event.set)

        native.start(callback)
        await event.wait()

    run_it(main())


def test_it_can_be_turned_on_without_debug_mode() -> None:
    async def main() -> None:
        runtime.get_running_loop().set_deadlock_reports(True)
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError):
        runtime.run(main(), debug=False)

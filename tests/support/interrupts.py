"""Interrupts of Python code at every moment at which a signal handler can run.

The interpreter runs signal handlers when a Python function begins or resumes, after a call of a C
function, and at the end of each iteration of a loop. A profile function is called at the first two
moments, and can do there the same as a signal handler: raise, or have a signal handled. It is not
called in compiled code, which runs no signal handlers either.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from runtime.kernel.compat.registry import running_loops


class Interrupted(KeyboardInterrupt):
    """Exception raised by a signal handler of the program."""


def raise_interrupted() -> None:
    """Raise, as a signal handler of a program may do."""
    raise Interrupted


def press_ctrl_c() -> None:
    """Have SIGINT handled immediately by the installed handler."""
    signal.raise_signal(signal.SIGINT)


async def count() -> AsyncGenerator[int, None]:
    """Yield once; the end of a run has to close the generator."""
    try:
        yield 1
    finally:
        await asyncio.sleep(0)


async def program(pause: float) -> int:
    """Return 1, leaving a task and an asynchronous generator to the end of the run."""
    task = asyncio.ensure_future(asyncio.sleep(3600))
    generator = count()
    await anext(generator)
    await asyncio.sleep(pause)
    return 1 + task.done()


MOMENTS = ("call", "c_return", "c_exception")


def interrupted_at(moment: int, interrupt: Callable[[], None], work: Callable[[], object]) -> bool:
    """Call ``work()``, and ``interrupt()`` at the moment with the number ``moment``; let it raise.

    Returns whether the moment was reached.
    """
    left = moment

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event in MOMENTS:
            left -= 1
            if left == 0:
                interrupt()

    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(None)
    return left <= 0


def interrupted_at_bytecode(
    number: int,
    is_traced: Callable[[CodeType], bool],
    work: Callable[[], object],
    error: type[BaseException] = Interrupted,
) -> bool:
    """Call ``work()``, and raise ``error`` before the bytecode with the number ``number``.

    Counted are the bytecodes of interpreted functions for whose code ``is_traced`` returns True.
    These are more moments than those at which the interpreter runs signal handlers. Returns whether
    there were so many bytecodes; if the exception leaves ``work()``, it is not caught.
    """
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if event == "call":
            if not is_traced(frame.f_code):
                return None
            frame.f_trace = trace  # From Python 3.13 on, the next line needs it.
            frame.f_trace_opcodes = True
        elif event == "opcode":
            left -= 1
            if left == 0:
                raise error  # This also ends the tracing.
        return trace

    before = sys.gettrace()
    here = sys._getframe()
    here.f_trace_opcodes = True  # Python 3.12 has to know beforehand that bytecodes are traced.
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        here.f_trace_opcodes = False
    return left <= 0


class State:
    """State of the process that a run must restore."""

    def __init__(self) -> None:
        gc.collect()
        self.running = {**running_loops, 0: asyncio._get_running_loop()}
        self.hooks = sys.get_asyncgen_hooks()
        self.origins = sys.get_coroutine_origin_tracking_depth()
        self.handler = signal.getsignal(signal.SIGINT)
        self.wakeup_fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self.wakeup_fd)
        self.descriptors = set(os.listdir("/proc/self/fd"))
        self.threads = {thread for thread in threading.enumerate() if thread.is_alive()}

    def difference(self) -> list[str]:
        """Return the names of the parts that have changed, with their old and new values."""
        now = State()
        return [
            f"{name}: {value}, then {getattr(now, name)}"
            for name, value in vars(self).items()
            if getattr(now, name) != value
        ]


def every_moment(
    interrupt: Callable[[], None],
    work: Callable[[], object],
    *expected: type[BaseException],
    settle: Callable[[], object] = lambda: None,
) -> Iterator[int]:
    """Interrupt ``work()`` at each moment in turn, and yield the number of each.

    ``work()`` has to return, or raise one of ``expected``. After ``settle()``, the state must be
    the same as before.
    """
    work()
    before = State()
    gc.freeze()  # The collector runs after each moment, and need not look at older objects.
    try:
        for moment in itertools.count(1):
            came = True
            with contextlib.suppress(*expected):
                came = interrupted_at(moment, interrupt, work)
            settle()
            assert before.difference() == [], f"after an interrupt at moment {moment}"
            if not came:
                return
            yield moment
    finally:
        gc.unfreeze()

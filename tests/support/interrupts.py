"""Interrupting a piece of Python at every moment at which the handler of a signal can run.

The interpreter runs handlers when a function of Python begins or goes on, after a call of a
function of C, and at the end of each round of a loop. The first two are what a profiler is told of,
so that a profiler can do there what a handler would: raise, or have a signal handled. It is told
nothing of compiled code, which runs no handlers either.
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
from types import FrameType

from runtime.kernel.compat.registry import running_loops


class Interrupted(KeyboardInterrupt):
    """What the handler of a signal of the program's raises."""


def raise_interrupted() -> None:
    """Do what the handler of a signal does that raises."""
    raise Interrupted


def press_ctrl_c() -> None:
    """Have SIGINT handled here and now, by whatever handler is installed."""
    signal.raise_signal(signal.SIGINT)


async def count() -> AsyncGenerator[int, None]:
    """Yield once; the end of a run has to close it."""
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
    """Call ``work()``, and ``interrupt()`` at a moment of it, by its number; let it raise.

    Returns whether the moment came.
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


class State:
    """What a run must leave as it was."""

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
        """Return what is not as it was, with its name."""
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
    """Interrupt ``work()`` at each moment in turn, and give the number of each.

    It has to return, or raise one of ``expected``; and, after ``settle()``, all must be as before.
    """
    work()
    before = State()
    gc.freeze()  # The collector, which is to run after each, need not look at what was there.
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

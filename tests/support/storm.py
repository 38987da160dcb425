"""Storm of interrupts over runs that begin, continue, and end.

``python -m tests.support.storm 10000`` interrupts that many runs, each at a random moment, by a
timer of the system: half of them with a handler that raises, half with a real SIGINT. It exits with
0 if each run raised KeyboardInterrupt, or ended as if it had not been interrupted, and left the
handlers, the hooks, the threads and the descriptors of the process as they were.
"""

from __future__ import annotations

import asyncio
import collections
import faulthandler
import gc
import logging
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from types import FrameType

import runtime
from tests.support.interrupts import Interrupted, State, program

_TOGETHER = 50
"""Runs after which the collector has to find the objects that were dropped between two steps."""

_PATIENCE = 20.0
"""Seconds after which a run counts as hanging; also the limit for executor threads to end."""


async def main() -> int:
    return await program(0.0002)


async def main_with_threads() -> int:
    return await runtime.to_thread(int) + await main()


def with_run() -> object:
    return runtime.run(main())


def with_threads() -> object:
    return runtime.run(main_with_threads())


def with_runner() -> object:
    with runtime.Runner(debug=True) as runner:
        return runner.run(main()) * runner.run(main())


def with_loop() -> object:
    loop = runtime.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.sleep(0.0002, 1))
    finally:
        loop.close()


def with_asyncios_runner() -> object:
    try:
        with asyncio.Runner(loop_factory=runtime.new_event_loop) as runner:
            return runner.run(main())
    except asyncio.CancelledError:
        # The interrupted run may forget that it has cancelled the task, and may leave its handler.
        raise KeyboardInterrupt from None


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def send_sigint(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(work: Callable[[], object], after: float) -> str:
    """Call ``work()``; interrupt it after ``after`` seconds. Return the outcome."""
    outcome = "returned"
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, after)
            assert work() == 1
        except KeyboardInterrupt:
            outcome = "KeyboardInterrupt"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        outcome = "KeyboardInterrupt later"
    return outcome


def duration_of(work: Callable[[], object]) -> float:
    durations = []
    for _ in range(10):
        began = time.perf_counter()
        assert work() == 1
        durations.append(time.perf_counter() - began)
    return sorted(durations)[5]


def storm(rounds: int) -> collections.Counter[str]:
    works = [with_run, with_threads, with_runner, with_loop, with_asyncios_runner]
    durations = {work: duration_of(work) for work in works}
    outcomes: collections.Counter[str] = collections.Counter()
    before = State()
    for number in range(rounds):
        faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        work = works[number % len(works)]
        # The locks of the standard library's thread pool do not survive a handler that raises.
        raises = work is not with_threads and random.random() < 0.5
        signal.signal(signal.SIGALRM, raise_interrupted if raises else send_sigint)
        outcome = interrupted(work, random.uniform(1e-6, 1.2 * durations[work]))
        outcomes[f"{work.__name__}: {outcome}"] += 1
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        assert asyncio._get_running_loop() is None, outcomes
        assert handler is signal.default_int_handler or work is with_asyncios_runner, handler
        if number % _TOGETHER == 0 or number == rounds - 1:
            until = time.monotonic() + _PATIENCE / 2
            while (changed := before.difference()) and time.monotonic() < until:
                time.sleep(0.01)  # some threads are about to end
            assert not changed, f"{changed} after {number} runs"
    faulthandler.cancel_dump_traceback_later()
    return outcomes


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()  # dropped tasks would be logged
    sys.unraisablehook = lambda _: None  # a handler may raise in a finalizer
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()
    asked_for = int(sys.argv[1])
    for line, times in sorted(storm(asked_for).items()):
        print(f"{times:6d} {line}")
    print(f"{asked_for} runs left everything as it was.")

"""Interrupts while a run begins and ends: afterwards the loop has run completely, or never began.

Each test interrupts a piece of code at every moment at which a signal handler can run.
``test_runner_interrupts`` runs this file in a process of its own, because the threads of the
standard library do not survive an exception at an arbitrary moment.
"""

from __future__ import annotations

import _thread
import asyncio
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

import runtime
from tests.support.interrupts import (
    Interrupted,
    every_moment,
    press_ctrl_c,
    program,
    raise_interrupted,
)

# An interrupt between two steps drops the objects that the first step created, and tasks that never
# began.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

INTERRUPTS = [raise_interrupted, press_ctrl_c]


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence logging and unraisable exceptions: pytest would keep both until the end.

    Their tracebacks would keep the loops alive, and more loops mean more moments in each run.
    """
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


async def main() -> int:
    return await program(0)


def run_it() -> None:
    assert runtime.run(main()) == 1


def with_a_runner() -> None:
    with runtime.Runner() as runner:
        assert runner.run(main()) == 1


def until_idle() -> None:
    assert runtime.run(asyncio.sleep(0, 1), until="idle") == 1


@pytest.mark.parametrize("work", [run_it, with_a_runner, until_idle])
@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_a_run(work: Callable[[], None], interrupt: Callable[[], None]) -> None:
    for _ in every_moment(interrupt, work, KeyboardInterrupt):
        assert runtime.run(asyncio.sleep(0, "as if nothing had happened"))


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_making_and_closing_a_loop(interrupt: Callable[[], None]) -> None:
    def work() -> None:
        loop = runtime.new_event_loop()
        try:
            assert not loop.is_running()
        finally:
            loop.close()

    for _ in every_moment(interrupt, work, KeyboardInterrupt):
        pass


@pytest.fixture
def loop() -> Iterator[runtime.Loop]:
    loop = runtime.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_running_a_loop_until_a_future_is_done(
    loop: runtime.Loop, interrupt: Callable[[], None]
) -> None:
    never = loop.create_future()

    def work() -> None:
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match="stopped before"):
            loop.run_until_complete(never)

    for _ in every_moment(interrupt, work, KeyboardInterrupt):
        assert not loop.is_running()
        # No callback remains that would stop a later run, or keep it from being woken.
        loop.call_soon(loop.stop)
        loop.run_forever()
        _thread.start_new_thread(loop.call_soon_threadsafe, (loop.stop,))
        loop.run_forever()


def test_closing_a_loop_is_finished_by_closing_it_again() -> None:
    loops: list[runtime.Loop] = []

    def work() -> None:
        loop = runtime.new_event_loop()
        loops[:] = [loop]
        loop.close()

    for _ in every_moment(raise_interrupted, work, Interrupted, settle=lambda: loops[0].close()):
        assert loops[0].is_closed()

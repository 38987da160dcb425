"""``PendingWriters``: the writers whose data is sent at the end of a turn, or of a step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from functools import partial

import pytest

import runtime
from runtime.kernel import joined_writes
from runtime.kernel.joined_writes import (
    HOLD_MOST,
    LONG_STEP,
    WARY_MOST,
    WARY_TIMES,
    JoinedWrites,
    PendingWriters,
    Writer,
)
from tests.support.interrupts import Interrupted, interrupted_at_bytecode

pytestmark = pytest.mark.skipif(
    runtime.compiled, reason="an interpreted class cannot inherit from the compiled trait"
)

LONG = 1.1 * LONG_STEP
WARY = WARY_TIMES * LONG
"""Seconds for which nothing is held after a step of that length."""


class RecordedWriter(Writer):
    def __init__(self, name: str, sent: list[str], meanwhile: Callable[[], None]) -> None:
        self.name = name
        self.sent = sent
        self.meanwhile = meanwhile
        self.joined = None

    def send_joined(self) -> None:
        self.sent.append(self.name)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


def test_writers_that_are_added_meanwhile_send_too() -> None:
    sent: list[str] = []
    writers = PendingWriters()
    second = RecordedWriter("second", sent, lambda: None)
    writers.add(RecordedWriter("first", sent, lambda: writers.add(second)))
    writers.send()
    assert sent == ["first", "second"]
    assert not writers.any


def test_a_turn_that_ends_while_it_ends_forgets_no_writer() -> None:
    """As in a program that forks in a callback of its protocol, and then writes."""
    sent: list[str] = []
    writers = PendingWriters()
    late = RecordedWriter("late", sent, lambda: None)

    def fork_and_write() -> None:
        writers.send()
        writers.add(late)

    for name in ("first", "second"):
        writers.add(RecordedWriter(name, sent, lambda: None))
    writers.add(RecordedWriter("forking", sent, fork_and_write))
    writers.send()
    assert sent[-1] == "late"
    assert not writers.any


def test_an_interrupted_write_leaves_no_data_that_only_a_later_write_would_send() -> None:
    """Data that is sent directly meanwhile would overtake it."""
    writer = RecordedWriter("writer", [], lambda: None)
    came = True
    for number in itertools.count(1):
        joined = JoinedWrites()
        writers = PendingWriters()
        with contextlib.suppress(Interrupted):
            came = interrupted_at_bytecode(
                number,
                lambda code: code.co_filename == joined_writes.__file__,
                partial(joined.add, b"data", writer, writers),
            )
        if not came:
            break
        if not joined.size or not writers.any:
            assert joined.take() == b""
    assert number > 30


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(joined_writes, "_monotonic", made)
    return made


def test_data_waits_for_further_steps_for_a_limited_time(clock: Clock) -> None:
    sent: list[str] = []
    writers = PendingWriters()
    for _ in range(2):
        writers.add(RecordedWriter("writer", sent, lambda: None))
        writers.end_step()
        clock.now += 0.9 * HOLD_MOST
        writers.end_step()
        assert sent == []
        clock.now += 0.2 * HOLD_MOST
        writers.end_step()
        assert sent == ["writer"]
        assert not writers.any
        sent.clear()
        clock.now += LONG_STEP  # Nothing was waiting.


@pytest.fixture
def wary(clock: Clock) -> PendingWriters:
    """Writers that hold nothing for a while, because a step has just been long."""
    writers = PendingWriters()
    write_before_step(clock, writers, LONG)
    return writers


def write_before_step(clock: Clock, writers: PendingWriters, seconds: float) -> None:
    """Make a turn with a step that writes, and then one that takes ``seconds``."""
    writers.add(RecordedWriter("writer", [], lambda: None))
    writers.end_step()
    clock.now += seconds
    assert writers.any
    writers.end_step()
    writers.send()


def sent_by_step(writers: PendingWriters) -> bool:
    """Make a turn with one step that writes; return whether it has sent its data."""
    sent: list[str] = []
    writers.add(RecordedWriter("writer", sent, lambda: None))
    writers.end_step()
    was_sent = bool(sent)
    writers.send()
    assert sent
    assert not writers.any
    return was_sent


def test_after_a_long_step_data_waits_for_no_other_steps_for_a_while(
    clock: Clock, wary: PendingWriters
) -> None:
    clock.now += 0.9 * WARY
    assert sent_by_step(wary)
    clock.now += 0.2 * WARY
    assert not sent_by_step(wary)


def test_a_very_long_step_has_a_limited_effect(clock: Clock, wary: PendingWriters) -> None:
    """As after the process was stopped for an hour."""
    write_before_step(clock, wary, 3600.0)
    clock.now += 0.9 * WARY_MOST
    assert sent_by_step(wary)
    clock.now += 0.2 * WARY_MOST
    assert not sent_by_step(wary)


def test_a_further_long_step_prolongs_the_while(clock: Clock, wary: PendingWriters) -> None:
    clock.now += 0.9 * WARY
    write_before_step(clock, wary, LONG)
    clock.now += 0.9 * WARY
    assert sent_by_step(wary)
    clock.now += 0.2 * WARY
    assert not sent_by_step(wary)


def test_neither_a_wait_nor_short_steps_prolong_the_while(
    clock: Clock, wary: PendingWriters
) -> None:
    clock.now += 0.5 * WARY
    assert sent_by_step(wary)
    clock.now += 0.4 * WARY
    wary.add(RecordedWriter("writer", [], lambda: None))
    for _ in range(3):
        wary.end_step()
        clock.now += 0.9 * LONG_STEP
    wary.send()
    clock.now += 0.2 * WARY
    assert not sent_by_step(wary)

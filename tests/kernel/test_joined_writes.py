"""``PendingWriters``: the writers whose data is sent at the end of a step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import runtime
from runtime.kernel.joined_writes import PendingWriters, Writer

pytestmark = pytest.mark.skipif(
    runtime.compiled, reason="an interpreted class cannot inherit from the compiled trait"
)


class RecordedWriter(Writer):
    def __init__(self, name: str, sent: list[str], meanwhile: Callable[[], None]) -> None:
        self.name = name
        self.sent = sent
        self.meanwhile = meanwhile

    def end_step(self) -> None:
        self.sent.append(self.name)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()


def test_writers_that_are_added_meanwhile_send_too() -> None:
    sent: list[str] = []
    writers = PendingWriters()
    second = RecordedWriter("second", sent, lambda: None)
    writers.add(RecordedWriter("first", sent, lambda: writers.add(second)))
    writers.end_step()
    assert sent == ["first", "second"]
    assert not writers.any


def test_a_step_that_ends_while_it_ends_forgets_no_writer() -> None:
    """As in a program that forks in a callback of its protocol, and then writes."""
    sent: list[str] = []
    writers = PendingWriters()
    late = RecordedWriter("late", sent, lambda: None)

    def fork_and_write() -> None:
        writers.end_step()
        writers.add(late)

    for name in ("first", "second"):
        writers.add(RecordedWriter(name, sent, lambda: None))
    writers.add(RecordedWriter("forking", sent, fork_and_write))
    writers.end_step()
    assert sent[-1] == "late"
    assert not writers.any

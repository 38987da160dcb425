"""Samples of the durations of steps and callbacks, which ``Loop.metrics`` shows.

To time every step would cost more than many steps take. So the loop times those of two turns, and
then none for many turns: see ``kernel/observed_turns.py``. The first of the two turns is needed to
know when the entries of the second one were queued.
"""

from __future__ import annotations

import operator
from typing import Any, Final

from runtime.kernel.diagnostics.durations import DurationRecorder

SAMPLED_TURNS: Final = 2
"""Number of turns in a row that are timed."""

EVERY: Final = 512
"""Default number of turns from one sample to the next."""


class StepSampler:
    """The durations that one loop has measured, and how often it measures them."""

    __slots__ = ("callbacks", "every", "steps", "waits")

    def __init__(self) -> None:
        # Number of turns from one sample to the next; 0 for no samples.
        self.every = EVERY
        # The steps of tasks, all other entries of the ready queue, and the time that entries wait
        # there.
        self.steps = DurationRecorder()
        self.callbacks = DurationRecorder()
        self.waits = DurationRecorder()

    def fold(self) -> None:
        """Count the collected durations into buckets, if there are many."""
        self.steps.fold()
        self.callbacks.fold()
        self.waits.fold()


def sampling_of(every: Any) -> int:
    """Return ``every``, the argument of ``Loop.set_step_sampling``, as an int.

    Raises TypeError unless it is an integer, and ValueError if it is negative.
    """
    try:
        number = int(operator.index(every))
    except TypeError:
        raise TypeError(
            f"set_step_sampling() expected a whole number of turns, got {every!r}"
        ) from None
    if number < 0:
        raise ValueError(
            f"set_step_sampling() expected a number of turns, or 0 for no samples, got {number}"
        )
    return number

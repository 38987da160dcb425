"""Garbage collections at the moments when a loop would wait, in place of automatic ones.

An automatic collection begins at any allocation, also in the middle of a request. While a loop with
an ``IdleCollector`` runs, automatic collections are off, and the loop calls ``collect_if_due`` when
it is about to wait. A loop that never waits calls ``collect_if_late`` between two turns, so that
no more than a given number of allocations is ever left to be examined.
"""

from __future__ import annotations

import gc
import operator
from time import monotonic
from typing import Any, ClassVar, Final

_FULL_SHARE: Final = 20
"""A full collection is made only after so many times the duration of the last one."""


class _Holders:
    """The collectors whose running loops hold automatic collections back.

    The loops may be in several threads, and a signal handler may raise between any two steps of
    ``begin_run``. So collections are turned off only when it was noted that they were on, and by a
    collector that is in the set.
    """

    collectors: ClassVar[set[IdleCollector]] = set()
    # Whether one of them has turned collections off.
    have_disabled = False


class IdleCollector:
    """Collects garbage for one loop. ``most`` is the largest number of allocations left over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._next_full = 0.0

    def begin_run(self) -> None:
        """Hold automatic collections back: the loop begins to run."""
        _Holders.collectors.add(self)
        if gc.isenabled():
            _Holders.have_disabled = True
            gc.disable()

    def end_run(self) -> None:
        """Have automatic collections again, if they were on before: the loop does not run."""
        _Holders.collectors.discard(self)
        if not _Holders.collectors and _Holders.have_disabled:
            gc.enable()
            _Holders.have_disabled = False

    def collect_if_due(self) -> None:
        """Collect the generation for which an automatic collection would have been due, if any."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        if not thresholds[0] or counts[0] <= thresholds[0]:
            return
        generation = 0
        if counts[1] > thresholds[1]:
            generation = 1
            if counts[2] > thresholds[2] and monotonic() >= self._next_full:
                generation = 2
        self._collect(generation)

    def collect_if_late(self) -> None:
        """Collect the two younger generations if too many allocations are left over."""
        if gc.get_count()[0] > self._most:
            self._collect(1)

    def _collect(self, generation: int) -> None:
        started = monotonic()
        gc.collect(generation)
        if generation == 2:
            ended = monotonic()
            self._next_full = ended + _FULL_SHARE * (ended - started)


def allocations_of(most: Any) -> int:
    """Return ``most``, an argument of ``Loop.collect_when_idle``, as an int.

    Raises TypeError unless it is an integer, and ValueError unless it is positive.
    """
    try:
        number = int(operator.index(most))
    except TypeError:
        raise TypeError(
            f"collect_when_idle() expected a whole number of allocations, got {most!r}"
        ) from None
    if number < 1:
        raise ValueError(
            f"collect_when_idle() expected a positive number of allocations, got {most}"
        )
    return number

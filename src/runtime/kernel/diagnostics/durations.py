"""``DurationRecorder``: collects durations, and counts them into the buckets of a histogram.

Every loop has some of these, so the module imports nothing until there is something to count.
``histogram.py`` shows the figures to programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from array import array

_KEPT: Final = 1024
"""Number of durations that a recorder collects before it counts them into buckets."""


class DurationRecorder:
    """Collects durations. One thread adds them to ``fresh``; any thread reads the figures."""

    __slots__ = ("_counts", "_longest", "_total", "fresh")

    def __init__(self) -> None:
        # Durations that are not counted into buckets yet.
        self.fresh: list[float] = []
        self._counts: array[int] | None = None
        self._total = 0.0
        self._longest = 0.0

    def fold(self) -> None:
        """Count the collected durations into buckets, if there are many. For the adding thread.

        They are dropped if the module for that cannot be imported: all descriptors may be in use,
        or the program has gone to another root directory. That must not end the loop.
        """
        if len(self.fresh) >= _KEPT:
            try:
                self._total, self._longest, self._counts = self.figures()
            except (ImportError, OSError):
                pass
            self.fresh.clear()

    def figures(self) -> tuple[float, float, array[int]]:
        """Return the sum of all durations so far, the longest one, and the counts by bucket."""
        from runtime.kernel.native.buckets import count_into, no_counts

        fresh = self.fresh.copy()
        counts = no_counts() if self._counts is None else self._counts[:]
        count_into(counts, fresh)
        longest = max(self._longest, fresh[-1] if fresh else 0.0)
        return self._total + sum(fresh), longest, counts

"""``Histogram``: an immutable snapshot of durations."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import SupportsFloat

from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.diagnostics.durations import DurationRecorder
from runtime.kernel.diagnostics.snapshots import Snapshot
from runtime.kernel.native.buckets import BOUNDS, BUCKETS


class Histogram(Snapshot):
    """Durations in seconds: their number, their sum, the longest, and how they are distributed.

    The memory is fixed: 320 buckets, each at most an eighth wider than its bounds. Objects are
    immutable.

    >>> from runtime.observe import Histogram
    >>> lags = Histogram.of([0.001, 0.002, 0.4])
    >>> lags.count, lags.longest, round(lags.quantile(0.5), 3)
    (3, 0.4, 0.002)
    """

    __slots__ = ("count", "total", "longest", "counts")  # noqa: RUF023 - the order of arguments

    count: int
    total: float
    longest: float
    counts: tuple[int, ...]

    def _shown(self) -> tuple[str, ...]:
        return self.fields()[:-1]

    @classmethod
    def of(cls, durations: Iterable[float]) -> Histogram:
        """Return the histogram of some durations, in seconds. Raises TypeError for others."""
        recorder = DurationRecorder()
        if not isinstance(durations, Iterable):
            raise TypeError(f"of() expected numbers of seconds, got {durations!r}")
        for duration in durations:
            if not isinstance(duration, SupportsFloat):
                raise TypeError(f"of() expected numbers of seconds, got {duration!r}")
            recorder.fresh.append(float(duration))
        return histogram_of(recorder)

    @property
    def mean(self) -> float:
        """The average duration in seconds; 0 if there is none."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Return a duration, in seconds, that the share ``share`` of all durations do not exceed.

        ``share`` is from 0 to 1; 0.99 gives the 99th percentile. The result is the upper bound of
        the bucket, at most the longest duration; it is 0 if there is no duration. Raises ValueError
        for another share, and TypeError if it is not a number.
        """
        if not isinstance(share, SupportsFloat):
            raise TypeError(f"quantile() expected a number from 0 to 1, got {share!r}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must be a number from 0 to 1, got {share!r}")
        wanted = max(1, math.ceil(share * self.count))
        for bucket, below in enumerate(accumulate(self.counts)):
            if below >= wanted:
                return min(BOUNDS[bucket + 1], self.longest)
        return 0.0

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of the durations of both, such as those of two loops.

        Raises TypeError for an object that is not a histogram.
        """
        instance_of(Histogram, other, "merge", "a Histogram")
        return Histogram(
            self.count + other.count,
            self.total + other.total,
            max(self.longest, other.longest),
            tuple(map(int.__add__, self.counts, other.counts)),
        )

    def since(self, earlier: Histogram) -> Histogram:
        """Return the histogram of the durations that came after an ``earlier`` snapshot.

        Which of them was the longest is known only by its bucket, unless it is the longest of all.
        Raises TypeError for an object that is not a histogram.
        """
        instance_of(Histogram, earlier, "since", "a Histogram")
        counts = tuple(map(int.__sub__, self.counts, earlier.counts))
        last = max((bucket for bucket, count in enumerate(counts) if count), default=-1)
        longest = min(BOUNDS[last + 1], self.longest) if last >= 0 else 0.0
        return Histogram(
            self.count - earlier.count, max(0.0, self.total - earlier.total), longest, counts
        )

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Iterate over the upper bound, in seconds, and the count of each bucket that is not empty.

        The upper bound of the last bucket is infinite.
        """
        for bucket, count in enumerate(self.counts):
            if count:
                yield BOUNDS[bucket + 1], count


def histogram_of(recorder: DurationRecorder) -> Histogram:
    """Return the histogram of the durations that were collected so far."""
    total, longest, counts = recorder.figures()
    return Histogram(sum(counts), total, longest, tuple(counts))


def histogram_from(count: int, total: float, longest: float, counts: bytes) -> Histogram:
    """Return the histogram with the given counts, an ``array("Q")`` in the form of bytes."""
    found = array("Q", counts)
    assert len(found) == BUCKETS
    return Histogram(count, total, longest, tuple(found))

"""Buckets of a histogram of durations: their bounds, and a function that counts values into them.

The buckets are log-linear, as those of HdrHistogram. Durations are counted in nanoseconds, and each
power of two is divided into eight buckets of equal width, so that the width of a bucket is at most
an eighth of its values::

    nanoseconds   0, 1, ... 15    16-17, 18-19, ... 30-31    32-35, ... 60-63    64-71, ...
    bucket        0, 1, ... 15    16,    17,    ... 23       24,    ... 31       32, ...

The memory is fixed, whatever the values are, and two histograms are merged by adding their counts.
The C accelerator counts into the same buckets.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from typing import Final

BUCKETS: Final = 320
"""Number of buckets. The last one begins after more than an hour, and has no upper bound."""

_SUB_BUCKETS: Final = 8


_FIRST_OCTAVES: Final = [nanoseconds * 1e-9 for nanoseconds in range(_SUB_BUCKETS)]
_LATER_OCTAVES: Final = [
    float(part << octave) * 1e-9
    for octave in range(BUCKETS // _SUB_BUCKETS - 1)
    for part in range(_SUB_BUCKETS, 2 * _SUB_BUCKETS)
]

BOUNDS: Final = (*_FIRST_OCTAVES, *_LATER_OCTAVES, math.inf)
"""Bounds of the buckets, in seconds: bucket ``n`` begins at entry ``n``, and ends before the next.
"""


def no_counts() -> array[int]:
    """Return an array with a count of 0 for each bucket."""
    return array("Q", bytes(8 * BUCKETS))


def count_into(counts: array[int], durations: list[float]) -> None:
    """Count ``durations``, in seconds, into their buckets; sort the list for that.

    Sorted, the durations of a bucket are found by two bisections, which is several times as fast as
    computing the bucket of each. A negative duration, of a clock that was set back, counts as 0.
    """
    durations.sort()
    done = bisect_left(durations, 0.0)
    counts[0] += done
    while done < len(durations):
        bucket = bisect_right(BOUNDS, durations[done]) - 1
        end = bisect_left(durations, BOUNDS[bucket + 1], done)
        if end == done:  # The duration is infinite, or not a number.
            bucket, end = BUCKETS - 1, len(durations)
        counts[bucket] += end - done
        done = end

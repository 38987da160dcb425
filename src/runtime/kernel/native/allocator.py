"""Allocation of large blocks by the C library, and how to make it keep them.

glibc maps large blocks directly from the system, and returns them to it when they are freed. Then
each page of the next block causes a page fault again, which takes longer than to receive data into
it. glibc adapts when such a block is freed: from then on it keeps blocks of up to that size, and up
to twice that size of free memory at the end of the heap. A process that runs for long gets into
this state sooner or later; the function below gets there at once.

Source: ``mallopt(3)``, M_MMAP_THRESHOLD.
"""

from __future__ import annotations

from functools import cache
from typing import Final

_LARGE: Final = 8 << 20


@cache
def retain_large_blocks() -> None:
    """Allocate and free a large block, once. It is never written to, so it costs no memory."""
    bytes(_LARGE)

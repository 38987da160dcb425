"""What the C library's allocator does with large blocks.

glibc takes blocks of a size that it has not met before from the system, and gives them back at
once: each page of each of them is then faulted in anew, which takes longer than receiving into it.
It adapts when such a block is freed: from then on it keeps blocks of that size, and up to twice as
much at the end of the heap. A process that lives long gets there sooner or later.

Source: ``mallopt(3)``, M_MMAP_THRESHOLD.
"""

from __future__ import annotations

from functools import cache
from typing import Final

_LARGE: Final = 8 << 20


@cache
def have_large_blocks_kept() -> None:
    """Free a large block, the first time; nobody writes to it, so that it costs no memory."""
    bytes(_LARGE)

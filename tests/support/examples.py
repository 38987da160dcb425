"""Number of the examples with which hypothesis calls a test."""

from __future__ import annotations

import os

SHORT_PASS = "RUNTIME_TESTS_SHORT_PASS"
"""Environment variable that is set to 1 in the shorter passes of ``make test``."""


def examples(number: int) -> int:
    """Return the number of examples: ``number``, or a fifth of it in the shorter passes."""
    return number // 5 if os.environ.get(SHORT_PASS) == "1" else number

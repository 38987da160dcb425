"""Running a piece of Python in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0
"""Seconds after which a program that hangs fails its test."""


def run_program(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``python arguments...``; return what it printed and its exit status."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -c code``."""
    return run_program("-c", code)

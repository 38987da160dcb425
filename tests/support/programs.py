"""Execution of Python code in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 100.0
"""Seconds after which a program that hangs fails its test; the test's limit is a little longer."""

NAMED_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Environment in which pytest loads only the plugins that ``-p`` names: it starts in a quarter."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make programs that are started inside the block end on Ctrl-C, whatever this process does.

    A shell starts background jobs with SIGINT ignored, and child processes inherit that. They
    cannot inherit a handler: the system replaces it with the default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def started_program(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start ``python arguments...``, isolated from the terminal's Ctrl-C; yield the process.

    The process is killed at the end of the block if it has not ended.
    """
    with interruptible():
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Press Ctrl-C; return the exit status, and the remaining data of both outputs."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


def run_program(
    *arguments: str | Path,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run ``python arguments...``, for up to ``timeout`` seconds; return its output and status."""
    with interruptible():
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -c code``."""
    return run_program("-c", code)

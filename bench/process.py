"""Child process that exchanges messages in the format of bench/lines.py, from the parent's side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.lines import Usage

PATIENCE = 120.0
"""Seconds that a process may take for an answer; a process that takes longer is ended."""

ROOT = Path(__file__).resolve().parent.parent


class ProcessError(RuntimeError):
    """A process ended without sending an expected message."""


class UnsupportedError(RuntimeError):
    """A contender does not support a case."""


class Process:
    """A process on a core of its own; a context manager that ends it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        on_load_core: bool = False,
        is_quiet: bool = False,
    ) -> None:
        """Start ``command``. If ``is_quiet``, only the last line of its standard error is kept."""
        self._name = name
        # The file is closed by end().
        self._errors = tempfile.TemporaryFile() if is_quiet else None  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        machine.pin(self._process.pid, to_load_core=on_load_core)

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> dict[str, Any]:
        """Return the next message.

        Raises UnsupportedError if it reports a missing feature, and ProcessError if it reports a
        failure, is not a message, or does not come.
        """
        assert self._process.stdout is not None
        giving_up = threading.Timer(PATIENCE, self._process.kill)
        giving_up.start()
        try:
            line = self._process.stdout.readline()
        finally:
            giving_up.cancel()
        if not line:
            raise self._ended()
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ProcessError(f"{self._name} printed {line.strip()[:80]!r}.") from None
        if "unsupported" in message:
            raise UnsupportedError(message["unsupported"])
        if "failed" in message:
            raise ProcessError(f"{self._name} failed with {message['failed']}")
        return message

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line, and return the answer."""
        self.tell(line)
        return self.hear()

    def usage(self) -> Usage:
        """Return the usage that a server reports about itself."""
        return Usage(**self.ask("usage"))

    def _ended(self) -> ProcessError:
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        ending = f"{self._name} ended too early, with {_described(status)}."
        return ProcessError(f"{ending} {self._last_error()}".rstrip())

    def _last_error(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def end(self) -> None:
        """Close the input, and wait for the process to end."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # the process has ended without reading its input
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        if self._errors is not None:
            self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()


def _described(status: int) -> str:
    """Return an exit status in words: a negative one is the number of a signal."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def python_environment(*paths: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a Python process that finds ``paths`` first, then this package.

    Variables that change how the interpreter or runtime runs are not inherited.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "RUNTIME_"))
    }
    environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in (*paths, ROOT))
    environment.update(variables)
    return environment

"""The contenders, each in a process of its own, and how to speak with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ("asyncio", "uvloop", "runtime-pure", "runtime")
SERVER_CORE, CLIENT_CORE = 0, 1


class BuildError(RuntimeError):
    """A contender is not the build that its name says."""


def environment(contender: str) -> dict[str, str]:
    """Return the environment of a contender's process.

    ``runtime`` is what is installed beside the interpreter that runs the suite, compiled;
    ``runtime-pure`` is the source folder, interpreted, without the C leaf.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    paths = [str(ROOT)]
    if contender == "runtime-pure":
        paths.insert(0, str(ROOT / "src"))
        variables["RUNTIME_NO_LEAF"] = "1"
    elif "BENCH_COMPILED_PATH" in os.environ:
        paths.insert(0, os.environ["BENCH_COMPILED_PATH"])
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables


def pin(core: int) -> None:
    """Keep the calling process on one core, where the system can and has so many."""
    if hasattr(os, "sched_setaffinity") and core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the user and kernel seconds that a process has used; zeros where unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0.0
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


class Child:
    """A contender's process: a context manager that ends it."""

    def __init__(self, contender: str, kind: str, name: str) -> None:
        self.contender = contender
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.child", contender, kind, name],
            env=environment(contender),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {SERVER_CORE})
        try:
            self.hello = self.hear()
            self._check_build()
        except BaseException:
            self.end()
            raise

    def _check_build(self) -> None:
        build = str(self.hello["build"])
        if self.contender == "runtime" and "compiled" not in build:
            raise BuildError(
                f"The contender runtime is {build!r}: install the package where it can be "
                "compiled (make build), or leave the contender out."
            )
        if self.contender == "runtime-pure" and "interpreted, no leaf" not in build:
            raise BuildError(f"The contender runtime-pure is {build!r}.")

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Return the next message; raises RuntimeError when the process ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender} ended with status {self._process.wait()}.")
        message: dict[str, Any] = json.loads(line)
        return message

    def cpu(self) -> tuple[float, float]:
        """Return the user and kernel seconds that the process has used; zeros where unknown."""
        return cpu_seconds(self.pid)

    def end(self) -> None:
        """Close the input, and wait for the process to end."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

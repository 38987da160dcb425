"""uvicorn server in a process of its own, started from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import Program, python_program

ADDRESS = re.compile(r"Uvicorn running on (https?)://[\w.]+:(\d+)")


@dataclass(frozen=True)
class Uvicorn:
    """A running uvicorn, and its address."""

    program: Program
    scheme: str
    port: int

    @property
    def url(self) -> str:
        """The address with the host name of the tests' certificates."""
        return f"{self.scheme}://localhost:{self.port}"

    def wait_for(self, text: str) -> None:
        """Wait until the application has printed ``text``."""
        self.program.wait_until(lambda: text in self.program.output())


@contextmanager
def running_uvicorn(
    runner: LoopRunner, folder: Path, app: str, *options: str | Path, workers: int = 1
) -> Iterator[Uvicorn]:
    """Serve ``tests.ecosystem.programs.web:{app}`` on the runner's loop."""
    target = f"tests.ecosystem.programs.web:{app}"
    settings = ("--loop", runner.loop_name, "--host", "127.0.0.1", "--port", "0", "--no-use-colors")
    command = ("-m", "uvicorn", target, *settings, "--workers", str(workers), *options)
    with python_program(*command, log=folder / "uvicorn.log") as running:
        running.wait_until(lambda: ADDRESS.search(running.output()) is not None)
        found = ADDRESS.search(running.output())
        assert found is not None
        running.wait_until(lambda: running.output().count(f"loop {runner.name}") == workers)
        yield Uvicorn(running, found[1], int(found[2]))

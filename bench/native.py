"""The programs in C: built on demand, with the compiler of the interpreter."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.contenders import CLIENT_CORE, ROOT, SERVER_CORE, cpu_seconds

SOURCES = Path(__file__).resolve().parent / "native"
CACHE = ROOT / "build" / "bench"


def built(name: str) -> Path:
    """Return the program made of ``native/NAME.c``, compiling it when it has changed."""
    source = SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = CACHE / f"{name}-{digest}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)], check=True
        )
    return program


def pinned(core: int, command: list[str]) -> list[str]:
    """Return ``command`` as it runs on one core, where there is taskset and the core."""
    if (os.cpu_count() or 1) <= core or not Path("/usr/bin/taskset").exists():
        return command
    return ["/usr/bin/taskset", "-c", str(core), *command]


def load(port: int, connections: int, size: int, seconds: float) -> dict[str, Any]:
    """Load a server, and return what the load generator counted; every byte was checked."""
    command = [str(built("load")), str(port), str(connections), str(size), str(seconds)]
    output = subprocess.run(
        pinned(CLIENT_CORE, command), stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    counted: dict[str, Any] = json.loads(output)
    return counted


class BareServer:
    """The echo server in C, with the interface of ``Child``."""

    contender = "C"

    def __init__(self, size: int) -> None:
        self._process = subprocess.Popen(
            pinned(SERVER_CORE, [str(built("server")), str(size)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hello: dict[str, Any] = {"build": "bare epoll"}

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def hear(self) -> dict[str, Any]:
        """Return the next message."""
        assert self._process.stdout is not None
        message: dict[str, Any] = json.loads(self._process.stdout.readline())
        return message

    def cpu(self) -> tuple[float, float]:
        """Return the user and kernel seconds that the process has used; zeros where unknown."""
        return cpu_seconds(self.pid)

    def __enter__(self) -> BareServer:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

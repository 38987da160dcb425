"""The programs in C: built on demand, with the compiler of the interpreter."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "native"
CACHE = Path(__file__).resolve().parent.parent / "build" / "bench"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """Return the C compiler's path, or None where there is none."""
    name = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(name)[0])


def why_not() -> str:
    """Return why the programs cannot be built here, or an empty string."""
    if not sys.platform.startswith("linux"):
        return "the load generator and the server in C use epoll, which is Linux's"
    return "" if compiler() else "there is no C compiler for the load generator"


@cache
def built(name: str) -> Path:
    """Return the program made of ``native/NAME.c``, compiling it when it has changed."""
    source = SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = CACHE / f"{name}-{digest}"
    if not program.exists():
        if reason := why_not():
            raise RuntimeError(f"{source.name} cannot be compiled: {reason}.")
        CACHE.mkdir(parents=True, exist_ok=True)
        # Under a name of its own first: another process may be doing the same.
        unfinished = program.with_suffix(f".{os.getpid()}")
        command = [str(compiler()), *FLAGS, "-o", str(unfinished), str(source)]
        subprocess.run(command, check=True)
        unfinished.replace(program)
    return program

"""Programs in C, built on demand with the compiler of the interpreter.

``load`` is the load generator, ``load_tls`` the load generator with TLS, ``http`` the load
generator for HTTP, and ``server`` the bare echo server that serves as the limit.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "native"
CACHE = Path(__file__).resolve().parent.parent / "build" / "bench"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """Return the path of the C compiler, or None without one."""
    name = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(name)[0])


@dataclass(frozen=True)
class Program:
    """Sources and flags of a program."""

    source: str
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


PROGRAMS = {
    "load": Program("load.c"),
    "load_tls": Program("load.c", ("-DTLS",), ("-lssl", "-lcrypto")),
    "http": Program("http.c"),
    "server": Program("server.c"),
}


def why_not() -> str:
    """Return the reason why the programs cannot be built here, or an empty string."""
    if not sys.platform.startswith("linux"):
        return "the load generator and the server in C use epoll, which is Linux's"
    return "" if compiler() else "there is no C compiler for the load generator"


@cache
def why_not_tls() -> str:
    """Return the reason why load_tls cannot be built here, or an empty string."""
    if reason := why_not():
        return reason
    command = [str(compiler()), "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull]
    found = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return "" if found else "there are no headers of OpenSSL for the load generator (libssl-dev)"


@cache
def built(name: str) -> Path:
    """Return the path of a program of ``PROGRAMS``, compiled again if its source has changed."""
    program = PROGRAMS[name]
    source = SOURCES / program.source
    parts = [source, *sorted(SOURCES.glob("*.h"))]
    # Another system may use the same folder: a program that was linked with a newer C library does
    # not start with an older one.
    digest = hashlib.sha256("-".join(platform.libc_ver()).encode())
    for part in parts:
        digest.update(part.read_bytes())
    made = CACHE / f"{name}-{digest.hexdigest()[:12]}"
    if not made.exists():
        if reason := why_not():
            raise RuntimeError(f"{source.name} cannot be compiled: {reason}.")
        CACHE.mkdir(parents=True, exist_ok=True)
        # The compiler writes to a temporary name, because another process may be building the same
        # program.
        unfinished = made.with_suffix(f".{os.getpid()}")
        command = [str(compiler()), *FLAGS, *program.flags, "-o", str(unfinished), str(source)]
        subprocess.run([*command, *program.libraries], check=True)
        unfinished.replace(made)
    return made

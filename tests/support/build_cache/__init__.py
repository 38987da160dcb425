"""Reuse of work between builds of the package: the output of mypyc, and object files.

Several tests build the package, most of them from the same sources, from which ``make build`` has
built it too. Translating and compiling the modules takes nearly all the time of a build. Their
results depend on the sources and the options alone, so that a later build may take them from a
folder.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tests.support.programs import ROOT

_HERE = Path(__file__).parent


def environment() -> dict[str, str]:
    """Return the environment variables with which a build reuses the output of mypyc.

    The Makefile sets the same variables.
    """
    return {"PYTHONPATH": str(_HERE / "site"), "TRANSLATIONS": str(ROOT / "build/translations")}


def compiler(cache: Path, command: str) -> str:
    """Return the shell command of a compiler that runs ``command``, or reuses an object file."""
    return shlex.join([sys.executable, "-I", "-S", str(_HERE / "compiler.py"), str(cache), command])

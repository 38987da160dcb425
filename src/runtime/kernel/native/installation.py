"""Checks of the installed package against the interpreter: a mismatch gets a clear message."""

from __future__ import annotations

import importlib.machinery
import platform
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

REINSTALL = "Install runtime anew with this interpreter: pip install --force-reinstall runtime-loop"


_LIBRARIES = ("_compiled__mypyc", "kernel/native/_accelerator")
"""The compiled modules by which a compiled package is known, without the suffix."""


def foreign_libraries(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the names of the compiled modules in ``folder`` with a suffix other than these."""
    accepted = set(suffixes)
    return [
        found.name
        for library in _LIBRARIES
        for found in sorted(folder.glob(f"{library}.*.so"))
        if found.name.removeprefix(Path(library).name) not in accepted
    ]


def warn_of_foreign_libraries(folder: Path) -> None:
    """Issue a RuntimeWarning when the package was compiled, but not for this interpreter.

    It then works, and is as slow as if it had not been compiled.
    """
    foreign = foreign_libraries(folder, importlib.machinery.EXTENSION_SUFFIXES)
    if foreign:
        warnings.warn(
            f"runtime in {folder} was compiled for another interpreter ({foreign[0]}) and runs "
            f"interpreted on {platform.python_implementation()} {platform.python_version()}. "
            f"{REINSTALL}",
            RuntimeWarning,
            stacklevel=3,
        )


def unknown_asyncio(missing: str) -> ImportError:
    """Return the error for a version of asyncio whose internals are other than those known."""
    return ImportError(
        f"runtime does not know the asyncio of Python {'.'.join(map(str, sys.version_info[:3]))}: "
        f"it has no {missing}. Install a version of runtime that supports this Python."
    )

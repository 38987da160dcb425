"""Checks of the installed package against the interpreter, and messages about mismatches."""

from __future__ import annotations

import importlib.machinery
import platform
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

REINSTALL = "Install runtime anew with this interpreter: pip install --force-reinstall runtime-loop"


_LIBRARIES = ("_compiled__mypyc", "kernel/native/_accelerator")
"""The compiled modules whose presence shows that the package was compiled, without the suffix."""


def foreign_libraries(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the names of the compiled modules in ``folder`` that have none of ``suffixes``."""
    accepted = set(suffixes)
    return [
        found.name
        for library in _LIBRARIES
        for found in sorted(folder.glob(f"{library}.*.so"))
        if found.name.removeprefix(Path(library).name) not in accepted
    ]


def warn_of_foreign_libraries(folder: Path) -> None:
    """Issue a RuntimeWarning if the package was compiled, but not for this interpreter.

    The package then works, but runs interpreted and so is slower.
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
    """Return the error for a version of asyncio that lacks an internal name which is needed."""
    return ImportError(
        f"runtime does not know the asyncio of Python {'.'.join(map(str, sys.version_info[:3]))}: "
        f"it has no {missing}. Install a version of runtime that supports this Python."
    )

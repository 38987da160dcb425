"""Checks of the installed package against the interpreter, and messages about mismatches."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import warnings
from collections.abc import Iterable

REINSTALL = "Reinstall runtime with this interpreter: pip install --force-reinstall runtime-loop"


_LIBRARIES = (("", "_compiled__mypyc."), ("kernel/native", "_accelerator."))
"""The compiled modules whose presence shows that the package was compiled: folder and prefix."""


def foreign_libraries(folder: str, suffixes: Iterable[str]) -> list[str]:
    """Return the names of the compiled modules in ``folder`` that have none of ``suffixes``."""
    accepted = set(suffixes)
    found = []
    for inner, prefix in _LIBRARIES:
        path = os.path.join(folder, inner)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            is_library = name.startswith(prefix) and name.endswith(".so")
            if is_library and name[len(prefix) - 1 :] not in accepted:
                found.append(name)
    return found


def warn_of_foreign_libraries(folder: str) -> None:
    """Issue a RuntimeWarning if the package was compiled, but not for this interpreter.

    The package then works, but runs interpreted and so is slower.
    """
    foreign = foreign_libraries(folder, importlib.machinery.EXTENSION_SUFFIXES)
    if foreign:
        import platform  # It is slow to import, and hardly ever needed.

        warnings.warn(
            f"runtime in {folder} was compiled for another interpreter ({foreign[0]}) and runs "
            f"interpreted on {platform.python_implementation()} {platform.python_version()}. "
            f"{REINSTALL}",
            RuntimeWarning,
            stacklevel=3,
        )


def unsupported_asyncio_error(missing: str) -> ImportError:
    """Return the error for a version of asyncio that lacks an internal name which is needed."""
    return ImportError(
        f"runtime does not know the asyncio of Python {'.'.join(map(str, sys.version_info[:3]))}: "
        f"it has no {missing}; install a version of runtime that supports this Python"
    )

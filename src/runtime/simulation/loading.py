"""Functions that the command line and the options of pytest name: in a file, or in a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.simulation.world import World


def load(program: str) -> Callable[[], Awaitable[Any]]:
    """Return the function that ``FILE::FUNCTION`` names; the file is executed for it.

    Raises ValueError for another form, OSError if there is no such file, and AttributeError if it
    has no such function.
    """
    file, separator, name = program.partition("::")
    if not separator or not name:
        raise ValueError(f"the program must be named as FILE::FUNCTION, got {program!r}")
    found: Callable[[], Awaitable[Any]] = _function_in(_execute(file), name, file)
    return found


def load_setup(text: str) -> Callable[[World], object]:
    """Return the function that ``FILE::FUNCTION`` or ``MODULE:FUNCTION`` names.

    A file that is a module already, such as that of the program or of a test, is not executed again
    for it. Raises ValueError for another form, OSError if there is no such file, ImportError if
    there is no such module, and AttributeError if it has no such function.
    """
    place, separator, name = text.partition("::")
    if separator and place and name:
        found = _function_in(_module_of(place) or _execute(place), name, place)
    else:
        place, separator, name = text.partition(":")
        if not (separator and place and name):
            raise ValueError(
                f"setup must be named as FILE::FUNCTION or MODULE:FUNCTION, got {text!r}"
            )
        found = _function_in(importlib.import_module(place), name, place)
    setup: Callable[[World], object] = found
    return setup


def _execute(file: str) -> ModuleType:
    """Return a new module with the contents of a file."""
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {file!r}")
    module_name = path.stem
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module


def _module_of(file: str) -> ModuleType | None:
    """Return the module that was made from a file; None if there is none."""
    path = Path(file)
    for module in list(sys.modules.values()):
        other = getattr(module, "__dict__", {}).get("__file__")
        # The names are compared first, because to ask the system for each module takes long.
        if isinstance(other, str) and os.path.basename(other) == path.name:
            try:
                if path.samefile(other):
                    return module
            except OSError:
                continue
    return None


def _function_in(module: ModuleType, name: str, place: str) -> Any:
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part)
    if not callable(function):
        raise ValueError(f"{name!r} in {place!r} is not a function")
    return function

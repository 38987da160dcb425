"""Build of the package under test, and a check that it is the intended one.

``make test`` runs the suite on several builds. It states the intended build in environment
variables, so that a build that silently came out differently fails the run instead of passing it:

``RUNTIME_EXPECT_COMPILED``
    ``1`` for the compiled modules, ``0`` for interpreted ones.
``RUNTIME_EXPECT_ACCELERATOR``
    ``1`` for the C accelerator, ``0`` for its fallback in Python, ``address`` for an accelerator
    that was built with AddressSanitizer.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import runtime
from runtime.__main__ import describe_build
from runtime.kernel import core
from runtime.kernel.native import accelerator

FOLDER = Path(runtime.__file__).parent


def is_compiled() -> bool:
    """Return whether the kernel is compiled, judging by its file."""
    return Path(core.__file__).suffix != ".py"


def accelerator_kind() -> str:
    """Return the kind of the accelerator, as a value of RUNTIME_EXPECT_ACCELERATOR."""
    if not accelerator.has_accelerator:
        return "0"
    library = importlib.import_module("runtime.kernel.native._accelerator").__file__
    assert library is not None
    return "address" if b"__asan_init" in Path(library).read_bytes() else "1"


def header() -> str:
    """Return the first line of the report of a test run."""
    sanitized = ", AddressSanitizer" if accelerator_kind() == "address" else ""
    return f"{describe_build()}{sanitized}, from {FOLDER}"


def wrong_build() -> str:
    """Return the difference from the build that the environment asks for, or an empty string."""
    actual = {
        "RUNTIME_EXPECT_COMPILED": str(int(is_compiled())),
        "RUNTIME_EXPECT_ACCELERATOR": accelerator_kind(),
    }
    wrong = [
        f"{variable}={os.environ[variable]}, but it is {value}"
        for variable, value in actual.items()
        if os.environ.get(variable, value) != value
    ]
    return f"not the build that was meant: {'; '.join(wrong)} ({header()})" if wrong else ""

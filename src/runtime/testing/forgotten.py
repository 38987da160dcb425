"""Forgotten awaits: finds coroutines that a test made and never awaited.

Python issues a warning when such a coroutine is dropped, and the program continues. In a test it
means that a part of the test did not run. Warnings that the test expects, for instance with
``pytest.warns``, and warnings that are filtered out, do not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any, Final, cast

_ORIGIN_DEPTH: Final = 1
"""The number of frames that a coroutine records of the stack on which it was made."""

_LIBRARIES: Final = tuple(
    os.path.dirname(file) + os.sep for file in (os.path.dirname(__file__), asyncio.__file__)
)
"""The folders of this package and of asyncio, whose lines do not belong to the program."""

_excused: set[int] = set()
"""The ``id()`` of each coroutine that existed when a test failed.

The traceback of the failure, for example, refers to these coroutines, and may be dropped only
during another test, on another loop.
"""

Show = Callable[[warnings.WarningMessage], object]


class ForgottenAwaits:
    """Collects warnings about coroutines that were never awaited."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        """Return a context manager in which warnings are collected, and shown as usual."""
        # Not warnings.showwarning(), which does not get the source of a warning, the coroutine.
        module = cast(Any, warnings)
        before: Show = module._showwarnmsg_impl
        replacement = functools.partial(self._show, before)
        depth = sys.get_coroutine_origin_tracking_depth()
        module._showwarnmsg_impl = replacement
        sys.set_coroutine_origin_tracking_depth(max(depth, _ORIGIN_DEPTH))
        try:
            yield
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)
            if module._showwarnmsg_impl is replacement:
                module._showwarnmsg_impl = before

    def _show(self, show: Show, message: warnings.WarningMessage) -> None:
        coro = message.source
        text = str(message.message)
        if not issubclass(message.category, RuntimeWarning):
            pass
        elif isinstance(coro, CoroutineType):
            if id(coro) in _excused:
                _excused.discard(id(coro))
            else:
                self._found.append(_describe(coro))
        elif text.startswith("coroutine method ") and text.endswith(" was never awaited"):
            self._found.append(text)  # It is a method of an asynchronous generator, as asend().
        show(message)

    def take(self) -> list[str]:
        """Return descriptions of the coroutines that were found since the last call."""
        found, self._found = self._found, []
        return found


def ignore_existing_coroutines() -> None:
    """Ignore the coroutines that were made so far, because the test has failed already."""
    _excused.clear()
    for found in gc.get_objects():
        if type(found) is CoroutineType and inspect.getcoroutinestate(found) == "CORO_CREATED":
            _excused.add(id(found))


def _describe(coro: CoroutineType[Any, Any, Any]) -> str:
    origin = coro.cr_origin or ()
    places = [(file, line) for file, line, _ in origin if not file.startswith(_LIBRARIES)]
    if places:
        file, line = places[0]
        place = f"it was made at {file}:{line}"
    else:
        place = f"it is defined at {coro.cr_code.co_filename}:{coro.cr_code.co_firstlineno}"
    return f"coroutine {coro.__qualname__}() was never awaited: {place}"

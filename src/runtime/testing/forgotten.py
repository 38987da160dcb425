"""Coroutines that a test made and never awaited: found where Python warns of them.

Python warns when such a coroutine is let go of, and the program goes on. In a test it means that a
part of it did not run. Warnings that the test expects, in ``pytest.warns`` for one, or that are
filtered out, don't count.
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
"""Frames that a coroutine keeps of the place where it was made."""

_LIBRARIES: Final = tuple(
    os.path.dirname(file) + os.sep for file in (os.path.dirname(__file__), asyncio.__file__)
)
"""The folders of packages whose lines are not the program's."""

_excused: set[int] = set()
"""The coroutines that there were when a test failed, by their ``id()``.

Whatever holds them, such as the traceback of the failure, may let go of them in the time of another
test, on another loop.
"""

Show = Callable[[warnings.WarningMessage], object]


class ForgottenAwaits:
    """Takes note of the warnings of coroutines that were never awaited."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        """Have it notice what is warned of meanwhile."""
        # Not showwarning(), which would take the source from the warnings that are passed on.
        module = cast(Any, warnings)
        before: Show = module._showwarnmsg_impl
        ours = functools.partial(self._show, before)
        depth = sys.get_coroutine_origin_tracking_depth()
        module._showwarnmsg_impl = ours
        sys.set_coroutine_origin_tracking_depth(max(depth, _ORIGIN_DEPTH))
        try:
            yield
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)
            if module._showwarnmsg_impl is ours:
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
            self._found.append(text)  # It is one of an asynchronous generator's.
        show(message)

    def take(self) -> list[str]:
        """Describe those that were found since the last time."""
        found, self._found = self._found, []
        return found


def excuse_what_is_there() -> None:
    """Expect no more of coroutines that were made so far: the test has failed already."""
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

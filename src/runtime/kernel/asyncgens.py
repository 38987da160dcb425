"""Asynchronous generators that a loop has started, so that it can finish them.

Source: PEP 525, and ``loop.shutdown_asyncgens`` in the standard library's documentation.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

Hook = Callable[[AsyncGenerator[Any, Any]], object]


class AsyncGenerators:
    """The asynchronous generators of one loop, and the interpreter's hooks that report them.

    ``finalize`` is called with a generator that was dropped before its end, from whatever thread
    the garbage collector runs in.
    """

    def __init__(self, loop_name: Callable[[], str], finalize: Hook) -> None:
        self._loop_name = loop_name
        self._finalize = finalize
        self._alive: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._shut_down = False
        self._outer: Any = None

    def install(self) -> None:
        """Have generators that this thread starts reported here."""
        self._outer = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._on_first_iteration, finalizer=self._on_dropped)

    def uninstall(self) -> None:
        """Put back the hooks from before ``install``."""
        sys.set_asyncgen_hooks(*self._outer)
        self._outer = None

    def _on_first_iteration(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._shut_down:
            warnings.warn(
                f"asynchronous generator {generator!r} was started after {self._loop_name()} had "
                "shut its generators down: nobody will finish it",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        self._alive.add(generator)

    def _on_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._alive.discard(generator)
        self._finalize(generator)

    def take_all(self) -> list[AsyncGenerator[Any, Any]]:
        """Return those that are alive and forget them; warn about any that start later."""
        self._shut_down = True
        alive = list(self._alive)
        self._alive.clear()
        return alive

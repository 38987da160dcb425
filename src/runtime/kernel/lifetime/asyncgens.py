"""Asynchronous generators that a loop has started and has to close.

Source: PEP 525, and ``loop.shutdown_asyncgens`` in the standard library's documentation.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from runtime.kernel.diagnostics.describe import await_frames

if TYPE_CHECKING:

    class Host(Protocol):
        """The methods of a loop that this module uses."""

        def is_closed(self) -> bool:
            """Return whether the loop was closed."""

        def create_task(self, coro: Any) -> Any:
            """Run a coroutine concurrently; return its task."""

        def call_soon_threadsafe(self, callback: Any, *args: Any) -> object:
            """Call ``callback(*args)`` in the loop's thread."""


class AsyncGenerators:
    """The asynchronous generators of one loop, and the hooks that the interpreter calls for them.

    The loop installs ``on_first_iteration`` and ``on_dropped`` while it runs. It closes generators
    in tasks of its own. The end of a run waits for these tasks and does not cancel them, since that
    would end the clean-up of a generator half-way.
    """

    def __init__(self, loop: Host) -> None:
        # A weak reference: generators hold this object through their hooks, and may live longer
        # than the loop.
        self._loop = weakref.ref(loop)
        self._closing: set[Any] = set()
        # The unfinished generators, in the order of their first iteration.
        self._alive: weakref.WeakKeyDictionary[AsyncGenerator[Any, Any], None] = (
            weakref.WeakKeyDictionary()
        )
        self._shut_down = False

    def on_first_iteration(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Register a generator whose iteration begins. The interpreter calls this."""
        if self._shut_down:
            warnings.warn(
                f"asynchronous generator {generator!r} was started after {self._loop()!r} had "
                "shut its generators down: it will not be closed",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        self._alive[generator] = None

    def on_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close a generator that is garbage before its end. The interpreter calls this.

        This may run in any thread, as the garbage collector does.
        """
        self._alive.pop(generator, None)
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._close_dropped, generator)

    def _close_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.close_in_task(generator.aclose())

    def close_in_task(self, closing: Any) -> Any:
        """Run ``closing``, an awaitable that closes a generator, in a task of the loop's own."""
        loop = self._loop()
        assert loop is not None  # The loop is running.
        task = loop.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def closing(self) -> set[Any]:
        """Return the tasks in which generators are being closed."""
        return {task for task in self._closing if not task.done()}

    def just_closed(self) -> set[Any]:
        """Return the tasks that have closed generators and ended in this turn of the loop."""
        return {task for task in self._closing if task.done()}

    def has_unfinished(self) -> bool:
        """Return whether any generator is not finished."""
        return bool(self._alive) or bool(self.closing())

    def take_all(self) -> list[AsyncGenerator[Any, Any]]:
        """Remove and return the unfinished generators, in the order of their first iteration."""
        alive = list(self._alive)
        self._alive.clear()
        return alive

    def mark_shut_down(self) -> None:
        """Warn from now on about generators that are started."""
        self._shut_down = True


def cancelling_tasks_in(
    tasks: Iterable[Any], generators: Iterable[AsyncGenerator[Any, Any]]
) -> list[Any]:
    """Return the tasks that are being cancelled and are suspended in one of ``generators``."""
    frames = {generator.ag_frame for generator in generators}  # type: ignore[attr-defined]
    return [
        task
        for task in tasks
        if task.cancelling() and not frames.isdisjoint(await_frames(task.get_coro()))
    ]

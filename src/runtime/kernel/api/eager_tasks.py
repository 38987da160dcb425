"""Task factories whose tasks run their first step at once.

Source: "Eager Task Factory" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from runtime.kernel.public_types import Task
from runtime.kernel.scheduler import Scheduler


class TaskFactory(Protocol):
    """What ``Loop.set_task_factory`` takes."""

    def __call__(
        self,
        loop: Any,
        coro: Coroutine[Any, Any, Any],
        *,
        eager_start: bool | None = True,
        **options: Any,
    ) -> Any:
        """Return a new task of ``loop`` that runs ``coro``."""


def create_eager_task_factory(custom_task_constructor: Callable[..., Any]) -> TaskFactory:
    """Return a task factory that makes eager tasks with ``custom_task_constructor``.

    That is ``Task``, a subclass, or anything that takes its arguments: a coroutine, and ``loop``,
    ``eager_start`` and the keywords of ``create_task`` by name. Raises TypeError if it cannot be
    called.
    """
    if not callable(custom_task_constructor):
        raise TypeError(f"A task constructor is a callable, not {custom_task_constructor!r}.")

    def factory(
        loop: Scheduler,
        coro: Coroutine[Any, Any, Any],
        *,
        eager_start: bool | None = True,
        **options: Any,
    ) -> Any:
        return custom_task_constructor(coro, loop=loop, eager_start=eager_start, **options)

    return factory


def eager_task_factory(
    loop: Scheduler,
    coro: Coroutine[Any, Any, Any],
    *,
    eager_start: bool | None = True,
    **options: Any,
) -> Task[Any]:
    """Make a task that runs its first step at once, for ``Loop.set_task_factory``.

    A coroutine that never has to wait ends before ``create_task`` returns, and costs no turn of the
    loop. The order in which things happen is then another one: what used to be queued runs before
    the lines that follow it. ``create_task(..., eager_start=False)`` makes an exception.

    >>> import runtime
    >>> async def answer():
    ...     return 42
    >>> async def main():
    ...     runtime.get_running_loop().set_task_factory(runtime.eager_task_factory)
    ...     return runtime.create_task(answer()).done()
    >>> runtime.run(main())
    True
    """
    return Task(coro, loop=loop, eager_start=bool(eager_start), **options)

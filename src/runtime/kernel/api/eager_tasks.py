"""Task factories whose tasks run their first step at once.

Source: "Eager Task Factory" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from runtime.kernel.public_types import Task
from runtime.kernel.scheduler import Scheduler


class TaskFactory(Protocol):
    """A task factory, as ``Loop.set_task_factory`` accepts it."""

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

    ``custom_task_constructor`` is ``Task``, a subclass, or a callable with the same arguments: a
    coroutine, and by keyword ``loop``, ``eager_start`` and the options of ``create_task``. Raises
    TypeError if it is not callable.
    """
    if not callable(custom_task_constructor):
        raise TypeError(
            f"custom_task_constructor must be callable, got {custom_task_constructor!r}"
        )

    if custom_task_constructor is Task:
        return eager_task_factory

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
    loop. This changes the order of execution: the first step runs before the lines that follow
    ``create_task``. ``create_task(..., eager_start=False)`` queues an individual task as usual.

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

"""Public classes ``Future`` and ``Task``: the interpreted subclasses of the compiled cores.

They add weak references, subscription at run time (``Future[int]``), subclassing and precise types:
see ``native/mypyc.py``. The bodies under ``TYPE_CHECKING`` are for type checkers and readers; the
behaviour is in ``future.py`` and ``task.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from runtime.kernel.arguments.refusals import refuse_copy
from runtime.kernel.diagnostics.describe import format_repr
from runtime.kernel.future import FutureCore, plain_futures
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


if TYPE_CHECKING:

    class _Subscriptable(Generic[T]):
        pass

else:

    class _Subscriptable:
        """Base of classes that can be written ``Future[int]``, as asyncio's can."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class Future(FutureCore, _Subscriptable[T]):
    """A result that is not available yet: await it, or add a callback that is called at its end.

    ``loop`` is the loop that the future belongs to, by default the running one. An exception that
    is never retrieved is reported to the loop's exception handler when the future is deallocated.

    Awaiting a future is cancellation safe. But to cancel a task that awaits a future cancels the
    future: use ``shield()`` if other tasks wait for it too.

    Source: the standard library's documentation of ``asyncio.Future``.
    """

    if not TYPE_CHECKING:  # Otherwise mypy would call Task's two bases incompatible.
        __slots__ = ("__dict__", "__weakref__")

        @property
        def __class__(self):
            """Asyncio's class: libraries test ``isinstance(future, asyncio.Future)``."""
            return asyncio.Future

    if TYPE_CHECKING:

        def __init__(self, *, loop: Scheduler | None = None) -> None: ...

        def result(self) -> T:
            """Return the value; raise the exception, CancelledError, or InvalidStateError."""

        def set_result(self, result: T) -> None:
            """Finish with a value. Raises InvalidStateError if the future is already done."""

        def add_done_callback(
            self, fn: Callable[[Self], object], *, context: Context | None = None
        ) -> None:
            """Call ``fn(future)`` once the future is done."""

        def remove_done_callback(self, fn: Callable[[Self], object]) -> int:
            """Remove all entries of the callback ``fn``; return their number."""

        def __await__(self) -> Generator[Any, None, T]: ...

        def __iter__(self) -> Generator[Any, None, T]: ...

    @property
    def _log_traceback(self) -> bool:
        """Whether an exception will be reported. ``asyncio.subprocess`` sets this to False."""
        failure = self._failure()
        return failure is not None and not failure.retrieved

    @_log_traceback.setter
    def _log_traceback(self, value: bool) -> None:
        if value:
            raise ValueError("_log_traceback can only be set to False")
        failure = self._failure()
        if failure is not None:
            failure.retrieved = True

    def __reduce__(self) -> NoReturn:
        refuse_copy(self)

    def __repr__(self) -> str:
        return format_repr(type(self).__name__, self._describe_state, self._describe_briefly)


plain_futures.add(Future)


class Task(TaskCore, Future[T_co]):  # type: ignore[type-var]  # A task has no set_result().
    """A coroutine that the loop runs concurrently with others, and the future of its result.

    ``name`` is shown in reports. ``context`` is the context that the coroutine runs in, by default
    a copy of the current one. With ``eager_start`` the first step runs at once. The loop keeps a
    reference to the task until it ends.

    Source: the standard library's documentation of ``asyncio.Task``.
    """

    __slots__ = ()

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            """Asyncio's class, as for ``Future``."""
            return asyncio.Task

    @property
    def waits_for(self) -> object:
        """The object that the task waits for, such as a lock, a queue or another task.

        It is the object whose method the task awaits, or else the awaited future, as
        ``print_tasks()`` shows it. It is None if the task is running or ready to run, or has ended.

        >>> import runtime
        >>> async def hold(lock: runtime.Lock) -> None:
        ...     async with lock:
        ...         await runtime.sleep(60)
        >>> async def main() -> None:
        ...     lock = runtime.Lock()
        ...     first, second = (runtime.create_task(hold(lock)) for _ in range(2))
        ...     await runtime.sleep(0)
        ...     print(second.waits_for is lock)
        >>> runtime.run(main())
        True
        """
        from runtime.kernel.diagnostics.deadlock import wait_of

        return wait_of(self).subject

    @property
    def _fut_waiter(self) -> Any:
        """The future that the task waits for, or None, under asyncio's name for it.

        anyio does not cancel a task whose future is done: the task is about to be resumed.
        """
        return self._waits_for()

    if TYPE_CHECKING:

        def __init__(
            self,
            coro: Coroutine[Any, Any, T_co] | Generator[Any, Any, T_co],
            *,
            loop: Scheduler | None = None,
            name: object = None,
            context: Context | None = None,
            eager_start: bool | None = False,
        ) -> None: ...

        def get_coro(self) -> Coroutine[Any, Any, T_co] | None:
            """Return the coroutine that the task runs; None if it ended in its eager start."""


async def await_it(awaitable: Awaitable[T]) -> T:
    """Await ``awaitable``, as a coroutine: a task can only run a coroutine."""
    return await awaitable

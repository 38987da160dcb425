"""``Future`` and ``Task``, the classes that users hold.

They add to the compiled cores what a compiled class cannot have: weak references, subscription at
run time (``Future[int]``), subclasses, and precise types. The bodies under ``TYPE_CHECKING`` are
for type checkers and readers; the behaviour is in ``future.py`` and ``task.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from runtime.kernel.arguments.refusals import refuse_copy
from runtime.kernel.diagnostics.describe import described
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
        """What can be written ``Future[int]``, of subclasses too, as asyncio's."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


class Future(FutureCore, _Subscriptable[T]):
    """A result that is not there yet: await it, or have a callback called when it is.

    ``loop`` is the loop that it belongs to, by default the running one. An exception that nobody
    retrieves is reported to the loop's exception handler when the future goes.

    Awaiting it is cancellation safe; but cancelling a task that awaits a future cancels the future:
    use ``shield()`` where others wait for it too.

    Source: the standard library's documentation of ``asyncio.Future``.
    """

    if not TYPE_CHECKING:  # where mypy would take Task's two bases for incompatible
        __slots__ = ("__dict__", "__weakref__")

        @property
        def __class__(self):
            """Asyncio's class: ``isinstance(future, asyncio.Future)`` is what libraries ask."""
            return asyncio.Future

    if TYPE_CHECKING:

        def __init__(self, *, loop: Scheduler | None = None) -> None: ...

        def result(self) -> T:
            """Return the value; raise the exception, CancelledError, or InvalidStateError."""

        def set_result(self, result: T) -> None:
            """Finish with a value. Raises InvalidStateError when the future is already done."""

        def add_done_callback(
            self, fn: Callable[[Self], object], *, context: Context | None = None
        ) -> None:
            """Call ``fn(future)`` once the future is done."""

        def remove_done_callback(self, fn: Callable[[Self], object]) -> int:
            """Take back every ``add_done_callback(fn)``; return how many there were."""

        def __await__(self) -> Generator[Any, None, T]: ...

        def __iter__(self) -> Generator[Any, None, T]: ...

    @property
    def _log_traceback(self) -> bool:
        """Whether an exception would be reported. ``asyncio.subprocess`` sets it to False."""
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
        return described(type(self).__name__, self._describe_state, self._describe_briefly)


plain_futures.add(Future)


class Task(TaskCore, Future[T_co]):  # type: ignore[type-var]  # nobody sets its result
    """A coroutine that the loop runs concurrently with others; also the future of its result.

    ``name`` is for reports, ``context`` the context that the coroutine runs in (by default a copy
    of the current one); with ``eager_start`` the first step runs at once. The loop holds the task
    until it has ended.

    Source: the standard library's documentation of ``asyncio.Task``.
    """

    __slots__ = ()

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            """As that of ``Future``."""
            return asyncio.Task

    @property
    def _fut_waiter(self) -> Any:
        """What the task waits for, under asyncio's name for it.

        anyio looks whether that is done, and lets a task be that is about to be resumed.
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
    """Return a coroutine that awaits ``awaitable``: a task can only be made of a coroutine."""
    return await awaitable

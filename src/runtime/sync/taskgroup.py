"""``TaskGroup``: a block that waits for the tasks that are created in it.

::

    CREATED --enter--> OPEN --exit--> WAITING for the tasks --> CLOSED
                        |                 |
                        +--a task fails---+--> ABORTING: every task is cancelled, and the body if
                                               it is still running; then as above

Source: "Task groups" in the standard library's documentation of asyncio; PEP 654.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.arguments.advice import name_of
from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.diagnostics.describe import safe_repr
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Future, Task
from runtime.kernel.reasons import (
    CancelReason,
    given_reason,
    place_of_caller,
    reason_to_cancel_others,
)
from runtime.kernel.scopes import enter_scope, leave_group_scope
from runtime.kernel.task import TaskCore
from runtime.sync.group_core import GroupCore, create_task_in, is_fatal, note_fewer_tasks
from runtime.sync.scopes import CancelScope
from runtime.sync.started import Started, check_start, wait_for_start

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class TaskGroup(GroupCore, OnlyAsynchronous):
    """An asynchronous context manager that waits for the tasks created in it.

    When one of them, or the body, fails, the other tasks are cancelled and awaited, and all
    exceptions are raised together as an ``ExceptionGroup``. KeyboardInterrupt and SystemExit are
    raised as they are; the exceptions of other tasks are then reported to the loop's exception
    handler.

    Leaving the group is cancellation safe: the tasks are cancelled and awaited, and CancelledError
    is raised. If some tasks failed meanwhile, their exceptions are raised as above, and
    CancelledError is raised at the next await.

    >>> import runtime
    >>> async def main():
    ...     async with runtime.TaskGroup() as group:
    ...         a = group.create_task(runtime.sleep(0, "a"))
    ...         b = group.create_task(runtime.sleep(0, "b"))
    ...     return a.result() + b.result()
    >>> runtime.run(main())
    'ab'
    """

    if TYPE_CHECKING:
        _scope: CancelScope
        _parent: Task[Any] | None
        _tasks: dict[Future[Any], None]
        _starting: dict[Future[Any], None]
        _all_done: Future[None] | None

    def __init__(self) -> None:
        GroupCore.__init__(self, CancelScope())
        self._cancel_on_entry = False

    async def __aenter__(self) -> TaskGroup:
        if self._loop is not None:
            raise RuntimeError(f"TaskGroup {self!r} has already been entered")
        parent = current_task()
        if parent is None:
            raise RuntimeError(f"TaskGroup {self!r} cannot determine the parent task")
        if self._scope._entered:
            raise RuntimeError(self._scope._why_not_entered())
        self._loop = get_running_loop()
        self._parent = parent
        if isinstance(parent, TaskCore):
            enter_scope(self._scope, parent)
        if self._cancel_on_entry:
            self.cancel(self._reason)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        outcome: object
        try:
            handled = await self._end(exc)
        except BaseException as error:
            outcome = leave_group_scope(self._scope, error)
            if outcome is False:
                raise
        else:
            outcome = leave_group_scope(self._scope, None if handled else exc)
            if outcome is False:
                return handled
        finally:
            # The traceback of the raised exception refers to this frame: break the reference cycle.
            del exc, traceback
            self._parent = None
            self._reason = None
            self._errors = []
            self._base_error = None
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome
        return True

    async def _end(self, exc: BaseException | None) -> bool:
        """Wait for the tasks; raise the group's exception, or return whether to suppress ``exc``.

        ``exc`` is the exception that left the body, or None.
        """
        self._exiting = True
        parent = self._parent
        assert parent is not None
        assert self._loop is not None
        if is_fatal(exc) and self._base_error is None:
            self._base_error = exc
        cancellation: BaseException | None = exc if isinstance(exc, CancelledError) else None
        if exc is not None and not self._aborting:
            self._abort(reason_to_cancel_others(exc))
        latest: BaseException | None = None
        refusal: BaseException | None = None
        while self._tasks or self._starting:
            if self._daemons and self._only_daemons_are_left():
                self._cancel_daemons()
            self._all_done = self._loop.create_future()
            try:
                await self._all_done
            except CancelledError as error:
                latest = error
                if not self._aborting:
                    # The parent was cancelled from outside while it waited for us.
                    cancellation = error
                    self._abort(reason_to_cancel_others(error))
            except RuntimeError as error:
                # A generator holds a scope at a ``yield``, or the loop is another one, which the
                # next wait meets again.
                if refusal is not None:
                    raise
                refusal = error
                self._errors.append(error)
                if not self._aborting:
                    self._abort(reason_to_cancel_others(error))
            self._all_done = None
        try:
            if self._base_error is not None:
                self._report_suppressed(self._base_error)
                raise self._base_error
            if self._parent_cancelled:
                if parent.uncancel() == 0:
                    # The group's own request was the only one.
                    cancellation = None
                elif cancellation is None:
                    # The other request came from outside while the group was being aborted.
                    cancellation = latest
            if cancellation is not None and not self._errors:
                raise cancellation
            if exc is not None and not isinstance(exc, CancelledError):
                self._errors.append(exc)
            if self._errors:
                if parent.cancelling():
                    # Other code has cancelled the parent as well: this request has not been
                    # delivered, and is delivered at the next await.
                    parent.uncancel()
                    parent.cancel()
                if isinstance(exc, GeneratorExit) and len(self._errors) == 1:
                    return False  # aclose() of an asynchronous generator expects GeneratorExit.
                raise BaseExceptionGroup("unhandled errors in a TaskGroup", self._errors) from None
            return True
        finally:
            del exc, cancellation, latest, parent, refusal

    if TYPE_CHECKING:

        def create_task(
            self,
            coro: Coroutine[Any, Any, T] | Generator[Any, Any, T],
            *,
            name: object = None,
            context: Context | None = None,
            eager_start: bool | None = None,
            daemon: bool | None = None,
            **options: Any,
        ) -> Task[T]:
            """Run a coroutine as a task of the group; return the task."""

    async def start(
        self,
        function: Callable[[Started[T], *Ts], Coroutine[Any, Any, object]],
        *args: *Ts,
        name: object = None,
    ) -> T:
        """Run ``function(started, *args)`` as a task of the group, and wait until it has started.

        The task has started when it calls ``started(value)``; that value is returned. ``name`` is
        the name of the task. Until then the task belongs to the caller: it is in the scopes that
        the caller is in, and its exception is raised here, unchanged, and does not abort the group.
        From then on it is a task of the group like the others. Raises RuntimeError if the function
        returns without having called ``started()``, and if the group takes no new tasks. Raises
        TypeError for a coroutine, and for a function that is not a coroutine function.

        Cancellation safe: when the caller is cancelled before, the task is cancelled and awaited.
        An exception that it raises then is raised by the group. If the task has started or ended
        at the same time, the call ends as usual, and CancelledError is raised at the next
        ``await``.

        >>> import runtime
        >>> async def serve(started: runtime.Started[int]) -> None:
        ...     async with await runtime.start_server(print, "127.0.0.1", 0) as server:
        ...         started(server.sockets[0].getsockname()[1])
        ...         await runtime.sleep_forever()
        >>> async def main() -> bool:
        ...     async with runtime.TaskGroup() as group:
        ...         port = await group.start(serve)
        ...         group.cancel()
        ...     return port > 0
        >>> runtime.run(main())
        True
        """
        check_start(function)
        loop = self._checked_loop(None)
        started: Started[T] = Started(loop, name_of(function))
        coro = started.run(function, args)

        def create(scope: CancelScope) -> Task[Any]:
            task: Task[Any] = create_task_in(scope, loop, coro, {"name": name})
            self._starting[task] = None
            started.joins(lambda: self._adopt(task, started))
            task.add_done_callback(lambda done: self._on_starting_done(done, started))
            return task

        return await wait_for_start(started, create)

    def _adopt(self, task: Task[Any], started: Started[Any]) -> None:
        """Make a task that has just started a task of the group."""
        self._starting.pop(task, None)
        self._tasks[task] = None
        started.move_into(self._scope, task)
        if self._aborting:
            self._cancel_once(task, self._reason)

    def _on_starting_done(self, task: Future[Any], started: Started[Any]) -> None:
        self._starting.pop(task, None)
        if started.is_waited_for():
            started.note_end()
            note_fewer_tasks(self)
        else:
            # It is a task of the group, or the caller of start() was cancelled.
            self._on_task_done(task)

    @property
    def cancel_scope(self) -> CancelScope:
        """The scope that the body and the tasks of the group are in.

        ``group.cancel_scope.cancel()`` cancels them until the group is left, while
        ``group.cancel()`` makes one request to each of them, as asyncio does. Its ``deadline`` and
        ``shield`` can be set before the group is entered, and later.
        """
        return self._scope

    def cancel(self, reason: str | CancelReason | None = None) -> None:
        """Cancel the tasks of the group and its body, and leave the group without an exception.

        CancelledError is raised once in each of them, so that they can clean up; ``reason`` is a
        text for it, and for reports. A task that is in a shield is cancelled when it leaves it.
        Before the group is entered, it takes effect on entry. When the group has ended, or is being
        aborted already, it does nothing. Exceptions that the tasks raise when they are cancelled
        are raised as usual, and a cancellation from outside the group is still raised as
        CancelledError. Raises TypeError for a reason that is not a text.

        Source: ``asyncio.TaskGroup.cancel``, new in Python 3.15.
        """
        task = current_task() if self._parent is not None else None
        given = given_reason("call", reason, "TaskGroup.cancel()", task, place_of_caller())
        if self._loop is None:
            self._cancel_on_entry = True
            self._reason = given
        elif (
            self._parent is not None
            and not self._aborting
            and (self._tasks or self._starting or not self._exiting)
        ):
            self._abort(given)
            self._cancel_parent(self._parent, given)

    def _report_suppressed(self, fatal: BaseException) -> None:
        """Report the exceptions of tasks that are not raised because ``fatal`` is raised."""
        assert self._loop is not None
        for error in self._errors:
            if error is not fatal:
                self._loop.call_exception_handler(
                    {
                        "message": f"A task of {self!r} failed; that is not raised, because "
                        f"{safe_repr(fatal)} ends the group",
                        "exception": error,
                    }
                )

    def __repr__(self) -> str:
        words = []
        if self._tasks:
            words.append(f"tasks={len(self._tasks)}")
        if self._errors:
            words.append(f"errors={len(self._errors)}")
        if self._aborting:
            words.append("cancelling")
        elif self._loop is not None:
            words.append("entered")
        return f"<TaskGroup{''.join(' ' + word for word in words)}>"

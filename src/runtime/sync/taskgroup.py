"""``TaskGroup``: a block that waits for the tasks that are created in it.

::

    CREATED --enter--> OPEN --exit--> WAITING for the tasks --> CLOSED
                        |                 |
                        +--a task fails---+--> ABORTING: every task is cancelled, and the body if
                                               it is still running; then as above

Source: "Task groups" in the standard library's documentation of asyncio; PEP 654.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.arguments.advice import name_of
from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.core import LoopCore
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Future, Task
from runtime.kernel.reasons import (
    CancelReason,
    cancel_reason,
    failure_reason,
    given_reason,
    place_of_caller,
)
from runtime.kernel.scopes import cancel_in_group, enter_scope, join_group, leave_group_scope
from runtime.kernel.task import TaskCore
from runtime.sync.scopes import CancelScope
from runtime.sync.started import Started, check_start, wait_for_start

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class TaskGroup(OnlyAsynchronous):
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

    def __init__(self) -> None:
        self._entered = False
        self._cancel_on_entry = False
        self._exiting = False
        self._aborting = False
        self._loop: LoopCore | None = None
        self._parent: Task[Any] | None = None
        # Whether the group itself has cancelled the parent.
        self._parent_cancelled = False
        self._tasks: set[Future[Any]] = set()
        # Those of the tasks that are cancelled when all others have ended. A daemon that was
        # cancelled is waited for as any other task.
        self._daemons: set[Future[Any]] = set()
        # The tasks that have not called ``started()`` yet: they are not tasks of the group yet.
        self._starting: set[Future[Any]] = set()
        self._scope = CancelScope()
        # The tasks of the group inherit the scope: a change of it is passed on to all in this set.
        self._scope._members = self._tasks
        self._reason: CancelReason | None = None
        self._errors: list[BaseException] = []
        self._base_error: BaseException | None = None
        self._all_done: Future[None] | None = None

    def _on_behalf_of(self) -> Task[Any] | None:
        """Return the task that waits for the tasks of the group."""
        return self._parent

    async def __aenter__(self) -> TaskGroup:
        if self._entered:
            raise RuntimeError(f"TaskGroup {self!r} has already been entered")
        parent = current_task()
        if parent is None:
            raise RuntimeError(f"TaskGroup {self!r} cannot determine the parent task")
        self._loop = get_running_loop()
        self._parent = parent
        self._entered = True
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
        if self._is_fatal(exc) and self._base_error is None:
            self._base_error = exc
        cancellation: BaseException | None = exc if isinstance(exc, CancelledError) else None
        if exc is not None and not self._aborting:
            self._abort(_reason_of(exc))
        latest: BaseException | None = None
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
                    self._abort(_reason_of(error))
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
            del exc, cancellation, latest, parent

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

    else:

        def create_task(
            self, coro: Coroutine[Any, Any, T] | Generator[Any, Any, T], **options: Any
        ) -> Task[T]:
            """Run a coroutine as a task of the group; return the task.

            The options are those of ``runtime.create_task``. A task with ``daemon=True`` works for
            the others: when these and the body have ended, it is cancelled. Raises RuntimeError,
            and closes the coroutine, when the group was not entered, has ended, or is being
            aborted.
            """
            return self._add(coro, options)

    def _add(self, coro: Any, options: dict[str, Any]) -> Task[Any]:
        loop = self._checked_loop(coro)
        is_daemon = bool(options.get("daemon"))
        task = self._create_task(loop, coro, self._scope, options)
        self._tasks.add(task)
        if is_daemon:
            self._daemons.add(task)
        # A task that was started eagerly may have ended already. Its end is noticed in the next
        # turn all the same: a failure would cancel the parent here and now, although the caller may
        # be the first step of another task.
        task.add_done_callback(self._on_task_done)
        if not task.done():
            # The task may have been started eagerly, and may have aborted the group, or cancelled
            # its scope, before it was added to the group.
            join_group(self._scope, task)
            if self._aborting:
                self._cancel_once(task, self._reason)
        try:
            return task
        finally:
            # The traceback of an exception of the task may refer to this frame: break the reference
            # cycle.
            del task

    def _checked_loop(self, coro: Any) -> LoopCore:
        """Return the loop of the group. Raises RuntimeError if the group takes no new tasks."""
        problem = None
        if not self._entered:
            problem = "has not been entered"
        elif self._exiting and not self._tasks and not self._starting:
            problem = "is finished"
        elif self._aborting:
            problem = "is shutting down"
        if problem is not None or self._loop is None:
            if asyncio.iscoroutine(coro):
                coro.close()
            raise RuntimeError(f"TaskGroup {self!r} {problem}")
        return self._loop

    def _create_task(
        self, loop: LoopCore, coro: Any, scope: CancelScope, options: dict[str, Any]
    ) -> Task[Any]:
        """Create a task that inherits ``scope``, if that is in force."""
        if scope._task is not None:
            loop._scope_of_next_task = scope
        try:
            return loop.create_task(coro, **options)
        finally:
            loop._scope_of_next_task = None

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
            task = self._create_task(loop, coro, scope, {"name": name})
            self._starting.add(task)
            started.joins(lambda: self._adopt(task, started))
            task.add_done_callback(lambda done: self._on_starting_done(done, started))
            return task

        return await wait_for_start(started, create)

    def _adopt(self, task: Task[Any], started: Started[Any]) -> None:
        """Make a task that has just started a task of the group."""
        self._starting.discard(task)
        self._tasks.add(task)
        started.move_into(self._scope, task)
        if self._aborting:
            self._cancel_once(task, self._reason)

    def _on_starting_done(self, task: Future[Any], started: Started[Any]) -> None:
        self._starting.discard(task)
        if started.is_waited_for():
            started.note_end()
            self._note_fewer_tasks()
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
        if not self._entered:
            self._cancel_on_entry = True
            self._reason = given
        elif self._parent is not None and not self._aborting and (self._tasks or not self._exiting):
            self._abort(given)
            self._cancel_parent(self._parent, given)

    @staticmethod
    def _is_fatal(exc: BaseException | None) -> bool:
        return isinstance(exc, (SystemExit, KeyboardInterrupt))

    def _only_daemons_are_left(self) -> bool:
        return not (self._starting or self._tasks.difference(self._daemons))

    def _cancel_daemons(self) -> None:
        """Cancel the daemons, since the body and all other tasks have ended."""
        reason = CancelReason("call", "the other tasks of the group have ended")
        daemons = list(self._daemons)
        self._daemons.clear()
        for task in daemons:
            if not task.done() and not self._is_ending(task):
                self._cancel_once(task, reason)

    def _note_fewer_tasks(self) -> None:
        """Wake the end of the group if all tasks have ended, or only daemons are left."""
        waiter = self._all_done
        if waiter is not None and not waiter.done():
            is_empty = not self._tasks and not self._starting
            if is_empty or (self._daemons and self._only_daemons_are_left()):
                waiter.set_result(None)

    def _abort(self, reason: CancelReason | None) -> None:
        """Cancel the tasks of the group, except those that the end of the run has cancelled."""
        self._aborting = True
        self._reason = reason
        self._daemons.clear()
        for task in list(self._tasks):
            if not task.done() and not self._is_ending(task):
                self._cancel_once(task, reason)

    def _cancel_once(self, task: Any, reason: CancelReason | None) -> None:
        """Request once that a task of the group, or its parent, be cancelled.

        There is no request while the scope of the group is cancelled: it interrupts the task
        already, and the request would interrupt its clean-up in a shield.
        """
        if not isinstance(task, TaskCore) or self._scope._task is None:
            task.cancel()
        elif not self._scope._effective:
            cancel_in_group(self._scope, task, reason)

    def _is_ending(self, task: Future[Any]) -> bool:
        """Return whether the task has been cancelled already, by the end of the run.

        A second request would interrupt the clean-up of the task at its next await.
        """
        return self._loop is not None and task in self._loop._ending

    def _cancel_parent(self, parent: Task[Any], reason: CancelReason | None) -> None:
        """Cancel the body; its request is taken back when the group is left."""
        if not self._scope._effective:
            self._parent_cancelled = True
        self._cancel_once(parent, reason)

    def _report_suppressed(self, fatal: BaseException) -> None:
        """Report the exceptions of tasks that are not raised because ``fatal`` is raised."""
        assert self._loop is not None
        for error in self._errors:
            if error is not fatal:
                self._loop.call_exception_handler(
                    {
                        "message": f"A task of {self!r} failed; that is not raised, because "
                        f"{fatal!r} ends the group",
                        "exception": error,
                    }
                )

    def _on_task_done(self, task: Future[Any]) -> None:
        self._tasks.discard(task)
        self._daemons.discard(task)
        self._note_fewer_tasks()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        self._errors.append(error)
        if self._is_fatal(error) and self._base_error is None:
            self._base_error = error
        parent = self._parent
        if parent is None or parent.done():
            # The body ended without a call of __aexit__, which would raise the exception.
            assert self._loop is not None
            self._loop.call_exception_handler(
                {
                    "message": f"Task {task!r} has errored out but its parent task {parent!r} is "
                    "already completed",
                    "exception": error,
                    "task": task,
                }
            )
            return
        if not self._aborting and not self._parent_cancelled:
            reason = failure_reason(error)
            self._abort(reason)
            if not self._is_ending(parent):
                self._cancel_parent(parent, reason)

    def __repr__(self) -> str:
        words = []
        if self._tasks:
            words.append(f"tasks={len(self._tasks)}")
        if self._errors:
            words.append(f"errors={len(self._errors)}")
        if self._aborting:
            words.append("cancelling")
        elif self._entered:
            words.append("entered")
        return f"<TaskGroup{''.join(' ' + word for word in words)}>"


def _reason_of(error: BaseException) -> CancelReason | None:
    """Return the reason for cancelling the tasks of a group whose body ended with ``error``."""
    if isinstance(error, CancelledError):
        return cancel_reason(error)
    return failure_reason(error)

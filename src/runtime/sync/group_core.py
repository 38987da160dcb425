"""The tasks of a ``TaskGroup``: how they are added, and what follows from the end of each.

``GroupCore`` is the behaviour that each task of a group costs, compiled where a compiler was found.
The public class, with the ``async`` methods, and its states are in ``taskgroup.py``.

Invariants:

- ``_tasks`` has the tasks that have not ended, or whose end was not reported yet. The end of a task
  is reported in a later turn of the loop than the one in which it ended, in the order of the ends.
- ``_loop`` is set if and only if the group was entered.
"""

from __future__ import annotations

import asyncio
from typing import Any

from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, subscribe
from runtime.kernel.handles import ContextRunnable
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.reasons import CancelReason, failure_reason
from runtime.kernel.scopes import ScopeCore, cancel_in_group, join_group
from runtime.kernel.task import TaskCore, leave_task


@mypyc_attr(allow_interpreted_subclasses=True)
class GroupCore:
    """The behaviour of a ``TaskGroup``, without its ``async`` methods."""

    __slots__ = (
        "_aborting",
        "_all_done",
        "_base_error",
        "_daemons",
        "_errors",
        "_exiting",
        "_loop",
        "_parent",
        "_parent_cancelled",
        "_reason",
        "_scope",
        "_starting",
        "_tasks",
    )

    # Compiled, flags that stand together share eight bytes.
    _exiting: bool
    _aborting: bool
    _parent_cancelled: bool

    def __init__(self, scope: ScopeCore) -> None:
        self._exiting = False
        self._aborting = False
        self._loop: LoopCore | None = None
        self._parent: Any = None
        # Whether the group itself has cancelled the parent.
        self._parent_cancelled = False
        # In dictionaries, tasks stay in the order of their creation, in which they are cancelled.
        self._tasks: dict[Any, None] = {}
        # Those of the tasks that are cancelled when all others have ended. A daemon that was
        # cancelled is waited for as any other task.
        self._daemons: dict[Any, None] = {}
        # The tasks that have not called ``started()`` yet: they are not tasks of the group yet.
        self._starting: dict[Any, None] = {}
        self._scope = scope
        # The tasks of the group inherit the scope: a change of it is passed on to all of them.
        scope._members = self._tasks
        self._reason: CancelReason | None = None
        self._errors: list[BaseException] = []
        self._base_error: BaseException | None = None
        self._all_done: Any = None

    def create_task(self, coro: Any, **options: Any) -> Any:
        """Run a coroutine as a task of the group; return the task.

        The options are those of ``runtime.create_task``. A task with ``daemon=True`` works for
        the others: when these and the body have ended, it is cancelled. Raises RuntimeError,
        and closes the coroutine, when the group was not entered, has ended, or is being
        aborted.
        """
        loop = self._loop
        if loop is None or self._aborting or self._exiting:
            loop = self._checked_loop(coro)
        scope = self._scope
        task = create_task_in(scope, loop, coro, options)
        self._tasks[task] = None
        if options and options.get("daemon"):
            self._daemons[task] = None
        # A task that was started eagerly may have ended already. Its end is noticed in the next
        # turn all the same: a failure would cancel the parent here and now, although the caller may
        # be the first step of another task.
        if isinstance(task, FutureCore):
            subscribe(task, TaskEnd(self, task))
            is_pending = task._pending
        else:
            task.add_done_callback(self._on_task_done)
            is_pending = not task.done()
        if is_pending and (scope._effective or self._aborting):
            # The task was started eagerly, and has aborted the group, or cancelled its scope,
            # before it was added; or it comes from a task factory, and knows no scopes.
            join_group(scope, task)
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
        problem = ""
        if self._loop is None:
            problem = "has not been entered"
        elif self._exiting and not self._tasks and not self._starting:
            problem = "is finished"
        elif self._aborting:
            problem = "is shutting down"
        if problem or self._loop is None:
            if asyncio.iscoroutine(coro):
                coro.close()
            raise RuntimeError(f"TaskGroup {self!r} {problem}")
        return self._loop

    def _on_behalf_of(self) -> Any:
        """Return the task that waits for the tasks of the group."""
        return self._parent

    # -- Ends of tasks -----------------------------------------------------------------------------

    def _on_task_done(self, task: Any) -> None:
        """Take note that ``task`` is done, with a result or an exception, or cancelled."""
        self._tasks.pop(task, None)
        self._daemons.pop(task, None)
        note_fewer_tasks(self)
        if task.cancelled():
            return
        error: BaseException | None = task.exception()
        if error is None:
            return
        self._errors.append(error)
        if is_fatal(error) and self._base_error is None:
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

    def _only_daemons_are_left(self) -> bool:
        return not (self._starting or self._tasks.keys() - self._daemons.keys())

    # -- Cancelling --------------------------------------------------------------------------------

    def _cancel_daemons(self) -> None:
        """Cancel the daemons, since the body and all other tasks have ended."""
        reason = CancelReason("call", "the other tasks of the group have ended")
        daemons = list(self._daemons)
        self._daemons.clear()
        for task in daemons:
            if not task.done() and not self._is_ending(task):
                self._cancel_once(task, reason)

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

    def _is_ending(self, task: Any) -> bool:
        """Return whether the task has been cancelled already, by the end of the run.

        A second request would interrupt the clean-up of the task at its next await.
        """
        return self._loop is not None and task in self._loop._ending

    def _cancel_parent(self, parent: Any, reason: CancelReason | None) -> None:
        """Cancel the body; its request is taken back when the group is left."""
        if not self._scope._effective:
            self._parent_cancelled = True
        self._cancel_once(parent, reason)


class TaskEnd(ContextRunnable):
    """Entry of the ready queue that reports the end of a task to its group.

    It does the work of a done callback, without the cost of a handle and a copy of the context.
    """

    __slots__ = ("group", "task")

    def __init__(self, group: GroupCore, task: FutureCore) -> None:
        self.group = group
        self.task = task

    def _run(self) -> None:
        """Report the end of the task."""
        group = self.group
        task = self.task
        if task._failed:
            self._report_failure()
            return
        group._tasks.pop(task, None)
        if group._daemons:
            group._daemons.pop(task, None)
        note_fewer_tasks(group)

    def _report_failure(self) -> None:
        """Report the end of a task that has failed or was cancelled.

        This may cancel tasks and call the exception handler, and so run code of the program: it is
        not part of the task that ran last, it has a context as in a callback, and its exceptions
        are reported as those of a callback.
        """
        loop = self.task._loop
        leave_task(loop)
        context: Any = self.get_context()
        try:
            if context is None:
                self.group._on_task_done(self.task)
            else:
                # In a copy, because a context cannot be entered twice.
                context.copy().run(self.group._on_task_done, self.task)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            loop.call_exception_handler(
                {
                    "message": f"Exception in {self.group!r} after the end of {self.task!r}",
                    "exception": error,
                }
            )

    def get_context(self) -> Any:
        """Return the context of the task that waits for the group, or else of the ended task."""
        # Up to Python 3.11 the tasks of asyncio have no such method; a group may be left early.
        get_context: Any = getattr(self.group._parent, "get_context", None)
        if get_context is None:
            get_context = getattr(self.task, "get_context", None)
        return None if get_context is None else get_context()

    def _short_name(self) -> str:
        """Return the name by which the ``repr`` of the task shows the group."""
        return "TaskGroup"

    def _on_behalf_of(self) -> Any:
        """Return the task that waits for the tasks of the group."""
        return self.group._parent


def create_task_in(scope: ScopeCore, loop: LoopCore, coro: Any, options: dict[str, Any]) -> Any:
    """Create a task that inherits ``scope``, if that is in force; return the task."""
    if scope._task is not None:
        loop._scope_of_next_task = scope
    try:
        return loop.create_task(coro, **options) if options else loop.create_task(coro)
    finally:
        loop._scope_of_next_task = None


def note_fewer_tasks(group: GroupCore) -> None:
    """Wake the end of the group if all tasks have ended, or only daemons are left."""
    if (group._tasks or group._starting) and not (
        group._daemons and group._only_daemons_are_left()
    ):
        return
    waiter = group._all_done
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def is_fatal(exc: BaseException | None) -> bool:
    """Return whether an exception ends the program, and so is raised without a group."""
    return isinstance(exc, (SystemExit, KeyboardInterrupt))

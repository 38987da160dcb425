"""``Started``: how a task tells ``TaskGroup.start`` that it is ready.

::

    start() --> WAITING --- the task calls started(value) --> STARTED: a task of the group
                   |
                   +------- the task ends -----------------> its exception is raised in start()
                   |
                   +------- the caller is cancelled -------> GIVEN UP: the task is cancelled

Two scopes, which are never cancelled themselves, connect the task with the scopes around it.
``_caller_scope`` is in force in the caller while it waits, and the task inherits it, so that scopes
around the caller reach the task. ``_task_scope`` is the outermost scope of the task's own. When the
task starts, the parent of ``_task_scope`` changes from the caller's scope to that of the group.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from runtime.kernel.api.running import current_task
from runtime.kernel.arguments.advice import name_of
from runtime.kernel.core import LoopCore
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Future, Task
from runtime.kernel.reasons import reason_to_cancel_others
from runtime.kernel.scopes import cancel_in_group, join_group, move_scope
from runtime.kernel.task import TaskCore
from runtime.sync.deferring import defer
from runtime.sync.scopes import CancelScope

T = TypeVar("T")


class Started(Generic[T]):
    """The function that ``TaskGroup.start`` passes to a task: calling it ends the wait.

    ``started(value)`` makes ``start()`` return ``value``, and ``started()`` makes it return None.
    It is called in the loop's thread. Raises RuntimeError when it is called a second time, and when
    the task has ended without a call. When the caller of ``start()`` was cancelled before, it does
    nothing, and the task is cancelled as well.
    """

    __slots__ = (
        "_caller_scope",
        "_ended",
        "_given_up",
        "_has_ended",
        "_join",
        "_name",
        "_started",
        "_task_scope",
        "_value",
    )

    def __init__(self, loop: LoopCore, name: str) -> None:
        self._name = name
        self._caller_scope = CancelScope()
        self._task_scope = CancelScope()
        self._join: Callable[[], None] | None = None
        self._started = False
        self._given_up = False
        # Whether the task has ended without a call.
        self._has_ended = False
        self._value: Any = None
        # Finished when the task has started or ended.
        self._ended: Future[None] = loop.create_future()

    @overload
    def __call__(self: Started[None]) -> None: ...
    @overload
    def __call__(self, value: T) -> None: ...
    def __call__(self, value: Any = None) -> None:
        """End the wait in ``start()``, which returns ``value``."""
        if self._started:
            raise RuntimeError(f"{self!r} was called before: a task starts once")
        if self._has_ended:
            raise RuntimeError(f"{self!r} cannot be called any more: the task has ended")
        if self._given_up or self._caller_scope._effective:
            return  # The caller is being cancelled, and the task with it.
        self._started = True
        self._value = value
        if self._join is not None:
            self._join()
        self._wake_caller()

    @overload
    def started(self: Started[None]) -> None: ...
    @overload
    def started(self, value: T) -> None: ...
    def started(self, value: Any = None) -> None:
        """Do the same as the call, for functions that were written for trio's ``task_status``."""
        self(value)

    def __repr__(self) -> str:
        state = "waiting"
        if self._started or self._given_up or self._has_ended:
            state = "called" if self._started else "given up" if self._given_up else "ended"
        return f"<Started of {self._name}() {state}>"

    # -- For the group -----------------------------------------------------------------------------

    async def run(self, function: Any, args: tuple[Any, ...]) -> object:
        """Run the function of the task in the task's outermost scope."""
        # A task of another class, from a task factory, has no scopes.
        if not isinstance(current_task(), TaskCore):
            return await self._call(function, args)
        with self._task_scope:
            return await self._call(function, args)
        return None

    def _call(self, function: Any, args: tuple[Any, ...]) -> Any:
        """Call the function of the task; return its coroutine."""
        coro = function(self, *args)
        if not inspect.isawaitable(coro):
            raise TypeError(
                f"start() expected a coroutine function, got {function!r}, which returned {coro!r}"
            )
        return coro

    def joins(self, join: Callable[[], None]) -> None:
        """Call ``join()`` when the task starts, or at once if it has started already."""
        if self._started:
            join()
        else:
            self._join = join

    def move_into(self, scope: CancelScope, task: Future[Any]) -> None:
        """Move the task from the scope of the caller into that of its group."""
        self._caller_scope._members = None
        if isinstance(task, TaskCore) and scope._task is not None:
            move_scope(self._task_scope, scope, task)

    def is_waited_for(self) -> bool:
        """Return whether the task has not started yet, and the caller waits for it."""
        return not self._started and not self._given_up

    def note_end(self) -> None:
        """Note that the task has ended without a call, and wake the caller."""
        self._has_ended = True
        self._wake_caller()

    def forget_task(self) -> None:
        """Remove the references to the task, which has one to this object."""
        self._join = None
        self._caller_scope._members = None

    def _wake_caller(self) -> None:
        self._join = None
        if not self._ended.done():
            self._ended.set_result(None)


def check_start(function: object) -> None:
    """Raise TypeError if ``function`` cannot be the function of a task."""
    if inspect.iscoroutine(function):
        function.close()
        raise TypeError(
            f"start() expected a coroutine function, got {function!r}: pass the function and its "
            f"arguments, as in start({name_of(function)}, ...)"
        )
    if not callable(function):
        raise TypeError(f"start() expected a coroutine function, got {function!r}")


async def wait_for_start(started: Started[T], create: Callable[[CancelScope], Task[Any]]) -> T:
    """Create the task in the scope of the caller; wait until it has started; return the value.

    When the caller is cancelled, the task is cancelled and awaited.
    """
    task: Task[Any] | None = None
    try:
        if not isinstance(current_task(), TaskCore):
            task = create(started._caller_scope)
            await _wait(started, task)
        else:
            with started._caller_scope as scope:
                task = create(scope)
                scope._members = {task: None}
                join_group(scope, task)
                await _wait(started, task)
        if started._started:
            value: T = started._value
            return value
        assert task is not None
        task.result()  # It raises the exception of the task.
        raise RuntimeError(f"{started._name}() has ended, and has not called started()")
    finally:
        # The traceback of an exception of the task refers to this frame: break the reference cycle.
        del task
        started.forget_task()


async def _wait(started: Started[Any], task: Any) -> None:
    """Wait until the task has started or ended."""
    try:
        await started._ended
    except BaseException as error:
        # A CancelledError; GeneratorExit, with which no more can be awaited; or a RuntimeError, if
        # a generator holds a scope at a ``yield``.
        has_started = not started.is_waited_for()
        if (has_started or task.done()) and defer(error):
            return  # The task started or ended at the same time.
        if has_started or isinstance(error, GeneratorExit):
            raise
        started._given_up = True
        if not isinstance(task, TaskCore):
            task.cancel()
        elif not started._caller_scope._effective:
            cancel_in_group(started._caller_scope, task, reason_to_cancel_others(error))
        await _end_of(task)
        raise
    finally:
        del task


async def _end_of(task: Task[Any]) -> None:
    """Wait until a cancelled task has ended, however often the caller is cancelled meanwhile."""
    loop: LoopCore = task.get_loop()
    while not task.done():
        ended = loop.create_future()
        # A new future each time: the last one was cancelled with the caller.
        task.add_done_callback(functools.partial(_finish, ended))
        try:
            await ended
        except CancelledError:
            pass


def _finish(ended: Future[None], _task: object) -> None:
    if not ended.done():
        ended.set_result(None)

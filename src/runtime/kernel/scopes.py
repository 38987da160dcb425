"""Cancel scopes: blocks of code in which a cancellation stays in force until they are left.

::

                enter                      cancel(), or the deadline             exit
    CREATED ------------> IN FORCE ----------------------------------> CANCELLED ----> LEFT
                             |                                                          ^
                             +------------------------- exit ---------------------------+

Each task refers to its innermost scope in force, and each scope to the one around it, its parent.
The scopes of a task are a chain that ends at its outermost scope, or at the scope of the
``TaskGroup`` that created the task, which is in force in the task around all its own scopes::

    parent task:     _scope --> scope 2 --> group's scope --> scope 1 --> None
                                              ^       |
                                              |       | _members
    child task:      _scope --> scope 3 ------+       v
                                                   {child task}

A scope is effective if it was cancelled, or if its parent is effective and no shield stands
between, that is, the scope is not a shield itself. This is kept in an attribute, so that entering a
scope takes the same time at any depth. A change is passed on inwards: along the chain of the task
that entered the scope, and, for the scope of a group, to the chains of the group's tasks. Where a
scope does not change, the scopes inside it do not either. No scope refers to those inside it, so
that entering and leaving change two attributes.

Invariants:

- The flag ``IN_CANCELLED_SCOPE`` of a task is set if and only if its innermost scope is effective.
  ``Task._cancel_requests`` then includes one request for it. So ``cancelling()`` is not zero, as
  code expects that asks whether the CancelledError that it caught came from outside; and when the
  flag is cleared, the request is taken back, as by ``uncancel()``. If the program has taken it back
  already, the flag ``TAKEN_BACK`` is set as well.
- ``_requests`` of a scope in force is not larger than the number of requests from outside. If more
  came than that, the scope does not end the CancelledError.
- ``_task`` is set while the scope is in force. A scope that is left wrongly, in another task or in
  the wrong order, is removed from the chain all the same, and the error is raised.

The rules by which a task in an effective scope is interrupted are in ``task.py`` and
``suspensions.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from threading import get_ident
from types import FrameType, FunctionType
from typing import Any, Final

from runtime.kernel.arguments.seconds import NEVER, seconds
from runtime.kernel.compat.registry import current_task, loop_of_thread, runs_asyncio_task
from runtime.kernel.diagnostics.describe import format_repr, safe_repr
from runtime.kernel.errors import CancelledError, is_cancellation
from runtime.kernel.handles import Runnable
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.reasons import (
    CancelReason,
    given_reason,
    place_of_caller,
)
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.scope_state import ScopeState
from runtime.kernel.suspensions import (
    holder_of,
    is_at_yield,
    is_of_generator,
    place_of_wait,
)
from runtime.kernel.task import (
    HOLDS_GENERATOR,
    IN_CANCELLED_SCOPE,
    MUST_CANCEL,
    TAKEN_BACK,
    TaskCore,
    interrupt_all,
    leave_task,
)
from runtime.kernel.timers import TimerHeap

_NEVER: Final[float] = NEVER
_loop_of_thread: Final[Callable[[int], Any]] = loop_of_thread
_get_ident: Final[Callable[[], int]] = get_ident
_runs_asyncio_task: Final[Callable[[Any], bool]] = runs_asyncio_task
# From Python 3.12 on, a task of this package may start a task of asyncio eagerly, and so inside
# its own step.
_EAGER_TASKS: Final = sys.version_info >= (3, 12)
_frame_at: Final[Callable[[int], FrameType]] = sys._getframe
_CO_COROUTINE: Final = 0x80


class Deadline(Runnable):
    """The timer of a scope with a finite deadline."""

    __slots__ = ("_heap", "_scope", "_when")

    def __init__(self, scope: ScopeCore, when: float, heap: TimerHeap) -> None:
        self._scope: ScopeCore | None = scope
        self._when = when
        self._heap: TimerHeap | None = heap
        heap.push(self, when)

    def _run(self) -> None:
        """Cancel the scope. The loop calls this in the turn in which the deadline has passed."""
        scope = self._scope
        if scope is None:
            return
        self._scope = None
        scope._timer = None
        task = scope._task
        if task is None:
            return
        loop = task._loop
        leave_task(loop)
        try:
            scope._expire()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            loop.call_exception_handler(
                {"message": f"Exception at the deadline of {scope!r}", "exception": error}
            )

    def cancelled(self) -> bool:
        """Return whether the deadline was removed or moved, or the scope was left."""
        return self._scope is None

    def drop(self) -> None:
        """Remove the timer from the heap."""
        self._scope = None
        heap = self._heap
        if heap is not None:
            self._heap = None
            heap.forget(self)

    def _due(self) -> float:
        """Return the deadline, on the loop's clock, in seconds."""
        return self._when

    def _leave_heap(self) -> bool:
        """Note that the timer left the timer heap; return whether it was there until now."""
        if self._heap is None:
            return False
        self._heap = None
        return True

    def _is_due(self) -> bool:
        """Return whether the timer was due, and is queued or about to run."""
        return self._heap is None and self._scope is not None

    def _on_behalf_of(self) -> Any:
        """Return the task that has entered the scope, or None."""
        return None if self._scope is None else self._scope._task


@mypyc_attr(allow_interpreted_subclasses=True)
class ScopeCore(ScopeState):
    """The behaviour of a cancel scope. See ``runtime.sync.scopes.CancelScope``."""

    __slots__ = (
        "_abandoned",
        "_caught",
        "_deadline_place",
        "_entered",
        "_raises_timeout",
        "_text",
        "_timer",
    )

    def __init__(self, *, deadline: Any = NEVER, shield: Any = False, reason: Any = None) -> None:
        ScopeState.__init__(
            self,
            _NEVER if deadline is NEVER else seconds(deadline, "CancelScope(deadline=...)"),
            False if shield is False else _checked_shield(shield),
        )
        # The reason that the program gave for the deadline.
        self._text: Any = reason
        if reason is not None:
            given_reason("deadline", reason, "CancelScope()", None, None)
        self._timer: Deadline | None = None
        self._entered = False
        # Whether it was removed from its task's chain because a generator held it at a yield.
        self._abandoned = False
        self._caught = False
        # Whether CancelledError becomes TimeoutError if the deadline was the cause.
        self._raises_timeout = False
        self._deadline_place: str | None = None

    # -- Entering and leaving ----------------------------------------------------------------------

    def __enter__(self) -> Any:
        loop: Any = _loop_of_thread(_get_ident())
        task = None if loop is None else running_task(loop)
        if task is None or self._entered:
            raise RuntimeError(self._why_not_entered())
        frame = _frame_at(_DEPTH)
        code = frame.f_code
        self._code = code
        self._instruction = frame.f_lasti
        enter_scope(self, task)
        if not code.co_flags & _CO_COROUTINE or code.co_name == "__aenter__":
            self._note_holder(frame)
        return self

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> bool:
        task: TaskCore | None = self._task
        if task is None or task._scope is not self or task._loop._current is not task:
            return self._leave_wrongly(exc)
        outcome = leave_scope(self, task, exc)
        if outcome is False:
            return False
        if outcome is True:
            return True
        # The task may fail with the exception that is raised here, whose traceback refers to this
        # frame: break the reference cycle.
        task = None
        try:
            assert isinstance(outcome, BaseException)
            if isinstance(outcome, TimeoutError):
                outcome.__cause__ = exc  # Compiled code would ignore "raise ... from".
            raise outcome
        finally:
            outcome = exc = None

    def _why_not_entered(self) -> str:
        if self._entered:
            return (
                f"{self!r} was entered before, at {self._place()}: a scope is entered once; "
                "make a new one"
            )
        loop: Any = _loop_of_thread(_get_ident())
        other: Any = None if loop is None else current_task(loop)
        if other is not None and not isinstance(other, TaskCore):
            return (
                f"{self!r} can only be entered in a task of runtime, and {other.get_name()} is a "
                f"{type(other).__module__}.{type(other).__qualname__}, from another task factory"
            )
        return f"{self!r} can only be entered in a task that runtime's loop runs"

    def _note_holder(self, frame: FrameType) -> None:
        """Note the frame whose block the scope is, if the scope was not entered there directly."""
        holder = holder_of(frame)
        if holder is not frame:
            self._code = holder.f_code
            self._instruction = holder.f_lasti
        task = self._task
        if is_of_generator(holder) and task is not None:
            self._generator = holder
            task._cancel_state |= HOLDS_GENERATOR

    def _held_at_yield(self, task: Any) -> str:
        """Return an error if the scope's generator is suspended at a ``yield``, or an empty string.

        The scope is no longer in force then.
        """
        frame = self._generator
        if frame is None or not is_at_yield(frame):
            return ""
        self._abandoned = True
        remove_scope(self, task)
        return (
            f"{self!r}, entered at {self._place()}, is held across the 'yield' at line "
            f"{frame.f_lineno} of an asynchronous generator, and would cancel the code that "
            f"iterates over it, at {place_of_wait(task._coro)}: leave the scope before the "
            "'yield', or make a context manager of the generator"
        )

    def _leave_wrongly(self, exc: BaseException | None) -> bool:
        """Remove the scope from its task's chain, and raise the error; or return False.

        There is no error if the coroutine or the generator that held the scope is closed by the
        garbage collector, when its task has ended or another task is running.
        """
        task: TaskCore | None = self._task
        here = place_of_caller() or "an unknown line"
        if task is None:
            if self._abandoned:
                return False
            raise RuntimeError(
                f"{self!r} was left at {here}, but it "
                + ("had been left before" if self._entered else "was never entered")
            )
        innermost = task._scope
        is_elsewhere = task._loop._current is not task
        left_elsewhere: Any = task._loop._current if is_elsewhere else None
        remove_scope(self, task)
        if is_elsewhere and (isinstance(exc, GeneratorExit) or not task._pending):
            return False
        where = f"{self!r}, entered at {self._place()}"
        if is_elsewhere:
            other = "a callback" if left_elsewhere is None else left_elsewhere.get_name()
            raise RuntimeError(
                f"{where} in {task.get_name()}, was left at {here} in {other}: "
                "a scope is left in the task that has entered it"
            )
        inner = "" if innermost is None else f"{innermost!r}, entered at {innermost._place()}"
        raise RuntimeError(
            f"{where}, was left at {here} before {inner}: scopes are left in the reverse order"
        )

    # -- Cancelling --------------------------------------------------------------------------------

    def cancel(self, reason: Any = None) -> None:
        """Cancel the scope: see ``runtime.CancelScope.cancel``."""
        if self._called or (self._entered and self._task is None):
            if reason is not None:
                given_reason("call", reason, "cancel()", None, None)
            return
        loop: Any = _loop_of_thread(_get_ident())
        current = None if loop is None else loop._current
        cancel_scope(self, given_reason("call", reason, "cancel()", current, place_of_caller()))

    def _expire(self) -> None:
        """Cancel the scope, because its deadline has passed."""
        if not self._called:
            place = self._place() if self._deadline_place is None else self._deadline_place
            cancel_scope(self, given_reason("deadline", self._text, "CancelScope()", None, place))

    # -- State -------------------------------------------------------------------------------------

    @property
    def cancel_called(self) -> bool:
        """Whether the scope was cancelled, by a call or because its deadline has passed."""
        task = self._task
        if self._timer is not None and task is not None and self._deadline <= task._loop.time():
            self._timer.drop()
            self._timer = None
            self._expire()
        return self._called

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended with the CancelledError that the scope caused."""
        return self._caught

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the scope was cancelled; None if it was not."""
        return self._reason

    @property
    def deadline(self) -> Any:
        """The time, on the loop's clock, in seconds, at which the scope is cancelled."""
        return self._deadline

    @deadline.setter
    def deadline(self, value: Any) -> None:
        when = seconds(value, "CancelScope.deadline")
        task: TaskCore | None = self._task
        if task is not None and task._loop._debug:
            task._loop._check_thread()
        self._deadline = when
        self._deadline_place = place_of_caller()
        if self._timer is not None:
            self._timer.drop()
            self._timer = None
        if task is not None and not self._called:
            start_deadline(self, task._loop)

    @property
    def shield(self) -> Any:
        """Whether the block is protected from the cancellation of the scopes around it."""
        return self._shield

    @shield.setter
    def shield(self, value: Any) -> None:
        shield = _checked_shield(value)
        task: TaskCore | None = self._task
        if task is not None and task._loop._debug:
            task._loop._check_thread()
        self._shield = shield
        if task is not None:
            pass_on_change(self, task._loop)
            if not self._shield and self._deferred is not None:
                reason = self._deferred
                self._deferred = None
                cancel_in_group(self, task, reason)

    def __repr__(self) -> str:
        return format_repr(type(self).__name__, self._describe, self._describe)

    def _describe(self) -> list[str]:
        state = "created" if not self._entered else "left" if self._task is None else "in force"
        words = [state]
        if self._deadline != _NEVER:
            words.append(f"deadline={round(self._deadline, 3)}")
        if self._shield:
            words.append("shield")
        if self._called:
            words.append("cancelled")
        return words


# The frame of a compiled method is left out of the stack that _getframe() sees.
_DEPTH: Final = 1 if type(ScopeCore.__enter__) is FunctionType else 0


def _checked_shield(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError(f"shield must be True or False, got {safe_repr(value)}")


def running_task(loop: Scheduler) -> TaskCore | None:
    """Return the task of this package that runs in ``loop``.

    None if no task runs, or one of asyncio, which a task of this package has started eagerly.
    """
    task: TaskCore | None = loop._current
    return None if task is None or (_EAGER_TASKS and _runs_asyncio_task(loop)) else task


def enter_scope(scope: ScopeCore, task: TaskCore) -> None:
    """Put ``scope`` in force, as the innermost one of ``task``, which is running."""
    parent = task._scope
    scope._entered = True
    scope._task = task
    scope._parent = parent
    state = task._cancel_state
    requests = task._cancel_requests
    if state and state & (IN_CANCELLED_SCOPE | MUST_CANCEL):
        requests = _requests_from_outside(task)
        if state & MUST_CANCEL and requests > 0:
            # Without the request that was not raised yet: if it is raised in this scope, it goes on
            # to the code around it.
            requests -= 1
    scope._requests = requests
    task._scope = scope
    if scope._called or state & IN_CANCELLED_SCOPE:
        scope._effective = scope._called or not scope._shield
        _note_effect(task)
    if scope._deadline != _NEVER and not scope._called:
        start_deadline(scope, task._loop)


def start_deadline(scope: ScopeCore, loop: Scheduler) -> None:
    """Set the timer of a scope in force; cancel the scope if its deadline has passed already."""
    when = scope._deadline
    if when == _NEVER:
        return
    if when <= loop.time():
        scope._expire()
    else:
        scope._timer = Deadline(scope, when, loop._timers)


def leave_scope(scope: ScopeCore, task: TaskCore, exc: BaseException | None) -> object:
    """Leave the innermost scope of the running task; return what becomes of ``exc``.

    ``exc`` is the exception that ended the block, or None. The result is False if it leaves the
    scope, True if it ends there, or the exception to be raised in its place. This is the rest of a
    group, or TimeoutError if the scope is one of ``fail_after()``, and its deadline was the cause.
    """
    parent = scope._parent
    task._scope = parent
    scope._task = None
    scope._parent = None
    timer = scope._timer
    if timer is not None:
        scope._timer = None
        timer.drop()
    if task._cancel_state == 0 and not scope._called and not scope._shield:
        return False
    return _end_cancellation(scope, task, parent, exc)


def _end_cancellation(
    scope: ScopeCore, task: TaskCore, parent: ScopeState | None, exc: BaseException | None
) -> object:
    """Take back the request of a scope that was left; return what becomes of ``exc``."""
    was_effective = scope._effective
    scope._effective = False
    scope._interruptions = None
    if scope._members:
        _release_members(scope, scope._members)
    if scope._generator is not None:
        scope._generator = None
        _note_generators(task)
    _note_effect(task)
    outer = parent is not None and parent._effective
    pending = _requests_from_outside(task) > scope._requests
    if was_effective and not pending and task._cancel_state & MUST_CANCEL:
        # asyncio.TaskGroup takes a request back and makes it again, for the next await. The request
        # was this scope's, which ends here.
        task._cancel_state -= MUST_CANCEL
    deferred = scope._deferred
    if deferred is not None:
        scope._deferred = None
        task.cancel(deferred)
    if exc is None or not scope._called or (outer and not scope._shield):
        return False
    if not isinstance(exc, CancelledError) and not isinstance(exc, BaseExceptionGroup):
        return False
    return _end_exception(scope, task, pending, exc)


def _end_exception(scope: ScopeCore, task: TaskCore, pending: bool, exc: BaseException) -> object:
    """Return what becomes of a CancelledError, or a group, at the scope that caused it."""
    rest: BaseException | None = None
    if not is_cancellation(exc):
        assert isinstance(exc, BaseExceptionGroup)
        cancellations, rest = exc.split(CancelledError)
        if cancellations is None:
            return False
    if pending:
        # Another request came from outside. The exception is that of this request, too.
        task._cancel_state &= ~MUST_CANCEL
        return False
    scope._caught = True
    if rest is not None:
        return rest
    reason = scope._reason
    if scope._raises_timeout and reason is not None and reason.kind == "deadline":
        return TimeoutError()
    return True


def remove_scope(scope: ScopeCore, task: TaskCore) -> None:
    """Remove a scope from any place of the chain of its task."""
    parent = scope._parent
    scope._task = None
    scope._parent = None
    scope._effective = False
    scope._interruptions = None
    if scope._members:
        _release_members(scope, scope._members)
    scope._generator = None
    if scope._timer is not None:
        scope._timer.drop()
        scope._timer = None
    if task._scope is scope:
        task._scope = parent
    else:
        inner = task._scope
        while inner is not None and inner._parent is not scope:
            inner = inner._parent
        if inner is not None:
            inner._parent = parent
            pass_on_change(inner, task._loop)
    _note_effect(task)
    _note_generators(task)
    deferred = scope._deferred
    if deferred is not None:
        scope._deferred = None
        task.cancel(deferred)


def cancel_scope(scope: ScopeCore, reason: CancelReason) -> None:
    """Cancel a scope that is not cancelled yet: its own task, and those of groups inside it."""
    scope._called = True
    scope._reason = reason
    if scope._timer is not None:
        scope._timer.drop()
        scope._timer = None
    task: TaskCore | None = scope._task
    if task is not None:
        loop = task._loop
        if loop._debug:
            loop._check_thread()
        pass_on_change(scope, loop)


# -- Passing a change on inwards -------------------------------------------------------------------


def pass_on_change(first: ScopeState, loop: Scheduler) -> None:
    """Find out again whether ``first``, which is in force, is effective; pass a change on inwards.

    Tasks that are reached by a cancellation are interrupted. Tasks that come under a shield are not
    interrupted from now on.
    """
    reached: list[TaskCore] = []
    foreign: list[Any] = []
    to_do = [first]
    while to_do:
        _pass_on_in_task(to_do.pop(), to_do, reached, foreign)
    try:
        if reached:
            interrupt_all(loop, reached)
    finally:
        for task in foreign:
            task.cancel()


def _pass_on_in_task(
    scope: ScopeState, to_do: list[ScopeState], reached: list[TaskCore], foreign: list[Any]
) -> None:
    task: TaskCore | None = scope._task
    if task is None:
        return
    chain: list[ScopeState] = []
    each = task._scope
    while each is not None and each is not scope:
        chain.append(each)
        each = each._parent
    if each is None:
        return
    chain.append(scope)
    while chain:
        inner = chain.pop()
        parent = inner._parent
        effective = inner._called or (
            not inner._shield and parent is not None and parent._effective
        )
        if effective == inner._effective:
            return
        inner._effective = effective
        if inner._members:
            _pass_on_to_members(inner, inner._members, to_do, reached, foreign)
    if _note_effect(task):
        reached.append(task)


def _pass_on_to_members(
    scope: ScopeState,
    members: Iterable[Any],
    to_do: list[ScopeState],
    reached: list[TaskCore],
    foreign: list[Any],
) -> None:
    """Pass a change of a group's scope on to tasks of the group."""
    for member in list(members):
        if not isinstance(member, TaskCore):
            # A task of another class, from a task factory, has no scopes: it is cancelled once.
            if scope._effective and not member.done():
                foreign.append(member)
        elif member._pending:
            each = member._scope
            if each is scope:
                if _note_effect(member):
                    reached.append(member)
                continue
            while each is not None and each._parent is not scope:
                each = each._parent
            if each is not None:
                to_do.append(each)


def _release_members(scope: ScopeState, members: Iterable[Any]) -> None:
    """Take the effect of a scope that was left from tasks of its group, which still run.

    They do if an exception has ended the group's wait for them.
    """
    reached: list[TaskCore] = []
    foreign: list[Any] = []
    to_do: list[ScopeState] = []
    _pass_on_to_members(scope, members, to_do, reached, foreign)
    while to_do:
        _pass_on_in_task(to_do.pop(), to_do, reached, foreign)


def _note_effect(task: TaskCore) -> bool:
    """Set or clear the flag of ``task`` for its innermost scope; return whether it was set now."""
    scope = task._scope
    effective = scope is not None and scope._effective
    state = task._cancel_state
    if effective == bool(state & IN_CANCELLED_SCOPE):
        return False
    if effective:
        task._cancel_state = state | IN_CANCELLED_SCOPE
        task._cancel_requests += 1
        return True
    task._cancel_state = state & ~(IN_CANCELLED_SCOPE | TAKEN_BACK)
    if not state & TAKEN_BACK:
        task.uncancel()
    return False


def _requests_from_outside(task: TaskCore) -> int:
    """Return the number of requests to cancel a task, without the one of the scopes in force."""
    requests = task._cancel_requests
    if task._cancel_state & (IN_CANCELLED_SCOPE | TAKEN_BACK) == IN_CANCELLED_SCOPE:
        requests -= 1
    return requests


def _note_generators(task: TaskCore) -> None:
    """Clear the flag of ``task`` for scopes in generators, if none is in force any more."""
    scope = task._scope
    while scope is not None:
        if scope._generator is not None:
            return
        scope = scope._parent
    task._cancel_state &= ~HOLDS_GENERATOR


# -- Task groups -----------------------------------------------------------------------------------


def join_group(scope: ScopeState, task: Any) -> None:
    """Pass the state of a group's scope on to a new task of the group."""
    if scope._effective:
        owner = scope._task
        if owner is not None:
            _reach(scope, task, owner._loop)


def _reach(scope: ScopeState, task: Any, loop: Scheduler) -> None:
    reached: list[TaskCore] = []
    foreign: list[Any] = []
    to_do: list[ScopeState] = []
    _pass_on_to_members(scope, (task,), to_do, reached, foreign)
    while to_do:
        _pass_on_in_task(to_do.pop(), to_do, reached, foreign)
    if reached:
        interrupt_all(loop, reached)
    for each in foreign:
        each.cancel()


def move_scope(scope: ScopeState, parent: ScopeState, task: TaskCore) -> None:
    """Make ``parent``, which is in force in another task, the scope around the outermost of a task.

    The scopes that were around it have no effect on the task any more.
    """
    scope._parent = parent
    pass_on_change(scope, task._loop)


_UNKNOWN: Final = CancelReason("call")


def cancel_in_group(scope: ScopeState, task: TaskCore, reason: CancelReason | None) -> None:
    """Cancel a task, which is inside ``scope``, once: by ``Task.cancel``, as asyncio does.

    ``scope`` is that of a group, or no longer a shield. If the task is in a shield inside it, it is
    cancelled when it leaves the shield.
    """
    shield: ScopeState | None = None
    each = task._scope
    while each is not None and each is not scope:
        if each._shield:
            shield = each
        each = each._parent
    if shield is not None and each is scope:
        shield._deferred = _UNKNOWN if reason is None else reason
    else:
        task.cancel(reason)


def leave_group_scope(scope: ScopeCore, exc: BaseException | None) -> object:
    """Leave the scope of a group; return what becomes of ``exc``, as ``leave_scope`` does.

    A group may be left in another order than it was entered in, as asyncio's can.
    """
    task = scope._task
    if task is None:
        return False
    if task._scope is scope and task._loop._current is task:
        return leave_scope(scope, task, exc)
    remove_scope(scope, task)
    if (
        task._loop._current is not task
        or not scope._called
        or task._cancel_state & IN_CANCELLED_SCOPE
        or not isinstance(exc, (CancelledError, BaseExceptionGroup))
    ):
        return False
    return _end_exception(scope, task, _requests_from_outside(task) > scope._requests, exc)


def effective_deadline(task: TaskCore) -> float:
    """Return the soonest deadline in force in ``task``; minus infinity in a cancelled scope."""
    soonest = _NEVER
    scope = task._scope
    while scope is not None:
        if scope._effective:
            return -_NEVER
        if scope._deadline < soonest:
            soonest = scope._deadline
        if scope._shield:
            break
        scope = scope._parent
    return soonest

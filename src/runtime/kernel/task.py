"""Task: a coroutine that the loop runs, step by step.

::

                       create                        a step of the coroutine
                         |            +---------------------------------------------+
                         v            |                                             |
                      QUEUED ----> RUNNING --- yields a pending future ----> WAITING for it
                         ^            |                                             |
                         |            +--- yields None (sleep(0)) ------> QUEUED    |
                         |            |                                             |
                         |            +--- returns, raises, is cancelled -> DONE    |
                         |                                                          |
                         +--- the future is done (or was cancelled by cancel()) ----+

Invariants: a task that is not done is in exactly one of these places: in the ready queue, running,
or subscribed to one future (``_awaited`` if that is a ``FutureCore``, else ``_foreign``). So it is
never stepped twice for one wake-up. ``cancel()`` while WAITING cancels the future, which queues the
task; otherwise it sets a flag, and the next step begins by raising CancelledError.

**Flags.** ``_cancel_state`` is 0 for a task that runs as usual, so that a step tests one attribute:

- ``MUST_CANCEL``: the next step begins by raising CancelledError.
- ``IN_CANCELLED_SCOPE``: a cancelled scope is in force in the task, and no shield stands between.
  Every suspension is interrupted as by ``cancel()``, as often as ``kernel/suspensions.py`` admits.
  ``_cancel_requests`` includes one request for this flag. Functions of ``kernel/scopes.py`` set it.
- ``TAKEN_BACK``: the program has taken that request back, by ``uncancel()``. All that
  ``_cancel_requests`` includes now came from outside of the scope.
- ``HOLDS_GENERATOR``: an asynchronous generator has entered a scope, and must not hold it at a
  ``yield``: this is checked at each suspension.

**Cancelling chains of tasks.** The awaited future may be another task, or the future of a
``gather`` of tasks, which wait for futures in turn. A request to cancel then passes on from each
task to the awaited future, down to the last task of the chain, which raises CancelledError and so
ends the others. A chain may be longer than the recursion limit, so ``cancel()`` does not recurse.
While a request is on its way, ``Scheduler._cancelling`` is a list: the ``cancel()`` of any other
task only adds that task to the list, and the loop in ``_pass_on_along`` takes them from there.

A chain may also be a cycle of tasks that wait for one another. None of them would ever be queued.
So the task at which a request arrives for the second time along the same chain unsubscribes from
its future, and raises CancelledError at its ``await``.

The functions beside the methods, ``_NOBODY`` and ``_SPENT``: see ``native/mypyc.py``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context, copy_context
from types import CoroutineType, FrameType, FunctionType, GeneratorType
from typing import Any, Final, TextIO

from runtime.kernel.arguments.advice import advice_on_awaitable
from runtime.kernel.arguments.sizes import Size
from runtime.kernel.compat.registry import current_tasks, swap_current_task, writes_thread_state
from runtime.kernel.compat.unlinked_calls import UnlinkedCalls
from runtime.kernel.diagnostics.describe import coroutine_frame, describe_coroutine, safe_repr
from runtime.kernel.errors import CancelledError
from runtime.kernel.failure import Failure
from runtime.kernel.future import (
    FutureCore,
    cancel_future,
    fail_future,
    finish_future,
    init_future,
    plain_futures,
    raises_cancelled,
    refuse_second_init,
    subscribe,
    unsubscribe,
)
from runtime.kernel.native import accelerator
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.reasons import CancelReason, adopt_foreign_error
from runtime.kernel.scheduler import Scheduler, running_scheduler
from runtime.kernel.scope_state import ScopeState, is_suspended

_run_to_suspension: Final[Callable[[Any, Context], object]] = accelerator.step
_numbers: Final = itertools.count(1)
_next: Final[Callable[[Any], int]] = next
_Context: Final = Context
_copy_context: Final = copy_context
_current_tasks: Final = current_tasks
_writes_thread_state: Final = writes_thread_state
_plain_futures: Final = plain_futures
_CoroutineType: Final = CoroutineType
_CO_ITERABLE_COROUTINE: Final = 0x100
_PLAIN_GENERATORS: Final = sys.version_info < (3, 12)  # Whether they are coroutines, as in asyncio.
_KERNEL: Final = (__name__, accelerator.__name__)
_SPENT: Final[BaseException] = CancelledError()

MUST_CANCEL: Final = 1
IN_CANCELLED_SCOPE: Final = 2
HOLDS_GENERATOR: Final = 4
TAKEN_BACK: Final = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class TaskCore(FutureCore):
    """The behaviour of a task. See ``runtime.kernel.public_types.Task``."""

    __slots__ = (
        "_awaited",
        "_cancel_requests",
        "_cancel_state",
        "_context",
        "_coro",
        "_created",
        "_foreign",
        "_log_destroy_pending",
        "_name",
        "_number",
        "_scope",
        "_throw",
    )

    _log_destroy_pending: bool  # First: compiled, it shares eight bytes with another small field.
    _coro: Any
    _name: str | None
    _context: Context
    _awaited: FutureCore | None
    _foreign: Any
    _created: float
    _throw: BaseException | None
    _cancel_state: int
    _scope: ScopeState | None
    _cancel_requests: int
    _number: int

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any] | Generator[Any, Any, Any],
        *,
        loop: Scheduler | None = None,
        name: object = None,
        context: Context | None = None,
        eager_start: Any = False,
    ) -> None:
        refuse_second_init(self)
        if loop is None:
            loop = running_scheduler(type(self).__name__)
        init_task(self, coro, loop, name, context, bool(eager_start))

    def _run(self) -> None:
        """Run the coroutine up to its next suspension. The loop calls this."""
        step(self)

    def _short_name(self) -> str:
        """Return the name in the form in which a future shows the tasks that wait for it."""
        return f"<{type(self).__name__} {self.get_name()!r}>"

    def get_coro(self) -> Any:
        """Return the coroutine that the task runs; None if it ended in its eager start."""
        return self._coro

    def get_context(self) -> Context:
        """Return the context that the coroutine runs in."""
        return self._context

    def get_name(self) -> str:
        """Return the name of the task."""
        if self._name is None:
            self._name = f"Task-{self._number}"
        return self._name

    def set_name(self, value: object) -> None:
        """Name the task ``str(value)``."""
        self._name = str(value)

    def cancel(self, msg: Any = None) -> bool:
        """Request that a CancelledError be raised in the coroutine, where it is suspended.

        The coroutine may clean up, delay or refuse; each request adds to ``cancelling()``. ``msg``
        goes into the exception. Returns False, and does nothing, if the task is done; an exception
        that is never retrieved is still reported then.
        """
        if not self._pending:
            return False
        self._cancel_requests += 1
        self._cancel_message = msg
        if self._cancel_state & TAKEN_BACK and self._loop._current is self:
            # A task group takes the request of a scope back, and makes it again, for the next await
            # of its own task. It is still the request of the scope.
            self._cancel_state -= TAKEN_BACK
        cancelling = self._loop._cancelling
        if cancelling is not None:
            cancelling.append((self, msg))
        elif type(self._awaited) in _plain_futures:
            _pass_on(self, msg)  # The usual case: the chain ends at this future.
        else:
            _begin_cancelling(self, msg)
        return True

    def cancelling(self) -> int:
        """Return the number of requests to cancel the task, less those taken back."""
        return self._cancel_requests

    def uncancel(self) -> int:
        """Take one request to cancel back; return the number of requests left.

        If none is left, a CancelledError that has not been raised yet will not be.
        """
        if self._cancel_requests > 0:
            self._cancel_requests -= 1
            if self._cancel_requests == 0:
                self._cancel_message = None
                self._cancel_state &= ~MUST_CANCEL
            own = self._cancel_state & (IN_CANCELLED_SCOPE | TAKEN_BACK) == IN_CANCELLED_SCOPE
            if self._scope and self._scope._take_back(self, self._cancel_requests, own):
                self._cancel_state |= TAKEN_BACK
        return self._cancel_requests

    @property
    def _must_cancel(self) -> bool:
        """Whether the next step raises CancelledError, under asyncio's name: anyio reads it."""
        return bool(self._cancel_state & MUST_CANCEL)

    def set_result(self, result: Any) -> None:
        """Raise RuntimeError: the coroutine's result is the task's."""
        raise RuntimeError(
            f"{self!r} does not support set_result(): its coroutine gives the result"
        )

    def set_exception(self, exception: type | BaseException) -> None:
        """Raise RuntimeError: the coroutine's exception is the task's."""
        raise RuntimeError(
            f"{self!r} does not support set_exception(): its coroutine gives the exception"
        )

    def _waits_for(self) -> Any:
        """Return the future that the task waits for, or None."""
        return self._awaited if self._awaited is not None else self._foreign

    def _why_cancelled(self) -> CancelReason | None:
        """Return the reason of the last request to cancel the task, if it is still in force."""
        if self._cancel_state & IN_CANCELLED_SCOPE:
            return _cancelled_scope(self)._reason
        message: object = self._cancel_message
        if self._cancel_requests and isinstance(message, CancelReason):
            return message
        return None

    def get_stack(self, *, limit: Size | None = None) -> list[FrameType]:
        """Return the stack of the coroutine, or of the exception that it ended with.

        A suspended coroutine has one frame; the newest ``limit`` frames are returned. A traceback
        gives its oldest ``limit`` frames. Source: ``asyncio.Task.get_stack``.
        """
        from runtime.kernel.diagnostics.stacks import task_stack

        return task_stack(self._coro, self._failed_with(), limit)

    def print_stack(self, *, limit: Size | None = None, file: TextIO | None = None) -> None:
        """Print the frames of ``get_stack`` as a traceback, to ``file`` or to stderr."""
        from runtime.kernel.diagnostics.stacks import print_task_stack

        print_task_stack(self, self._failed_with(), limit, file)

    def _failed_with(self) -> BaseException | None:
        failure = self._failure()
        return None if failure is None else failure.exception

    def _on_foreign_done(self, future: Any) -> None:
        """Resume the coroutine: the asyncio future that it waits for is done."""
        if self._foreign is not future:
            return
        self._foreign = None
        try:
            future.result()
        except BaseException as error:
            adopt_foreign_error(error, self._loop._debug)
            self._throw = _without_kernel(error)
        (step if (meter := self._loop._coroutine_meter) is None else meter.run)(self)
        if self._loop._recorder is not None and not self._pending:
            self._loop._recorder.note_end(self)

    def _make_failure(self, exception: BaseException) -> Failure:
        """Return a ``Failure`` with ``exception``, which reports it unless it is retrieved."""
        return Failure(
            exception,
            self._loop,
            type(self).__name__,
            self._source_traceback,
            self._number if self._name is None else self._name,
            self._coro,
            self._context,
            self._created,
        )

    def _describe_state(self) -> list[str]:
        """Return the words of the ``repr``, in order."""
        words = self._describe_briefly()
        waits_for: object = self._waits_for()
        if waits_for is not None:
            words.append(f"wait_for={safe_repr(waits_for)}")
        return [*words, *FutureCore._describe_state(self)[1:]]

    def _describe_briefly(self) -> list[str]:
        """Return the words of the ``repr`` inside that of another object, without references."""
        words = FutureCore._describe_briefly(self)
        if self._pending and (self._cancel_state & MUST_CANCEL or self._cancel_requests):
            words[0] = "cancelling"
        words.append(f"name={safe_repr(self.get_name())}")
        if self._coro is not None:
            words.append(f"coro=<{describe_coroutine(self._coro)}>")
        return words


def _begin_cancelling(task: TaskCore, msg: Any) -> None:
    """Pass a request to cancel ``task`` on along the chain of awaited futures."""
    loop = task._loop
    reached: list[Any] = []
    loop._cancelling = reached
    try:
        try:
            _pass_on(task, msg)
        finally:
            if reached:
                _pass_on_along(reached, [(task, None, True)], {task}, {task})
    finally:
        loop._cancelling = None
    # A signal handler may have added another request after the last one was passed on.
    for each, message in reached:
        _begin_cancelling(each, message)


def request_cancel(task: Any, reason: CancelReason) -> None:
    """Cancel a task for ``reason``, which is not passed to the ``cancel()`` of other classes."""
    if isinstance(task, TaskCore) and type(task).cancel is TaskCore.cancel:
        task.cancel(reason)
    else:
        task.cancel()


def cancel_all(loop: Scheduler, tasks: Iterable[Any], reason: CancelReason) -> None:
    """Cancel tasks of ``loop``. If they wait for one another, each is reached only once.

    If the ``cancel()`` of a class of the program raises, the other tasks are still cancelled; the
    exception is raised at the end.
    """
    reached: list[Any] = []
    seen: set[TaskCore] = set()
    error: BaseException | None = None
    loop._cancelling = reached
    try:
        for task in tasks:
            try:
                request_cancel(task, reason)
                _pass_on_along(reached, [], set(), seen)
            except BaseException as raised:
                error = raised
    finally:
        loop._cancelling = None
    for each, message in reached:
        _begin_cancelling(each, message)
    try:
        if error is not None:
            raise error
    finally:
        del error


def _pass_on(task: TaskCore, msg: Any) -> None:
    """Cancel the future that ``task`` waits for; else make its next step raise CancelledError.

    Other tasks that this ``cancel()`` reaches are only noted, in ``Scheduler._cancelling``.
    """
    if task._awaited is not None:
        if task._awaited.cancel(msg=msg):
            return
    elif task._foreign is not None and task._foreign.cancel(msg=msg):
        return
    _set_must_cancel(task, msg)


def _set_must_cancel(task: TaskCore, msg: Any) -> None:
    task._cancel_state |= MUST_CANCEL
    task._cancel_message = msg


def _pass_on_along(
    reached: list[Any], to_do: list[Any], on_path: set[TaskCore], seen: set[TaskCore]
) -> None:
    """Pass a request on from the tasks in ``reached``, in the order that a recursion would have.

    ``to_do`` is the stack of the recursion. An entry ``(task, message, False)`` is a task that the
    request has reached; ``(task, None, True)`` marks the place at which the recursion would return
    from the task, so that it leaves ``on_path``, the set of tasks on the current chain. A task
    in ``seen`` that is reached again, along another chain, is skipped. If the ``cancel()`` of a
    class of the program raises, the exception is raised at the end.
    """
    error: BaseException | None = None
    while True:
        while reached:
            each, message = reached.pop()
            to_do.append((each, message, False))
        if not to_do:
            break
        task: TaskCore
        task, msg, is_through = to_do.pop()
        if is_through:
            on_path.discard(task)
        elif task in on_path:
            _leave_cycle(task, msg)
        elif task not in seen and task._pending:
            seen.add(task)
            on_path.add(task)
            to_do.append((task, None, True))
            try:
                _pass_on(task, msg)
            except BaseException as raised:
                error = raised
    try:
        if error is not None:
            raise error
    finally:
        del error


def _leave_cycle(task: TaskCore, msg: Any) -> None:
    """Cancel a task that waits for itself, through other tasks: end its wait."""
    task._cancel_requests -= 1  # The request was counted when it arrived for the first time.
    _set_must_cancel(task, msg)
    _stop_waiting(task)


def interrupt_all(loop: Scheduler, tasks: Iterable[TaskCore]) -> None:
    """Interrupt tasks of ``loop``, which a scope that was cancelled has just reached.

    A task that waits is interrupted as by ``cancel()``; one whose wait has ended keeps the result.
    If the ``cancel()`` of a class of the program raises, the other tasks are still interrupted; the
    exception is raised at the end.
    """
    error: BaseException | None = None
    outer: list[Any] | None = loop._cancelling
    reached: list[Any] = [] if outer is None else outer
    seen: set[TaskCore] = set()
    loop._cancelling = reached
    try:
        for task in tasks:
            if task in seen:
                continue  # Another task waits for it, and has passed the cancellation on.
            try:
                _interrupt(task)
                if outer is None and reached:
                    seen.add(task)
                    _pass_on_along(reached, [(task, None, True)], {task}, seen)
            except BaseException as raised:
                error = raised
    finally:
        loop._cancelling = outer
    if outer is None:
        for each, message in reached:
            _begin_cancelling(each, message)
    try:
        if error is not None:
            raise error
    finally:
        del error


def _interrupt(task: TaskCore) -> None:
    """Interrupt the wait of a task in a cancelled scope, if it waits."""
    waits_for: Any = task._waits_for()
    if waits_for is not None:
        if not waits_for.done() and _admit_interruption(task):
            waits_for.cancel(msg=_cancelled_scope(task)._reason)
    elif task._throw is None and is_suspended(task._coro) and _admit_interruption(task):
        _set_must_cancel(task, _cancelled_scope(task)._reason)


def _cancelled_scope(task: TaskCore) -> ScopeState:
    """Return the innermost cancelled scope of a task in one."""
    scope = task._scope
    while scope is not None and not scope._called:
        scope = scope._parent
    assert scope is not None
    return scope


def _admit_interruption(task: TaskCore) -> bool:
    """Return whether a task is to be interrupted where it is suspended, by a cancelled scope."""
    return bool(task._cancel_state & IN_CANCELLED_SCOPE) and _cancelled_scope(task)._admit(task)


def _yielded_while_cancelled(task: TaskCore) -> None:
    """Handle the flags of a task that has yielded None, and is in the ready queue."""
    if task._cancel_state & HOLDS_GENERATOR and (text := _misheld_scope(task)):
        task._throw = RuntimeError(text)
    elif not task._cancel_state & MUST_CANCEL and _admit_interruption(task):
        _set_must_cancel(task, _cancelled_scope(task)._reason)


def _waits_while_cancelled(task: TaskCore, future: Any) -> None:
    """Handle the flags of a task that has just subscribed to ``future``."""
    if task._cancel_state & HOLDS_GENERATOR and (text := _misheld_scope(task)):
        _stop_waiting(task)
        task._throw = RuntimeError(text)
    elif task._cancel_state & MUST_CANCEL:
        if future.cancel(msg=task._cancel_message):
            # It may have been cleared already: the cancel() of a class of the program is called.
            task._cancel_state &= ~MUST_CANCEL
    elif not future.done() and _admit_interruption(task):
        future.cancel(msg=_cancelled_scope(task)._reason)


def _misheld_scope(task: TaskCore) -> str:
    """Remove all scopes that generators hold at a ``yield``; return an error about the first."""
    found = ""
    scope = task._scope
    while scope is not None:
        outer = scope._parent
        if scope._generator is not None and (text := scope._held_at_yield(task)):
            found = found or text
        scope = outer
    return found


def _stop_waiting(task: TaskCore) -> None:
    """Unsubscribe a task from the future that it waits for, and queue it."""
    awaited = task._awaited
    foreign = task._foreign
    if awaited is not None and not awaited.done():
        task._awaited = None
        unsubscribe(awaited, task)
        task._loop._ready_append(task)
    elif foreign is not None and not foreign.done():
        task._foreign = None
        foreign.remove_done_callback(task._on_foreign_done)
        task._loop._ready_append(task)


_NOBODY: Final[TaskCore] = TaskCore.__new__(TaskCore)


def init_task(
    self: TaskCore,
    coro: object,
    loop: Scheduler,
    name: object,
    context: Context | None,
    eager_start: bool,
) -> None:
    """Initialise a task that was made without ``__init__``, or for ``__init__``."""
    if type(coro) is not _CoroutineType:
        _check_coroutine(coro)
    if context is None:
        context = _copy_context()
    elif not isinstance(context, _Context):
        raise TypeError(f"a contextvars.Context was expected, got {context!r}")
    if eager_start and loop._thread_id:
        loop._check_thread()
    init_future(self, loop)
    self._coro = coro
    # Compiled, the number is stored without an object for it. Most names are never asked for.
    self._number = _next(_numbers)
    self._name = None if name is None else str(name)
    self._context = context
    # The future that the task waits for: a ``FutureCore``; or any other future, such as asyncio's.
    self._awaited = None
    self._foreign = None
    # The exception that the next step throws into the coroutine, except a CancelledError.
    self._throw = None
    self._cancel_state = 0
    self._cancel_requests = 0
    # The innermost scope in force. A task group sets it for the tasks that it creates.
    self._scope = scope = loop._scope_of_next_task
    if scope is not None:
        loop._scope_of_next_task = None
        if scope._effective:
            self._cancel_state = IN_CANCELLED_SCOPE
            self._cancel_requests = 1
    # The time of the creation on the clock of ``Poller.now``, which costs nothing to read.
    self._created = loop._poller.now
    loop._tasks_created += 1
    # asyncio.gather() clears it: its children are not reported when their loop is closed.
    self._log_destroy_pending = True
    if eager_start and loop._thread_id:
        loop._tasks[self] = None
        _start_eagerly(self)
    else:
        loop._ready_append(self)
        loop._tasks[self] = None


def _check_coroutine(coro: object) -> None:
    if isinstance(coro, GeneratorType):
        if _PLAIN_GENERATORS or coro.gi_code.co_flags & _CO_ITERABLE_COROUTINE:
            return
    elif isinstance(coro, Coroutine):
        return
    raise TypeError(f"a coroutine was expected, got {coro!r}{advice_on_awaitable(coro)}")


def step(task: TaskCore) -> None:
    """Run the coroutine of ``task`` to its next suspension, and subscribe the task accordingly.

    The future that the coroutine yields will queue the task when it is done.
    """
    loop = task._loop
    error = task._throw
    # A failed future is not thrown into the coroutine: its own __await__ raises the exception. An
    # exception that is thrown into a compiled generator would lose its traceback.
    if error is not None:
        task._throw = None
    if task._cancel_state and task._cancel_state & MUST_CANCEL:
        if not isinstance(error, CancelledError) and not raises_cancelled(task._awaited):
            error = task._make_cancelled_error()
        task._cancel_state -= MUST_CANCEL  # Last: an interrupt before does not lose the request.
    task._awaited = None
    loop._current = task
    if _current_tasks is not None:
        _current_tasks[loop] = task
    elif _writes_thread_state:
        swap_current_task(loop, task)
    try:
        if error is None:
            outcome = _run_to_suspension(task._coro, task._context)
        else:
            outcome = _throw_into(task._coro, task._context, error)
    except CancelledError as cancelled:
        loop._tasks_cancelled += 1
        _end(loop, task)
        cancel_future(task, None, _without_kernel(cancelled))
        # From Python 3.12 on the coroutine's frame, which is in the traceback, refers to this
        # frame. Do not hold the task here: the exception, its frames and the task would be a cycle.
        task = _NOBODY
        return
    except (KeyboardInterrupt, SystemExit) as fatal:
        loop._tasks_failed += 1
        _end(loop, task)
        fail_future(task, _without_kernel(fatal))
        task = _NOBODY
        raise
    except BaseException as failure:
        loop._tasks_failed += 1
        _end(loop, task)
        fail_future(task, _without_kernel(failure))
        task = _NOBODY
        return
    finally:
        error = None
    if outcome is None:
        loop._ready_append(task)
        if task._cancel_state:
            _yielded_while_cancelled(task)
    elif type(outcome) is tuple:
        _end(loop, task)
        if task._cancel_state and task._cancel_state & MUST_CANCEL:
            # The task was cancelled in its last step, which had no await left to raise at.
            task._cancel_state -= MUST_CANCEL
            loop._tasks_cancelled += 1
            cancel_future(task, task._cancel_message)
        else:
            finish_future(task, outcome[0])
    elif isinstance(outcome, FutureCore):
        # A variable of its own: compiled code checks the type at each use of ``outcome``.
        future: FutureCore = outcome
        if future._asyncio_future_blocking and future._loop is loop and future is not task:
            future._asyncio_future_blocking = False
            task._awaited = future
            subscribe(future, task)
            if task._cancel_state:
                _waits_while_cancelled(task, future)
        else:
            _await_other(task, future)
    else:
        _await_other(task, outcome)


def _end(loop: Scheduler, task: TaskCore) -> None:
    """Remove a task that has ended from the loop.

    It is no longer the current task: code that runs from here on, such as the report of an error
    that was never retrieved, is not part of it. The reference in ``_current`` may also be the last.
    """
    try:
        del loop._tasks[task]
    except KeyError:
        pass  # The loop was closed meanwhile.
    leave_task(loop)


def _without_kernel(error: BaseException) -> BaseException:
    """Remove the kernel's frames from the traceback of ``error``, which a coroutine raised.

    They do not help a reader. And they hold the task, which holds ``error``: a reference cycle.
    """
    entry = error.__traceback__
    while entry is not None and entry.tb_frame.f_globals.get("__name__") in _KERNEL:
        entry = entry.tb_next
    error.__traceback__ = entry
    return error


def _throw_into(coro: Any, context: Context, error: BaseException) -> object:
    """Resume a coroutine with an exception; return the outcome as ``accelerator.step`` does."""
    try:
        outcome: object = context.run(coro.throw, error)
    except StopIteration as stop:
        return (stop.value,)
    finally:
        error = _SPENT  # Break the cycle of the exception, its traceback and this frame.
    return [outcome] if isinstance(outcome, tuple) else outcome


def _await_other(task: TaskCore, outcome: object) -> None:
    """Subscribe the task to an asyncio future, or raise an error inside the coroutine.

    The error is for a coroutine that yielded any other object.
    """
    blocking: object = getattr(outcome, "_asyncio_future_blocking", None)
    if blocking is None:
        if isinstance(outcome, list) and len(outcome) == 1 and isinstance(outcome[0], tuple):
            outcome = outcome[0]
        if isinstance(outcome, GeneratorType):
            text = f"{task!r} yielded {safe_repr(outcome)}: use 'yield from' to run the generator"
        else:
            text = (
                f"{task!r} yielded {safe_repr(outcome)}: a coroutine that a task runs can only "
                "yield a future that it awaits, or None"
            )
        _refuse(task, text)
        return
    future: Any = outcome
    # Futures of other libraries may be older than get_loop().
    get_loop = getattr(future, "get_loop", None)
    if (future._loop if get_loop is None else get_loop()) is not task._loop:
        _refuse(
            task,
            f"Task {task!r} got Future {safe_repr(future)} attached to a different loop: "
            "run_coroutine_threadsafe() and wrap_future() reach across loops",
        )
    elif not blocking:
        _refuse(
            task,
            f"{task!r} yielded {safe_repr(future)} itself: use 'await' or 'yield from' instead",
        )
    elif future is task:
        _refuse(task, f"Task cannot await on itself, which would never end: {task!r}")
    else:
        future._asyncio_future_blocking = False
        task._foreign = future
        # An empty context for the callback: the step that it runs enters the task's own context,
        # which must not be entered already.
        future.add_done_callback(task._on_foreign_done, context=Context())
        if task._cancel_state:
            _waits_while_cancelled(task, future)


def _refuse(task: TaskCore, text: str) -> None:
    task._throw = RuntimeError(text)
    task._loop._ready_append(task)


def _start_eagerly(task: TaskCore) -> None:
    """Run the first step at once, inside the callback or the task that is running."""
    loop = task._loop
    outer = loop._current
    # Also in asyncio's registry: the outer task may be an ``asyncio.Task``.
    noted = swap_current_task(loop, None)
    loop._current = None
    try:
        if _KEEPS_CALLERS:
            _unlinked_calls.call(task)
        else:
            step(task)
    finally:
        swap_current_task(loop, noted)
        loop._current = outer
    if not task._pending:
        if loop._recorder is not None:
            loop._recorder.note_end(task)
        if task._failed and coroutine_frame(task._coro) is not None:
            # The coroutine never began, because its context is entered already: tell the caller.
            raise task._result_exception()
        task._coro = None


# The variables of the callers hold the task, the task holds the exception, the traceback holds the
# frame of the coroutine, and from Python 3.12 on this frame holds the frames of the callers: a
# reference cycle. From Python 3.14 on, the frames of compiled callers are left out of that.
_KEEPS_CALLERS: Final = sys.hexversion >= 0x030C0000 and (
    type(step) is FunctionType or sys.hexversion < 0x030E0000
)
"""Whether the frame of a coroutine that failed in an eager step holds the frames of its callers."""

_unlinked_calls: Final[UnlinkedCalls[TaskCore]] = UnlinkedCalls(step, _NOBODY)


def leave_task(loop: Scheduler) -> None:
    """Note that no task of ``loop`` is running: a callback is about to run, or the turn is over."""
    loop._current = None
    if _current_tasks is not None:
        _current_tasks.pop(loop, None)
    elif _writes_thread_state:
        swap_current_task(loop, None)

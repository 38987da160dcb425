"""``suspend``: a primitive that all other waits could be made of.

A coroutine suspends itself, and a function of the caller, ``arm``, arranges for its resumption: by
a callback, another thread, a signal handler, or a library that does not support coroutines. ::

                          arm(resume) returns              resume(value), resume(error=...)
    suspend(arm) --> ARMING -----------------> SUSPENDED ----------------------------------> RESUMED
                       |                           |
                       | arm raises                | the task is cancelled
                       v                           v
                     GIVEN UP <--------------------+  the function that arm returned is called

Invariant: a ``Resume`` is settled exactly once, in one atomic step that any thread can take: either
by an outcome, or because the wait is given up. Therefore no outcome is lost when a cancellation
comes at the same time, and a call of ``resume`` after a cancellation has no effect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import (
    describe_callback,
    describe_callback_briefly,
    format_repr,
)
from runtime.kernel.errors import InvalidStateError
from runtime.kernel.public_types import Future
from runtime.sync.deferring import defer

T = TypeVar("T")

_MISSING: Any = object()


class _Outcome:
    """The value or the error that ``resume`` was called with."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | type[BaseException] | None) -> None:
        self.value = value
        self.error = error


_ABANDONED = _Outcome(None, None)


class Resume(Generic[T]):
    """The function that ``suspend`` passes to ``arm``: calling it resumes the coroutine.

    ``resume(value)`` makes ``suspend`` return ``value``, ``resume()`` makes it return None, and
    ``resume(error=...)`` makes it raise an exception, given as an instance or a class.

    It may be called in any thread, and in signal handlers. A second call raises InvalidStateError,
    because its value would be lost. After the wait was cancelled, or ``arm`` has raised, calls do
    nothing. Raises TypeError when both a value and an error are given, and for an error that is not
    an exception.
    """

    __slots__ = ("_arm", "_future", "_loop", "_settled")

    def __init__(
        self,
        loop: LoopCore,
        future: Future[_Outcome],
        arm: Callable[[Resume[T]], Callable[[], object] | None],
    ) -> None:
        self._loop = loop
        self._future = future
        self._arm = arm
        # Has one entry at most. It is made with setdefault(), which is atomic.
        self._settled: dict[None, _Outcome] = {}

    @overload
    def __call__(self, value: T) -> None: ...
    @overload
    def __call__(self: Resume[None]) -> None: ...
    @overload
    def __call__(self, *, error: BaseException | type[BaseException]) -> None: ...
    def __call__(
        self, value: Any = _MISSING, *, error: BaseException | type[BaseException] | None = None
    ) -> None:
        """Resume the coroutine with a value, or with an exception."""
        if error is not None:
            if value is not _MISSING:
                raise TypeError("resume() expected a value or an error, got both")
            _check_error(error)
        outcome = _Outcome(None if value is _MISSING else value, error)
        first = self._settled.setdefault(None, outcome)
        if first is not outcome:
            if first is _ABANDONED:
                return
            raise InvalidStateError(
                f"{self!r} was called before: a suspended coroutine is resumed once"
            )
        loop = self._loop
        # While the loop waits, a call in its own thread comes from a signal handler.
        if loop._thread_id == threading.get_ident() and not loop._waiting:
            self._finish()
            return
        try:
            loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            # A closed loop runs no coroutine that could be resumed: do nothing.
            if not loop.is_closed():
                raise

    def _finish(self) -> None:
        if not self._future.done():
            self._future.set_result(self._settled[None])

    def abandon(self) -> _Outcome | None:
        """Make all later calls do nothing, and return None; or return the outcome of a call."""
        first = self._settled.setdefault(None, _ABANDONED)
        return None if first is _ABANDONED else first

    def finishing_object(self) -> object:
        """Return the object that a thread needs a reference to in order to end the wait, or None.

        None means that the wait has ended. The deadlock report asks for it.
        """
        return None if self._settled else self

    def __repr__(self) -> str:
        return format_repr(f"Resume {self._state()}", self._describe, self._describe_briefly)

    def _state(self) -> str:
        first = self._settled.get(None)
        return "waiting" if first is None else "given up" if first is _ABANDONED else "used"

    def _describe(self) -> list[str]:
        return [f"arm={describe_callback(self._arm)}"]

    def _describe_briefly(self) -> list[str]:
        return [f"arm={describe_callback_briefly(self._arm)}"]


def _check_error(error: object) -> None:
    """Raise TypeError for an invalid error here, and not later in the loop, without a caller."""
    if not isinstance(error, BaseException) and not (
        isinstance(error, type) and issubclass(error, BaseException)
    ):
        raise TypeError(f"resume() expected an exception, an instance or a class, got {error!r}")


async def suspend(arm: Callable[[Resume[T]], Callable[[], object] | None]) -> T:
    """Suspend the coroutine until ``resume``, a function that is passed to ``arm``, is called.

    ``arm(resume)`` is called at once, and arranges for ``resume(value)`` or ``resume(error=...)``
    to be called later, in any thread: see ``Resume``. ``suspend`` then returns the value, or raises
    the error. If ``arm`` itself calls ``resume``, the coroutine continues without suspending, and
    no turn of the loop passes.

    ``arm`` returns None, or a function that undoes the arrangement. That function is called when
    the wait ends in another way: when the task is cancelled, or the coroutine is closed. Its
    exceptions are reported to the loop's exception handler. Raises the exception that ``arm``
    raises, and TypeError when ``arm`` returns any other object.

    Cancellation safe: when the task is cancelled after the call of ``resume``, and before it could
    run, the value is returned, and CancelledError is raised at the next await.

    >>> import runtime
    >>> async def main():
    ...     loop = runtime.get_running_loop()
    ...     return await runtime.suspend(lambda resume: loop.call_later(0.01, resume, 5).cancel)
    >>> runtime.run(main())
    5
    """
    loop = get_running_loop()
    future: Future[_Outcome] = loop.create_future()
    resume = Resume(loop, future, arm)
    outcome: _Outcome | None
    try:
        undo = arm(resume)
        if undo is not None and not callable(undo):
            raise TypeError(
                "the function given to suspend() must return None, or a function that undoes its "
                f"arrangement, got {undo!r}"
            )
    except BaseException:
        resume.abandon()
        raise
    try:
        outcome = await future
    except BaseException as interruption:
        outcome = resume.abandon()
        if outcome is None and undo is not None:
            _undo(loop, undo)
        if outcome is None or not defer(interruption):
            raise
    if outcome.error is not None:
        try:
            raise outcome.error
        finally:
            # The traceback of the error refers to this frame: break the reference cycle.
            del outcome, future, resume
    value: T = outcome.value
    return value


def _undo(loop: LoopCore, undo: Callable[[], object]) -> None:
    try:
        undo()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        loop.call_exception_handler(
            {
                "message": "Exception in the function that undoes the arrangement of suspend()",
                "exception": error,
            }
        )

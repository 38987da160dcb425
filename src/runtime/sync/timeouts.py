"""Timeouts: blocks whose task is cancelled at a deadline.

::

    CREATED --enter--> ACTIVE --exit--> EXITED: the deadline did not come
                          |
                          +--deadline--> EXPIRING --exit--> EXPIRED: CancelledError becomes
                                                            TimeoutError, unless other code
                                                            has cancelled the task as well

Source: "Timeouts" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import enum
import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.errors import CancelledError
from runtime.kernel.handles import Handle
from runtime.kernel.public_types import Task
from runtime.kernel.reasons import CancelReason, place_of_instruction
from runtime.kernel.task import request_cancel


class _State(enum.Enum):
    CREATED = "created"
    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    EXITED = "finished"


class Timeout(OnlyAsynchronous):
    """An asynchronous context manager that cancels its body at a deadline.

    ``when`` is the deadline, on the clock of ``loop.time()``, in seconds; None means never. Objects
    of this class are made by ``timeout()`` and ``timeout_at()``.

    Cancellation safe: a cancellation by other code is neither mistaken for that of the deadline nor
    lost. If both happen, CancelledError is raised.
    """

    __slots__ = (
        "__weakref__",
        "_cancelling",
        "_code",
        "_handle",
        "_instruction",
        "_state",
        "_task",
        "_when",
    )

    def __init__(self, when: Seconds | None) -> None:
        self._state = _State.CREATED
        self._when = None if when is None else seconds(when, "timeout_at()")
        self._task: Task[Any] | None = None
        self._handle: Handle | None = None
        self._cancelling = 0
        # Where the deadline was set: a code object, and the instruction in it.
        self._code: CodeType | None = None
        self._instruction = 0

    def when(self) -> float | None:
        """Return the deadline, on the loop's clock; None if there is none."""
        return self._when

    def reschedule(self, when: Seconds | None) -> None:
        """Move the deadline; None removes it. A deadline in the past expires in the next turn.

        Raises RuntimeError if the timeout was not entered, has expired, or was exited.
        """
        if self._state is not _State.ACTIVE:
            if self._state is _State.CREATED:
                raise RuntimeError("Timeout has not been entered")
            raise RuntimeError(f"Cannot change state of {self._state.value} Timeout")
        self._set(None if when is None else seconds(when, "reschedule()"))
        note_place(self, sys._getframe(1))

    def _set(self, when: float | None) -> None:
        self._when = when
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if when is None:
            return
        loop = get_running_loop()
        if when <= loop.time():
            self._handle = loop.call_soon(self._on_deadline)
        else:
            self._handle = loop.call_at(when, self._on_deadline)

    def expired(self) -> bool:
        """Return whether the deadline came while the body ran."""
        return self._state in (_State.EXPIRING, _State.EXPIRED)

    def _on_deadline(self) -> None:
        assert self._task is not None
        code = self._code
        place = None if code is None else place_of_instruction(code, self._instruction)
        request_cancel(self._task, CancelReason("deadline", "", place))
        self._state = _State.EXPIRING
        self._handle = None

    async def __aenter__(self) -> Timeout:
        if self._state is not _State.CREATED:
            raise RuntimeError("Timeout has already been entered")
        task = current_task()
        if task is None:
            raise RuntimeError("Timeout should be used inside a task")
        self._state = _State.ACTIVE
        self._task = task
        self._cancelling = task.cancelling()
        self._set(self._when)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        task = self._task
        self._task = None
        if self._state is not _State.EXPIRING:
            self._state = _State.EXITED
            return None
        self._state = _State.EXPIRED
        assert task is not None
        # Take back the deadline's request for cancellation. If other requests remain, the
        # CancelledError is for them too.
        remaining = task.uncancel()
        # The task will hold the exception that is raised here, whose traceback refers to this
        # frame: break the reference cycle.
        del task
        if remaining <= self._cancelling and exc is not None:
            if isinstance(exc, CancelledError):
                raise TimeoutError from exc
            _insert_timeout_errors(exc)
            if isinstance(exc, ExceptionGroup):
                for error in exc.exceptions:
                    _insert_timeout_errors(error)
        return None

    def __repr__(self) -> str:
        words = [f"[{self._state.value}]"]
        if self._state is _State.ACTIVE:
            when = None if self._when is None else round(self._when, 3)
            words.append(f"when={when}")
        return f"<Timeout {' '.join(words)}>"


def _insert_timeout_errors(exc: BaseException) -> None:
    """Insert a TimeoutError between an exception of the body and the CancelledError in its context.

    If the body raised this exception while it handled the CancelledError of the deadline, the
    traceback then shows the timeout as well.
    """
    current = exc
    seen: set[int] = set()  # A program can make a cycle of contexts.
    while current.__context__ is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current.__context__, CancelledError):
            cause = TimeoutError()
            cause.__context__ = cause.__cause__ = current.__context__
            current.__context__ = cause
            if isinstance(current.__cause__, CancelledError):
                current.__cause__ = cause
            return
        current = current.__context__


def timeout(delay: Seconds | None) -> Timeout:
    """Return a ``Timeout`` that expires ``delay`` seconds from now.

    The body is cancelled then, and TimeoutError is raised in place of its CancelledError. With None
    or an infinite delay it never expires. Raises TypeError for a delay that is not a real number,
    ValueError for NaN, and OverflowError for a delay that no float can hold.

    >>> import runtime
    >>> async def main():
    ...     try:
    ...         async with runtime.timeout(0.01):
    ...             await runtime.sleep(3600)
    ...     except TimeoutError:
    ...         return "too slow"
    >>> runtime.run(main())
    'too slow'
    """
    limit = Timeout(
        None if delay is None else get_running_loop().time() + seconds(delay, "timeout()")
    )
    note_place(limit, sys._getframe(1))
    return limit


def timeout_at(when: Seconds | None) -> Timeout:
    """Return a ``Timeout`` that expires at ``when``, in seconds on the clock of ``loop.time()``.

    The body is cancelled then, as by ``timeout``. With None it never expires.
    """
    limit = Timeout(when)
    note_place(limit, sys._getframe(1))
    return limit


def note_place(limit: Timeout, frame: FrameType) -> None:
    """Note the line of the program that has set a deadline, for the reason of the cancellation."""
    limit._code = frame.f_code
    limit._instruction = frame.f_lasti

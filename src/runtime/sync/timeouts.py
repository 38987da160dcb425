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

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.errors import CancelledError
from runtime.sync.timeout_core import (
    ACTIVE,
    CREATED,
    STATES,
    TimeoutCore,
    after,
    enter,
    leave,
    note_place,
    set_deadline,
)


class Timeout(TimeoutCore, OnlyAsynchronous):
    """An asynchronous context manager that cancels its body at a deadline.

    ``when`` is the deadline, on the clock of ``loop.time()``, in seconds; None means never. Objects
    of this class are made by ``timeout()`` and ``timeout_at()``.

    Cancellation safe: a cancellation by other code is neither mistaken for that of the deadline nor
    lost. If both happen, CancelledError is raised.
    """

    __slots__ = ("__weakref__",)

    if TYPE_CHECKING:

        def __init__(self, when: Seconds | None) -> None: ...

    def reschedule(self, when: Seconds | None) -> None:
        """Move the deadline; None removes it. A deadline in the past expires in the next turn.

        Raises RuntimeError if the timeout was not entered, has expired, or was exited.
        """
        if self._state != ACTIVE:
            if self._state == CREATED:
                raise RuntimeError("Timeout has not been entered")
            raise RuntimeError(f"Cannot change state of {STATES[self._state]} Timeout")
        set_deadline(self, None if when is None else seconds(when, "reschedule()"))
        note_place(self, sys._getframe(1))

    async def __aenter__(self) -> Timeout:
        enter(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        task = leave(self)
        if task is None:
            return None
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
        words = [f"[{STATES[self._state]}]"]
        if self._state == ACTIVE:
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
    limit = Timeout(after(delay))
    note_place(limit, sys._getframe(1))
    return limit


def timeout_at(when: Seconds | None) -> Timeout:
    """Return a ``Timeout`` that expires at ``when``, in seconds on the clock of ``loop.time()``.

    The body is cancelled then, as by ``timeout``. With None it never expires.
    """
    limit = Timeout(when)
    note_place(limit, sys._getframe(1))
    return limit

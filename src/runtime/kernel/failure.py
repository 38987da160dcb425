"""Failure of a future: its exception, and the report if the exception was never retrieved.

A failed future holds a ``Failure``. To ask the future for the exception marks the failure as
retrieved. If the future, and the failure with it, is deallocated before that, the failure's
finalizer reports the exception. So the futures need no finalizers, which would slow down the
deallocation of each of them.

This module is interpreted on purpose: the finalizer of a compiled class may not run Python code.
"""

from __future__ import annotations

import traceback
from contextvars import Context
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runtime.kernel.diagnostics.age import describe_age
from runtime.kernel.diagnostics.describe import describe_coroutine, format_repr, short_error_repr
from runtime.kernel.errors import is_cancellation

if TYPE_CHECKING:
    from runtime.kernel.handles import Reporter


class FailedFutureProxy:
    """Stand-in for a deallocated future in the report of its exception."""

    __slots__ = ("_failure",)

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def get_loop(self) -> Any:
        """Return the loop that the future belonged to."""
        return self._failure.loop

    def get_name(self) -> str:
        """Return the name of the task; the word "Future" if the future was not a task's."""
        name = self._failure.name
        return f"Task-{name}" if isinstance(name, int) else str(name or "Future")

    def get_context(self) -> Context | None:
        """Return the context that the task ran in; None for a plain future."""
        return self._failure.context

    def get_coro(self) -> Any:
        """Return the coroutine that the task ran; None for a plain future."""
        return self._failure.coro

    def _describe_age(self) -> str:
        """Return when the task was created, and when it failed; "" for a plain future."""
        failure = self._failure
        if failure.created is None:
            return ""
        return describe_age(failure.loop, created=failure.created, failed=failure.failed)

    def exception(self) -> BaseException:
        """Return the exception that was never retrieved."""
        return self._failure.exception

    def done(self) -> bool:
        """Return True."""
        return True

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def _describe(self) -> list[str]:
        return [*self._describe_briefly(), f"exception={short_error_repr(self._failure.exception)}"]

    def _describe_briefly(self) -> list[str]:
        coro = self._failure.coro
        if coro is None:
            return ["finished"]
        return ["finished", f"name={self.get_name()!r} coro=<{describe_coroutine(coro)}>"]

    def __repr__(self) -> str:
        return format_repr(self._failure.kind, self._describe, self._describe_briefly)


class Failure:
    """The exception of a failed future, and the facts that a report of it shows.

    ``kind`` is the name of the future's class; ``name``, ``coro`` and ``context`` are those of a
    task, and ``created`` the time of ``time.monotonic`` at which it was created. The finalizer
    reports to ``loop`` unless the exception was retrieved.
    """

    __slots__ = (
        "context",
        "coro",
        "created",
        "exception",
        "failed",
        "kind",
        "loop",
        "name",
        "retrieved",
        "source_traceback",
        "traceback",
    )

    def __init__(
        self,
        exception: BaseException,
        loop: Reporter,
        kind: str,
        source_traceback: traceback.StackSummary | None,
        name: object = None,
        coro: object = None,
        context: Context | None = None,
        created: float | None = None,
    ) -> None:
        # A CancelledError, or a group of them, is not a failure and needs no report.
        self.retrieved = is_cancellation(exception)
        self.exception = exception
        # The traceback at the time of the failure. Each raise adds frames to the exception's own.
        self.traceback: TracebackType | None = exception.__traceback__
        self.loop = loop
        self.kind = kind
        self.source_traceback = source_traceback
        self.name = name
        self.coro = coro
        self.context = context
        self.created = created
        self.failed = monotonic()

    def retrieve(self) -> BaseException:
        """Return the exception, to be raised: mark it as retrieved, and reset its traceback."""
        self.retrieved = True
        return self.exception.with_traceback(self.traceback)

    def __del__(self) -> None:
        if self.retrieved:
            return
        self.retrieved = True
        context: dict[str, Any] = {
            "message": f"{'Future' if self.coro is None else 'Task'} exception was never retrieved",
            "exception": self.exception,
            "future": FailedFutureProxy(self),
        }
        if self.source_traceback is not None:
            context["source_traceback"] = self.source_traceback
        self.loop.call_exception_handler(context)

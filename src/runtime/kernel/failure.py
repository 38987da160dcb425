"""The exception of a failed future, and the report of one that nobody retrieved.

A failed future holds a ``Failure``, which is disarmed when somebody asks for the exception. If it
goes, with its future, before that, it reports. The futures themselves need no finalizer, which
would make each of them slower to let go of (and which, compiled by mypyc, may not run Python code).

Interpreted on purpose, for the sake of its ``__del__``.
"""

from __future__ import annotations

import traceback
from contextvars import Context
from types import TracebackType
from typing import Any

from runtime.kernel.diagnostics.describe import describe_coroutine, described, shown_error
from runtime.kernel.errors import is_cancellation
from runtime.kernel.handles import Reporter


class FailedFutureProxy:
    """What is left of a future that failed and is gone: it stands for it in the report."""

    __slots__ = ("_failure",)

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def get_loop(self) -> Any:
        """Return the loop that the future belonged to."""
        return self._failure.loop

    def get_name(self) -> str:
        """Return the name of the task; the word "Future" when it was none."""
        name = self._failure.name
        return f"Task-{name}" if isinstance(name, int) else str(name or "Future")

    def get_context(self) -> Context | None:
        """Return the context that the task ran in; None when it was a plain future."""
        return self._failure.context

    def get_coro(self) -> Any:
        """Return the coroutine that the task ran; None when it was a plain future."""
        return self._failure.coro

    def exception(self) -> BaseException:
        """Return the exception that nobody retrieved."""
        return self._failure.exception

    def done(self) -> bool:
        """Return True."""
        return True

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def _describe(self) -> list[str]:
        return [*self._describe_briefly(), f"exception={shown_error(self._failure.exception)}"]

    def _describe_briefly(self) -> list[str]:
        coro = self._failure.coro
        if coro is None:
            return ["finished"]
        return ["finished", f"name={self.get_name()!r} coro=<{describe_coroutine(coro)}>"]

    def __repr__(self) -> str:
        return described(self._failure.kind, self._describe, self._describe_briefly)


class Failure:
    """How a future failed. ``name``, ``coro`` and ``context`` are a task's; ``kind`` is the class.

    It reports to ``loop`` when it goes, unless it was retrieved.
    """

    __slots__ = (
        "context",
        "coro",
        "exception",
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
    ) -> None:
        # Nothing has failed where all there is are cancellations, such as gather()'s.
        self.retrieved = is_cancellation(exception)
        self.exception = exception
        # As it was when the future failed: each time it is raised adds to the exception's own.
        self.traceback: TracebackType | None = exception.__traceback__
        self.loop = loop
        self.kind = kind
        self.source_traceback = source_traceback
        self.name = name
        self.coro = coro
        self.context = context

    def retrieve(self) -> BaseException:
        """Return the exception, to be raised or examined: there is nothing to report any more."""
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

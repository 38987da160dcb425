"""Entries of the ready queue: ``Runnable``, and ``Handle``, which calls a callback.

The aliases and other idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol

from runtime.kernel.diagnostics.describe import (
    describe_callback,
    describe_callback_briefly,
    format_repr,
)
from runtime.kernel.native.mypyc import mypyc_attr

if TYPE_CHECKING:
    import traceback

_run_in: Final = Context.run


class Reporter(Protocol):
    """The loop, as the receiver of the exceptions of callbacks."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an exception that no caller receives."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Runnable:
    """An entry of the ready queue. It runs once for each time that it was queued."""

    __slots__ = ()

    def _run(self) -> None:
        """Run. It must handle its own exceptions, except SystemExit and KeyboardInterrupt."""
        raise NotImplementedError

    def cancelled(self) -> bool:
        """Return whether it was cancelled, so that it must not run any more."""
        raise NotImplementedError

    def _due(self) -> float:
        """Return the deadline, in seconds on the loop's clock. Only for entries with a timer."""
        raise NotImplementedError

    def _leave_heap(self) -> bool:
        """Note that the timer left the timer heap; return whether it was there until now.

        It was not if it has been cancelled, or has left the heap before. Only for entries with a
        timer.
        """
        raise NotImplementedError

    def _is_due(self) -> bool:
        """Return whether the entry has a timer that was due, and is queued or about to run."""
        return False

    def _short_name(self) -> str:
        """Return a short name, for the ``repr`` of a future that this is subscribed to."""
        return f"<{type(self).__name__}>"

    def _on_behalf_of(self) -> Any:
        """Return the future or the task on whose behalf this is subscribed to a future, or None."""
        return None


@mypyc_attr(allow_interpreted_subclasses=True)
class ContextRunnable(Runnable):
    """An entry with a context, which tells the daemon or the simulated host that it belongs to."""

    __slots__ = ()

    def get_context(self) -> Any:
        """Return the context of the code that the entry works for."""
        raise NotImplementedError


@mypyc_attr(free_list_len=1)
class Handle(ContextRunnable):
    """A callback that was scheduled, as ``call_soon`` and its relatives return it.

    Source: the standard library's documentation of ``asyncio.Handle``.
    """

    # Compiled classes do not support weak references: setup.py adds the support to the handles.
    __slots__ = ("__weakref__", "_args", "_callback", "_context", "_loop", "_source_traceback")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Reporter,
        context: Context,
    ) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._source_traceback: traceback.StackSummary | None = None

    def _run(self) -> None:
        """Call the callback in its context, unless it was cancelled."""
        callback = self._callback
        if callback is None:
            return
        args = self._args
        try:
            # A compiled call with a star builds a list and a tuple, so avoid it in the usual cases.
            if not args:
                _run_in(self._context, callback)
            elif len(args) == 1:
                _run_in(self._context, callback, args[0])
            else:
                self._context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(callback, error)

    def _report(self, callback: Callable[..., object], error: BaseException) -> None:
        context: dict[str, Any] = {
            "message": f"Exception in callback {describe_callback(callback, self._args)}",
            "exception": error,
            "handle": self,
        }
        if self._source_traceback is not None:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)

    def cancel(self) -> None:
        """Keep the callback from running, if it has not run yet, and drop the references to it."""
        self._args = () if self._source_traceback is None else self._description_when_cancelled()
        self._callback = None

    def _description_when_cancelled(self) -> tuple[str, ...]:
        """Return a description of the callback, which replaces its arguments.

        In debug mode the ``repr`` of a cancelled handle shows it: a callback may cancel its own
        handle, and be reported as slow afterwards.
        """
        if self._callback is None:
            return self._args
        return (" ".join(Handle._describe_state(self)),)

    def cancelled(self) -> bool:
        """Return whether the handle was cancelled."""
        return self._callback is None

    def get_context(self) -> Context:
        """Return the context that the callback runs in."""
        return self._context

    def _describe_state(self) -> list[str]:
        """Return the words of the ``repr``, in order."""
        if self._callback is None:
            return ["cancelled", *self._args]
        words = [describe_callback(self._callback, self._args)]
        if self._source_traceback:
            frame = self._source_traceback[-1]
            words.append(f"created at {frame.filename}:{frame.lineno}")
        return words

    def _describe_briefly(self) -> list[str]:
        """Return the words of the ``repr`` inside that of another object."""
        callback = self._callback
        return ["cancelled" if callback is None else describe_callback_briefly(callback)]

    def __repr__(self) -> str:
        return format_repr(type(self).__name__, self._describe_state, self._describe_briefly)


class ThreadsafeHandle(Handle):
    """A handle that can be cancelled in another thread than the loop's.

    When ``cancel`` returns in such a thread, the callback is not running and will not run: if it
    has begun, ``cancel`` waits for its end. In the loop's own thread ``cancel`` does not wait.
    """

    __slots__ = ("_running",)

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Reporter,
        context: Context,
    ) -> None:
        Handle.__init__(self, callback, args, loop, context)
        self._running = threading.RLock()

    def _run(self) -> None:
        """Call the callback in its context, unless it was cancelled."""
        with self._running:
            Handle._run(self)

    def cancelled(self) -> bool:
        """Return whether the handle was cancelled; another thread waits for a running callback."""
        with self._running:
            return Handle.cancelled(self)

    def cancel(self) -> None:
        """Keep the callback from running, or wait for its end; drop the references to it."""
        with self._running:
            Handle.cancel(self)

"""Future: a result that is not available yet, and the tasks and callbacks that wait for it.

::

                 set_result(value)
               +------------------> FINISHED, a value
    PENDING ---+ set_exception(error)
               +------------------> FINISHED, an exception
               | cancel(message)
               +------------------> CANCELLED

``FutureCore`` is the behaviour; ``runtime.kernel.public_types.Future`` is the public class. Why
these are two, and why functions such as ``finish_future`` stand beside the methods: see
``native/mypyc.py``.

Invariants:

- If the first subscriber is a task, it is in ``_waiter``, and all later subscribers are in
  ``_subscribers``; otherwise all are there. A callback is there as a handle without arguments. When
  the future is done, the subscribers are queued in the order of subscription, and both attributes
  are cleared.
- ``_failed`` is set if the future is done and ``result()`` raises. ``_result`` then holds the
  ``Failure``; or, if the future was cancelled, None, or the CancelledError with which the coroutine
  of a task has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from runtime.kernel.arguments.callables import check_callback
from runtime.kernel.diagnostics.describe import (
    creation_stack,
    describe_callback,
    short_error_repr,
    short_repr,
)
from runtime.kernel.errors import CancelledError, InvalidStateError
from runtime.kernel.failure import Failure
from runtime.kernel.handles import Handle, Runnable
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.reasons import make_cancelled_error
from runtime.kernel.scheduler import Scheduler, running_scheduler

if TYPE_CHECKING:
    import traceback

Callback = Callable[[Any], object]

_copy_context: Final = copy_context


@mypyc_attr(allow_interpreted_subclasses=True)
class FutureCore(Runnable):
    """The behaviour of futures and the base of tasks: see ``runtime.kernel.public_types``."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancel_message",
        "_cancelled",
        "_failed",
        "_loop",
        "_pending",
        "_result",
        "_resumed",
        "_source_traceback",
        "_subscribers",
        "_waiter",
    )

    _loop: Scheduler
    _pending: bool
    _failed: bool
    _cancelled: bool
    _asyncio_future_blocking: bool
    _resumed: bool  # Whether an await of the future has returned or raised: see rearm_future().
    _result: Any
    _cancel_message: Any
    _waiter: Runnable | None
    _subscribers: list[Runnable] | None
    _source_traceback: traceback.StackSummary | None

    def __init__(self, *, loop: Scheduler | None = None) -> None:
        refuse_second_init(self)
        if loop is None:
            loop = running_scheduler(type(self).__name__)
        init_future(self, loop)

    def get_loop(self) -> Any:
        """Return the loop that the future belongs to."""
        return self._loop

    def done(self) -> bool:
        """Return whether the future has a result or an exception, or was cancelled."""
        return not self._pending

    def cancelled(self) -> bool:
        """Return whether the future was cancelled."""
        return self._cancelled

    def result(self: FutureCore | None) -> Any:
        """Return the value that was set.

        Raises the exception that was set, CancelledError if the future was cancelled, and
        InvalidStateError if it is not done.
        """
        assert self is not None
        if self._pending or self._failed:
            error = self._result_exception()
            self = None  # noqa: PLW0642 - as in _await()
            try:
                raise error
            finally:
                del error
        return self._result

    def _result_exception(self) -> BaseException:
        """Return the exception that ``result()`` raises, and count it as retrieved."""
        if self._pending:
            return InvalidStateError(f"the result of {self!r} is not set yet; await it first")
        if self._cancelled:
            return self._make_cancelled_error()
        failure: Failure = self._result
        return failure.retrieve()

    def _failure(self) -> Failure | None:
        """Return the ``Failure`` of the future; None if it did not fail, or was cancelled."""
        return _failure_in(self)

    def _make_cancelled_error(self) -> BaseException:
        # The CancelledError with which the coroutine of a task ended is raised the first time, for
        # the sake of its traceback.
        if self._cancelled and self._result is not None:
            error: BaseException = self._result
            self._result = None
            return error
        if self._cancel_message is None:
            return CancelledError()
        return make_cancelled_error(self._cancel_message, self._loop._debug)

    def exception(self) -> BaseException | None:
        """Return the exception that was set, or None if there is a result.

        Raises CancelledError if the future was cancelled, and InvalidStateError if it is not done.
        """
        if self._pending:
            raise InvalidStateError(f"the exception of {self!r} is not set yet; await it first")
        if self._cancelled:
            raise self._make_cancelled_error()
        failure = _failure_in(self)
        if failure is None:
            return None
        # Unlike result(), without its first traceback: the caller may be handling it, or another
        # task, which would log it without its own frames.
        failure.retrieved = True
        return failure.exception

    def set_result(self, result: Any) -> None:
        """Finish with a value. Raises InvalidStateError if the future is already done."""
        if not self._pending:
            raise InvalidStateError(f"{self!r} is already done; its result cannot be set")
        self._result = result
        self._pending = False
        if self._waiter is not None or self._subscribers is not None:
            wake_subscribers(self)

    def set_exception(self, exception: type | BaseException) -> None:
        """Finish with an exception, given as an instance or a class.

        Raises InvalidStateError if the future is already done, and TypeError if ``exception`` is
        not an exception. StopIteration, which no coroutine can raise, becomes a RuntimeError.
        """
        if not self._pending:
            raise InvalidStateError(f"{self!r} is already done; its exception cannot be set")
        fail_future(self, _exception_instance(exception))

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the future; ``msg`` goes into the CancelledError.

        Returns False, and does nothing, if the future is already done.
        """
        return cancel_future(self, msg)

    def _list_subscribers(self) -> list[Any]:
        """Return the subscribers in order: runnables, and pairs of a callback and its context."""
        listed: list[Any] = [self._waiter] if self._waiter is not None else []
        for subscriber in self._subscribers or ():
            if isinstance(subscriber, Handle):
                listed.append((subscriber._callback, subscriber._context))
            else:
                listed.append(subscriber)
        return listed

    def add_done_callback(self, fn: Callback, *, context: Context | None = None) -> None:
        """Call ``fn(future)`` through ``call_soon`` once the future is done.

        The callback runs in ``context``, by default a copy of the current one. If the future is
        done already, the callback runs in the next turn of the loop. Raises TypeError if ``fn`` is
        None; the error of another object that cannot be called is reported when it is called.
        """
        callback: Any = fn
        if callback is None:
            check_callback(None, "add_done_callback")  # The handle would count as cancelled.
        if context is None:
            context = _copy_context()
        # The handle gets its argument when the future is done: until then the two would form a
        # reference cycle.
        handle = Handle(fn, (), self._loop, context)
        if not self._pending:
            _queue_callback(self, handle)
        elif self._subscribers is None:
            self._subscribers = [handle]
        else:
            self._subscribers.append(handle)

    def remove_done_callback(self, fn: Callback) -> int:
        """Remove all entries of the callback ``fn``; return their number."""
        callbacks = self._subscribers
        if callbacks is None:
            return 0
        kept = [
            entry for entry in callbacks if not isinstance(entry, Handle) or entry._callback != fn
        ]
        # A comparison may have run code that finished the future or subscribed to it.
        if self._subscribers is not callbacks:
            return 0
        removed = len(callbacks) - len(kept)
        if removed:
            self._subscribers = kept or None
        return removed

    def __await__(self) -> Generator[Any, None, Any]:
        return _await(self)

    def __iter__(self) -> Generator[Any, None, Any]:
        return _await(self)

    def _make_failure(self, exception: BaseException) -> Failure:
        """Return a ``Failure`` with ``exception``, which reports it unless it is retrieved."""
        return Failure(exception, self._loop, type(self).__name__, self._source_traceback)

    @property
    def _state(self) -> str:
        """The state, under asyncio's name for it: tools for asyncio read this."""
        if self._pending:
            return "PENDING"
        return "CANCELLED" if self._cancelled else "FINISHED"

    def _on_behalf_of(self) -> Any:
        """Return the future."""
        return self

    @property
    def _asyncio_awaited_by(self) -> set[Any] | None:
        """The tasks and futures that wait for this one, under asyncio's name for them.

        The call graph of Python 3.14 reads this. It is computed from the subscribers at each
        access.
        """
        # Imported here: only tools that show call graphs need it.
        from runtime.kernel.diagnostics.awaited_by import waiters_of_subscribers

        found = set(waiters_of_subscribers(self._list_subscribers()))
        found.discard(self)  # The future that shield() returns subscribes to itself.
        return found or None

    @property
    def _callbacks(self) -> list[Any] | None:
        """The callbacks and their contexts, as in asyncio: anyio finds the main task in them."""
        entries = [entry for entry in self._list_subscribers() if isinstance(entry, tuple)]
        return entries or None

    def _describe_state(self) -> list[str]:
        """Return the words of the ``repr``, in order."""
        words = [self._state.lower()]
        if not self._pending and not self._cancelled:
            failure = _failure_in(self)
            if failure is not None:
                words.append(f"exception={short_error_repr(failure.exception)}")
            else:
                words.append(f"result={short_repr(self._result)}")
        # A copy of the list: the __repr__ of a callback may run code that subscribes.
        subscribers = self._list_subscribers()
        omitted = len(subscribers) - 2 if len(subscribers) > 3 else 0
        if omitted:
            subscribers[1:-1] = []
        descriptions = [_describe_subscriber(subscriber) for subscriber in subscribers]
        if omitted:
            descriptions.insert(1, f"<{omitted} more>")
        if descriptions:
            words.append(f"cb=[{', '.join(descriptions)}]")
        if self._source_traceback:
            frame = self._source_traceback[-1]
            words.append(f"created at {frame.filename}:{frame.lineno}")
        return words

    def _describe_briefly(self) -> list[str]:
        """Return the words for the ``repr`` of another object: they show no further objects."""
        return [self._state.lower()]


plain_futures: Final[set[type]] = {FutureCore}
"""The classes whose ``cancel()`` reaches no other future, and runs no code of the program."""


def refuse_second_init(self: FutureCore) -> None:
    """Raise RuntimeError if ``__init__`` is called again: the subscribers would be lost."""
    if getattr(self, "_loop", None) is not None:
        raise RuntimeError(f"{type(self).__name__} object is already initialized")


def init_future(self: FutureCore, loop: Scheduler) -> None:
    """Set the attributes of a new future: for ``__init__``, and for one made without it."""
    self._loop = loop
    self._pending = True
    self._failed = False
    self._cancelled = False
    # asyncio's protocol between a future that is awaited and the task that runs the coroutine.
    self._asyncio_future_blocking = False
    self._resumed = False
    self._result = None
    self._cancel_message = None
    self._waiter = None
    self._subscribers = None
    self._source_traceback = None
    if loop._debug:
        self._source_traceback = creation_stack()


def _failure_in(future: FutureCore) -> Failure | None:
    if not future._failed or future._cancelled:
        return None
    failure: Failure = future._result
    return failure


def _await(future: FutureCore | None) -> Generator[Any, None, Any]:
    """Wait for ``future``; return its result.

    The traceback of an exception raised here holds this frame, and the future holds the exception.
    So the variables of the frame are cleared first, to avoid a reference cycle.
    """
    assert future is not None
    if future._pending:
        future._asyncio_future_blocking = True
        try:
            yield future
        except BaseException:
            future = None
            raise
    if future._pending:
        raise RuntimeError(not_done_message(future))
    future._resumed = True
    if future._failed:
        error = future._result_exception()
        future = None
        try:
            raise error
        finally:
            del error
    return future._result


def not_done_message(future: FutureCore) -> str:
    """Return the message for a coroutine that is resumed while it waits for ``future``."""
    return (
        f"{future!r} is not done: await wasn't used with future, or other code than the task that "
        "runs the coroutine has resumed it"
    )


def _describe_subscriber(subscriber: Any) -> str:
    if isinstance(subscriber, Runnable):
        return f"wake-up of {subscriber._short_name()}"
    return describe_callback(subscriber[0])


def _exception_instance(exception: type | BaseException) -> BaseException:
    """Return ``exception`` as an instance. Raises TypeError if it is not an exception."""
    instance: object = exception() if isinstance(exception, type) else exception
    if not isinstance(instance, BaseException):
        raise TypeError(
            f"set_exception() expected an exception, an instance or a class, got {exception!r}"
        )
    if isinstance(instance, StopIteration):
        replacement = RuntimeError(
            "StopIteration marks the end of a coroutine, and cannot be raised into a Future"
        )
        replacement.__cause__ = instance
        replacement.__context__ = instance
        return replacement
    return instance


def subscribe(future: FutureCore, runnable: Runnable) -> None:
    """Queue ``runnable`` when the future is done, or at once if it is done already."""
    if not future._pending:
        future._loop._ready_append(runnable)
    elif future._subscribers is not None:
        future._subscribers.append(runnable)
    elif future._waiter is None:
        future._waiter = runnable
    else:
        future._subscribers = [runnable]


def unsubscribe(future: FutureCore, runnable: Runnable) -> None:
    """Undo one ``subscribe`` to a pending future."""
    if future._waiter is runnable:
        future._waiter = None
        return
    subscribers = future._subscribers
    if subscribers is not None:
        for index, subscriber in enumerate(subscribers):
            if subscriber is runnable:
                del subscribers[index]
                break
        if not subscribers:
            future._subscribers = None


def wake_subscribers(future: FutureCore) -> None:
    """Queue the subscribers of a future that is done, in the order of subscription."""
    waiter = future._waiter
    if waiter is not None:
        future._waiter = None
        future._loop._ready_append(waiter)
    callbacks = future._subscribers
    if callbacks is not None:
        future._subscribers = None
        for subscriber in callbacks:
            if isinstance(subscriber, Handle):
                _queue_callback(future, subscriber)
            else:
                future._loop._ready_append(subscriber)


def _queue_callback(future: FutureCore, handle: Handle) -> None:
    handle._args = (future,)
    if future._source_traceback is not None:
        handle._source_traceback = creation_stack()
    future._loop._ready_append(handle)


def rearm_future(future: FutureCore) -> bool:
    """Make a finished future pending again, so that its owner can use it for the next wait.

    Returns False, and does nothing, if the task that awaits the future has not resumed yet, because
    it was cancelled, or is still in the ready queue.
    """
    if not future._resumed:
        return False
    future._resumed = False
    future._pending = True
    future._failed = False
    future._cancelled = False
    future._result = None
    future._cancel_message = None
    return True


def finish_future(future: FutureCore, result: Any) -> None:
    """Finish a future, which must be pending, with a result; ``set_result`` without its check.

    A function and not a method, so that compiled code calls it directly: see ``native/mypyc.py``.
    """
    future._result = result
    future._pending = False
    if future._waiter is not None or future._subscribers is not None:
        wake_subscribers(future)


def fail_future(future: FutureCore, exception: BaseException) -> None:
    """Finish a future, which must be pending, with an exception."""
    future._result = future._make_failure(exception)
    future._failed = True
    future._pending = False
    wake_subscribers(future)


def cancel_future(future: FutureCore, msg: Any, error: BaseException | None = None) -> bool:
    """Cancel the future. For a task, ``error`` is the CancelledError that ended its coroutine.

    Returns False if the future is done; its exception, if any, then counts as retrieved.
    """
    if not future._pending:
        failure = _failure_in(future)
        if failure is not None:
            failure.retrieved = True
        return False
    future._cancel_message = msg
    future._result = error
    future._failed = True
    future._cancelled = True
    future._pending = False
    wake_subscribers(future)
    return True


def has_failed(future: Any) -> bool:
    """Return whether a future, of this package or of asyncio, is done and has an exception.

    The exception of an asyncio future counts as retrieved afterwards; that of a ``FutureCore`` does
    not.
    """
    if isinstance(future, FutureCore):
        return future._failed and not future._cancelled
    return future.done() and not future.cancelled() and future.exception() is not None


def failure_of(future: FutureCore) -> BaseException | None:
    """Return the exception that awaiting a finished future raises, or None if it has a result."""
    return future._result_exception() if future._failed else None


def raises_cancelled(future: FutureCore | None) -> bool:
    """Return whether awaiting a future would raise CancelledError at once; False for None."""
    if future is None or not future._failed:
        return False
    failure = _failure_in(future)
    return failure is None or isinstance(failure.exception, CancelledError)

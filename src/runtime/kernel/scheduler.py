"""Scheduler: the ready queue, the timers and the poller of a loop, and calls from other threads.

This is the part of the loop that futures and tasks need. ``runtime.kernel.core.LoopCore`` adds the
turns of the loop to it. The idioms for mypyc: see ``native/mypyc.py``.

Threads: only ``call_soon_threadsafe`` and ``_wake`` may be called in any thread; everything else
belongs to the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from io import FileIO
from itertools import chain, repeat, starmap
from selectors import BaseSelector
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from runtime.kernel.arguments.callables import check_callback
from runtime.kernel.arguments.seconds import NEVER, Seconds, seconds
from runtime.kernel.daemons import ExternalWork
from runtime.kernel.diagnostics import reports
from runtime.kernel.diagnostics.describe import creation_stack
from runtime.kernel.diagnostics.step_sampler import StepSampler
from runtime.kernel.handles import Handle, Runnable, ThreadsafeHandle
from runtime.kernel.native import accelerator
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.poller import Poller
from runtime.kernel.scope_state import ScopeState
from runtime.kernel.signals import run_signal_handlers
from runtime.kernel.timers import TimerHandle, TimerHeap
from runtime.kernel.watcher import READ, Watcher

if TYPE_CHECKING:
    from runtime.kernel.diagnostics.coroutine_meter import CoroutineMeter
    from runtime.kernel.diagnostics.recorder import Recording

ExceptionHandler = Callable[[Any, dict[str, Any]], object]

_read: Final[Callable[[int], bytes | None]] = accelerator.read
_write: Final[Callable[[int, bytes], int]] = accelerator.write
_NEVER: Final[float] = NEVER
_callable: Final = callable
_FunctionType: Final = FunctionType
_MethodType: Final = MethodType
_copy_context: Final = copy_context
_get_ident: Final = threading.get_ident
_sleep: Final = time.sleep
_pipe: Final[Callable[[], tuple[int, int]]] = os.pipe

_CROWDED: Final = 256
"""Length of the ready queue from which on calls of other threads wait for a later turn."""


FORKED: Final = (
    "this event loop was running when its process forked, and belongs to the parent: "
    "in the child, end with os._exit(), or make a new loop"
)
"""The message for everything that asks the loop for work in the child of a fork."""


class Copies(Protocol):
    """Copies of the tasks for tools outside the process: see ``compat/external_tools.py``."""

    def run(self, task: Any, step: Callable[[Any], None]) -> None:
        """Run a step of ``task``, with its copy as the thread's running task."""

    def refresh(self) -> None:
        """Update the copies if the loop is about to wait, or has been busy for long."""

    def clear(self) -> None:
        """Drop all copies."""


class _WakeWatcher(Watcher):
    """Empties the wake-up pipe when it is readable."""

    __slots__ = ("_loop",)

    def __init__(self, loop: Scheduler, fd: int) -> None:
        Watcher.__init__(self, fd)
        self.daemon = True
        self._loop = loop

    def on_readable(self) -> None:
        self._loop._drain_wakeups()


@mypyc_attr(allow_interpreted_subclasses=True)
class Scheduler:
    """The ready queue, the timers, the poller and the exception handler of one loop."""

    __slots__ = (
        "_cancelling",
        "_connections_closed",
        "_connections_opened",
        "_copies",
        "_coroutine_meter",
        "_current",
        "_debug",
        "_exception_handler",
        "_external_work",
        "_handed_out",
        "_has_inbound",
        "_inbound",
        "_poller",
        "_ready",
        "_ready_append",
        "_recorder",
        "_refusal",
        "_reports",
        "_sample_at",
        "_sampled_turns",
        "_sampler",
        "_scope_of_next_task",
        "_signal_handlers",
        "_slow_callback_duration",
        "_stopping",
        "_tasks",
        "_tasks_cancelled",
        "_tasks_created",
        "_tasks_failed",
        "_thread_id",
        "_timers",
        "_turns",
        "_wake_pending",
        "_wake_receiver",
        "_wake_sender",
        "_watched",
        "_watched_always",
        "time",
    )

    # For tests that replace the clock: unittest.mock deletes the attribute, and sets it again.
    __deletable__ = ("time",)

    def __init__(self, selector: BaseSelector | None, clock: Callable[[], float]) -> None:
        # The message of the RuntimeError for new work, or None while the loop takes work. It is set
        # until the end of __init__: if that fails, the finalizer takes the loop for a closed one.
        self._refusal: str | None = "This event loop could not be made"
        self._ready: deque[Runnable] = deque()
        # Appends to the ready queue. Closing the loop puts a function here that raises, so that the
        # hot path does not have to check whether the loop is closed.
        self._ready_append: Callable[[Runnable], object] = self._ready.append
        # Calls of other threads that wait for a later turn, while the ready queue is crowded.
        self._inbound: deque[Runnable] = deque()
        # Whether ``_inbound`` has entries: a bool is the cheapest to test in each turn.
        self._has_inbound = False
        # The tasks that have not ended, which the loop keeps alive, in the order of their creation.
        # A dictionary needs half the memory of a set.
        self._tasks: dict[Any, None] = {}
        # For ``metrics``: the number of tasks so far, of those that a cancellation or an exception
        # has ended, and of reports to the exception handler.
        self._tasks_created = 0
        self._tasks_cancelled = 0
        self._tasks_failed = 0
        self._reports = 0
        # Calls in executors, processes and the like that will wake the loop when they end.
        self._external_work: set[ExternalWork] = set()
        # Whether threads were found that may wake the loop: see ``threads.unknown_threads``.
        self._handed_out = False
        # The task that runs now; None in a callback.
        self._current: Any = None
        # While ``Task.cancel`` is at work: the tasks that its request has reached so far.
        self._cancelling: list[Any] | None = None
        # The scope that the next task is created in, or None: see ``runtime.kernel.scopes``.
        self._scope_of_next_task: ScopeState | None = None
        self._timers = TimerHeap()
        self._poller = Poller(selector, self._report_watcher)
        # The identifier of the thread that runs the loop; 0 while the loop is not running.
        self._thread_id = 0
        self._debug = False
        # The number of turns so far, and whether the run is to end with the current one.
        self._turns = 0
        self._stopping = False
        # Whether turns are run by one of the slower functions: for debug mode, copies of the tasks
        # for tools outside the process, the recorder, measured coroutines, or a sample of
        # durations; and whether for one of those that last, which are all but the sample.
        self._watched = False
        self._watched_always = False
        # Copies of the tasks for tools outside the process, or None (the default).
        self._copies: Copies | None = None
        # The recording of the flight recorder, or None (the default).
        self._recorder: Recording | None = None
        # Measures steps by the names of coroutines, or None (the default).
        self._coroutine_meter: CoroutineMeter | None = None
        # The number of stream connections that were opened and closed so far.
        self._connections_opened = 0
        self._connections_closed = 0
        # The durations that were measured in sampled turns; the number of the turn in which the
        # next sample is due, and the number of turns that are to be measured for it now.
        self._sampler = StepSampler()
        self._sample_at = self._sampler.every
        self._sampled_turns = 0
        # Seconds: see ``slow_callback_duration``.
        self._slow_callback_duration = 0.1
        # The handlers that ``runtime.system.signals`` has installed, by signal number.
        self._signal_handlers: dict[int, Any] = {}
        # Returns the time, in seconds from an arbitrary start. A test may put another clock here.
        self.time: Callable[[], float] = clock
        self._exception_handler: ExceptionHandler | None = None
        self._wake_pending = False
        # The wake-up pipe costs half as much as a pair of sockets. It is made, with objects that
        # close it, in one step of the interpreter: if a signal handler raised between two steps,
        # descriptors would stay open.
        self._wake_receiver, self._wake_sender = tuple(
            map(FileIO, chain.from_iterable(starmap(_pipe, ((),))), repeat("r+"))
        )
        os.set_blocking(self._wake_receiver.fileno(), False)
        os.set_blocking(self._wake_sender.fileno(), False)
        self._poller.watch(_WakeWatcher(self, self._wake_receiver.fileno()), READ)
        self._refusal = None

    # -- Callbacks ---------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call ``callback(*args)`` in the next turn of the loop, after the entries queued before.

        The callback runs in ``context``, by default a copy of the current one. Returns a handle
        that can be cancelled. Raises RuntimeError if the loop is closed, and TypeError if
        ``callback`` is not callable.
        """
        if context is None:
            context = _copy_context()
        handle = Handle(callback, args, self, context)
        if self._debug:
            self._check_thread()
            handle._source_traceback = creation_stack()
        kind = type(callback)
        if (
            kind is not _FunctionType and kind is not _MethodType and not _callable(callback)
        ) or self._debug:
            check_callback(callback, "call_soon")
        self._ready_append(handle)
        return handle

    def call_later(
        self,
        delay: Seconds,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call ``callback(*args)`` after ``delay`` seconds; otherwise like ``call_soon``.

        The delay is any real number; if it is infinite, the callback is never called. Callbacks
        with the same deadline run in the order in which they were scheduled. Raises TypeError for
        any other type, ValueError for NaN, and OverflowError for a delay that no float can hold.
        """
        when = self.time() + seconds(delay, "call_later()")
        return _call_at(self, when, callback, args, context, "call_later")

    def call_at(
        self,
        when: Seconds,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call ``callback(*args)`` at ``when``, in seconds on the clock of ``time()``.

        All else is as for ``call_later``, including the order of callbacks with the same deadline.
        """
        return _call_at(self, seconds(when, "call_at()"), callback, args, context, "call_at")

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call ``callback(*args)`` in the loop's thread; for any thread, and for signal handlers.

        Otherwise like ``call_soon``. The loop is woken if it waits. The handle can be cancelled in
        any thread; in another thread than the loop's, ``cancel()`` waits for the end of a callback
        that has begun. Callbacks run in the order in which one thread has scheduled them. One turn
        of the loop runs only a limited number of them, so that threads that call faster than the
        loop can run do not delay its timers and descriptors.
        """
        if not _callable(callback) or self._debug:
            check_callback(callback, "call_soon_threadsafe")
        if context is None:
            context = copy_context()
        handle = ThreadsafeHandle(callback, args, self, context)
        if self._debug:
            handle._source_traceback = creation_stack()
        if (self._inbound or len(self._ready) >= _CROWDED) and self._must_wait_inbound():
            self._inbound.append(handle)
            self._has_inbound = True
            self._wake()
            if self._thread_id:
                # Give the loop the GIL, which this thread would otherwise keep for 5 ms.
                _sleep(0)
        else:
            self._ready_append(handle)
            self._wake()
        return handle

    def _must_wait_inbound(self) -> bool:
        """Return whether a call from this thread is to wait in ``_inbound``.

        Calls from the loop's own thread never wait.
        """
        if self._thread_id == 0:
            return bool(self._inbound)
        return self._thread_id != _get_ident()

    def _take_inbound(self) -> None:
        """Move some of the calls that wait in ``_inbound`` to the ready queue.

        An entry is removed from ``_inbound`` only when it is in the ready queue, so that the next
        call of the same thread cannot overtake it. To be called at the beginning of a turn, if
        there are entries.
        """
        inbound = self._inbound
        for _ in range(min(len(inbound), _CROWDED)):
            self._ready_append(inbound[0])
            inbound.popleft()
        if not inbound:
            self._has_inbound = False
            # Another thread may have added an entry before the flag was cleared.
            if inbound:
                self._has_inbound = True

    def _recover_queue(self) -> None:
        """Finish the moves of entries to the ready queue that an exception has ended.

        To be called before the entries run. See ``runtime.kernel.lifetime.recovery``.
        """
        self._timers.recover(self._ready)
        inbound = self._inbound
        if inbound:
            queued = set(map(id, self._ready))
            while inbound and id(inbound[0]) in queued:
                inbound.popleft()

    # -- Waking up ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Make the loop's current wait return, or else its next one. For any thread.

        The flag ``_wake_pending`` says that a byte is in the wake-up pipe, or about to be, so
        that many calls write one byte. The loop clears it before it looks at the ready queue: a
        thread that finds it set has queued its callback in time to be seen. And the loop clears it
        after it has emptied the pipe, so that it is never set without a byte there.
        """
        if self._wake_pending:
            return
        self._wake_pending = True
        try:
            # A full pipe is not an error: it holds enough bytes to wake the loop. The accelerator
            # keeps the GIL during the call: otherwise the loop would wake up, take it, and this
            # thread would have to wait before it could continue. And no thread can close the loop
            # between the two calls, so that the number would belong to another file.
            _write(self._wake_sender.fileno(), b"\0")
        except (OSError, ValueError):
            if self._refusal is None:
                raise

    def _forget_wakeup(self) -> None:
        """Clear the flag, so that the next ``_wake`` writes a byte in any case.

        If a signal handler raised inside ``_wake``, the flag may be set without a byte in the
        pipe.
        """
        self._wake_pending = False

    def _wakeup_fd(self) -> int:
        """Return the descriptor for ``signal.set_wakeup_fd``."""
        return self._wake_sender.fileno()

    def _drain_wakeups(self) -> None:
        """Empty the wake-up pipe, then run the handlers of the signals that have arrived.

        In this order, because a signal that arrives after the pipe was emptied writes a byte
        there, and so wakes the loop again.
        """
        try:
            fd = self._wake_receiver.fileno()
            # The interpreter writes the number of each signal; _wake() writes zeros.
            data = arrived = _read(fd) or b""
            while len(data) == accelerator.RECEIVE_SIZE:
                data = _read(fd) or b""
                arrived += data
            run_signal_handlers()
            if self._signal_handlers:
                self._signals_arrived(arrived)
        finally:
            self._wake_pending = False

    def _signals_arrived(self, numbers: bytes) -> None:
        """Call the loop's handlers of those signals whose handler was replaced meanwhile.

        ``numbers`` are the signals that have arrived, a byte for each; zeros are wake-ups.
        """

    # -- Reports -----------------------------------------------------------------------------------

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Set the function that is called for exceptions that no caller receives.

        It is called as ``handler(loop, context)``, with the context variables of the task or the
        callback that raised. None restores the default, which logs the exception. Raises TypeError
        if ``handler`` is neither callable nor None.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Return the exception handler that was set, or None."""
        return self._exception_handler

    @property
    def slow_callback_duration(self) -> Any:
        """The duration, in seconds, from which debug mode reports a callback, or a step, as slow.

        It can be set, to any real number.
        """
        return self._slow_callback_duration

    @slow_callback_duration.setter
    def slow_callback_duration(self, value: Any) -> None:
        self._slow_callback_duration = seconds(value, "Loop.slow_callback_duration")

    def default_exception_handler(self, context: Mapping[str, Any]) -> None:
        """Log ``context`` as an error, with its exception, to the logger named ``asyncio``."""
        reports.log_exception_context(context)

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        """Report an error that no caller receives, to the exception handler.

        ``context`` has a ``message`` and may have ``exception``, ``future``, ``task``, ``handle``,
        ``protocol``, ``transport``, ``socket``, ``asyncgen`` and ``source_traceback``. An exception
        of the handler itself is logged, except SystemExit and KeyboardInterrupt, which are raised.
        """
        self._reports += 1
        reports.call_exception_handler(self, self._exception_handler, context)

    def _report_watcher(self, message: str, error: BaseException, watcher: object) -> None:
        self.call_exception_handler({"message": message, "exception": error, "watcher": watcher})

    # -- State -------------------------------------------------------------------------------------

    def is_closed(self) -> bool:
        """Return whether the loop was closed."""
        return self._refusal is not None

    def _check_open(self) -> None:
        """Raise RuntimeError if the loop is closed, or takes no more work for another reason."""
        if self._refusal is not None:
            raise RuntimeError(self._refusal)

    def _check_thread(self) -> None:
        """Raise RuntimeError if the loop runs in another thread than the caller's."""
        if self._thread_id and self._thread_id != threading.get_ident():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one: it "
                "runs in another thread; use call_soon_threadsafe() or run_coroutine_threadsafe()"
            )

    def _refuse_work(self, reason: str) -> None:
        """Take no more work: every later attempt raises ``RuntimeError(reason)``."""
        self._refusal = reason
        # This does not refer to the loop: a closed loop must not be part of a reference cycle.
        self._ready_append = functools.partial(_refuse, reason)
        self._ready.clear()
        self._inbound.clear()
        self._timers.clear()

    def _release(self, *, abandoned: bool = False) -> None:
        """Close the selector and the wake-up pipe.

        Calling this twice is fine. A loop whose initialisation failed is ``abandoned``: attributes
        may be missing, and a selector that the caller gave stays open.
        """
        poller: Any = getattr(self, "_poller", None)
        if poller is not None:
            if abandoned:
                poller.abandon()
            else:
                poller.close()
        # The sender first: a write of another thread to a pipe without a reader raises SIGPIPE.
        for name in ("_wake_sender", "_wake_receiver"):
            part: Any = getattr(self, name, None)
            if part is not None:
                part.close()


def _call_at(
    loop: Scheduler,
    when: float,
    callback: Callable[..., object],
    args: tuple[Any, ...],
    context: Context | None,
    method: str,
) -> TimerHandle:
    if loop._refusal is not None:
        raise RuntimeError(loop._refusal)
    if context is None:
        context = _copy_context()
    timers = None if when == _NEVER else loop._timers
    handle = TimerHandle(when, callback, args, loop, context, timers)
    if loop._debug:
        loop._check_thread()
        handle._source_traceback = creation_stack()
    kind = type(callback)
    if (
        kind is not _FunctionType and kind is not _MethodType and not _callable(callback)
    ) or loop._debug:
        check_callback(callback, method)
    if timers is not None:
        timers.push(handle, when)
    return handle


def _refuse(reason: str, runnable: Runnable) -> NoReturn:
    raise RuntimeError(reason)


def running_scheduler(needed_by: str) -> Scheduler:
    """Return the loop that runs in this thread, for a function or class named ``needed_by``.

    Raises RuntimeError if no loop runs, or if it is not one of runtime's.
    """
    loop: object = asyncio._get_running_loop()
    if isinstance(loop, Scheduler):
        return loop
    if loop is None:
        raise RuntimeError(
            f"no running event loop: {needed_by} is for coroutines that runtime.run() runs"
        )
    raise RuntimeError(
        f"the running event loop must be one of runtime's for {needed_by}, got {loop!r}"
    )

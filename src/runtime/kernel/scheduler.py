"""The scheduler: what is ready, what is due later, what waits for a descriptor.

It is the part of the loop that futures and tasks need to know. ``runtime.kernel.core.LoopCore``
adds the turn of the loop to it.

Threads: everything here belongs to the thread that runs the loop, except ``call_soon_threadsafe``
and ``wake``.
"""

from __future__ import annotations

import _socket
import asyncio
import functools
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from selectors import BaseSelector
from types import FunctionType, MethodType
from typing import Any, Final, NoReturn

from runtime.kernel.arguments.callables import check_callback
from runtime.kernel.arguments.seconds import NEVER, Seconds, seconds
from runtime.kernel.daemons import ExternalWork
from runtime.kernel.diagnostics import reports
from runtime.kernel.diagnostics.describe import creation_stack
from runtime.kernel.handles import Handle, Runnable, ThreadsafeHandle
from runtime.kernel.native import accelerator
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.poller import READ, Poller, Watcher
from runtime.kernel.signals import run_signal_handlers
from runtime.kernel.timers import TimerHandle, TimerHeap

ExceptionHandler = Callable[[Any, dict[str, Any]], object]

_send: Final[Callable[[Any, Any, Any], int]] = accelerator.sendto
_receive: Final[Callable[[int], bytes | None]] = accelerator.recv
_NEVER: Final[float] = NEVER
_callable: Final = callable
_FunctionType: Final = FunctionType
_MethodType: Final = MethodType
_copy_context: Final = copy_context
_get_ident: Final = threading.get_ident

_CROWDED: Final = 256
"""Entries of the ready queue from which on calls of other threads wait for a later turn."""

# socket.socketpair() is several steps of Python, between two of which a handler of a signal can
# raise: a descriptor would be left open. This is a single one.
_socketpair: Final[Callable[[], tuple[_socket.socket, _socket.socket]]] = getattr(
    _socket, "socketpair", socket.socketpair
)


class _WakeWatcher(Watcher):
    """Reads what ``wake`` and the interpreter's signal handler wrote, and forgets it."""

    __slots__ = ("_loop",)

    def __init__(self, loop: Scheduler, fd: int) -> None:
        Watcher.__init__(self, fd)
        self.daemon = True
        self._loop = loop

    def on_readable(self) -> None:
        self._loop._drain_wakeups()


@mypyc_attr(allow_interpreted_subclasses=True)
class Scheduler:
    """The ready queue, the timers and the poller of one loop, and how exceptions are reported."""

    __slots__ = (
        "_cancelling",
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
        "_refusal",
        "_signal_handlers",
        "_tasks",
        "_thread_id",
        "_timers",
        "_wake_pending",
        "_wake_receiver",
        "_wake_sender",
        "slow_callback_duration",
        "time",
    )

    # So that the clock of a test can be taken away again: the one before is put back then.
    __deletable__ = ("time",)

    def __init__(self, selector: BaseSelector | None, clock: Callable[[], float]) -> None:
        # Why the loop takes no more work; None while it does. A finalizer takes a loop that could
        # not be made, for want of descriptors for instance, for one that is closed.
        self._refusal: str | None = "This event loop could not be made"
        self._ready: deque[Runnable] = deque()
        # How everything gets into the ready queue. Closing the loop puts a function that raises
        # here, so that the hot path need not ask whether the loop is closed.
        self._ready_append: Callable[[Runnable], object] = self._ready.append
        # What other threads have queued beyond ``_CROWDED``: it waits for a later turn.
        self._inbound: deque[Runnable] = deque()
        # True while there is something in it: every turn asks, and a truth value is quicker asked.
        self._has_inbound = False
        # Every task that has not ended: the loop keeps them alive.
        self._tasks: set[Any] = set()
        # What goes on in threads and processes, and will wake the loop when it has ended.
        self._external_work: set[ExternalWork] = set()
        # Whether threads were found that may wake the loop: see ``threads.unknown_threads``.
        self._handed_out = False
        # The task that runs now; None in a callback.
        self._current: Any = None
        # While a cancellation is passed on to what tasks wait for: the tasks that it has come to.
        self._cancelling: list[Any] | None = None
        self._timers = TimerHeap()
        self._poller = Poller(selector, self._report_watcher)
        # The thread that runs the loop; 0 while nobody does.
        self._thread_id = 0
        self._debug = False
        self.slow_callback_duration = 0.1
        # What ``runtime.system.signals`` has installed, by the number of the signal.
        self._signal_handlers: dict[int, Any] = {}
        # Returns the time, in seconds from an arbitrary start. A test may put another clock here.
        self.time: Callable[[], float] = clock
        self._exception_handler: ExceptionHandler | None = None
        self._wake_pending = False
        self._wake_receiver, self._wake_sender = _socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._poller.watch(_WakeWatcher(self, self._wake_receiver.fileno()), READ)
        self._refusal = None

    # -- Callbacks ---------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Call ``callback(*args)`` in the next turn of the loop, after what was queued before.

        It runs in ``context``, by default a copy of the current one. Returns a handle that can be
        cancelled. Raises RuntimeError on a closed loop and TypeError for what cannot be called.
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
        """Call ``callback(*args)`` after ``delay`` seconds; otherwise as ``call_soon``.

        The delay is any real number: TypeError for anything else, ValueError for NaN. After an
        infinite one the callback is never called. Callbacks with the same deadline run in the order
        in which they were scheduled.
        """
        when = self.time() + seconds(delay, "call_later()")
        return self._call_at(when, callback, args, context, "call_later")

    def call_at(
        self,
        when: Seconds,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        """Call ``callback(*args)`` at ``when``, in seconds on the clock of ``time()``."""
        return self._call_at(seconds(when, "call_at()"), callback, args, context, "call_at")

    def _call_at(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        method: str,
    ) -> TimerHandle:
        if self._refusal is not None:
            raise RuntimeError(self._refusal)
        if context is None:
            context = _copy_context()
        timers = None if when == _NEVER else self._timers
        handle = TimerHandle(when, callback, args, self, context, timers)
        if self._debug:
            self._check_thread()
            handle._source_traceback = creation_stack()
        if not _callable(callback) or self._debug:
            check_callback(callback, method)
        if timers is not None:
            timers.push(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """As ``call_soon``, from any thread, and from a signal handler: the loop is woken.

        The handle can be cancelled in any thread: in another one than the loop's, ``cancel()``
        waits for a callback that has begun. Callbacks of one thread run in the order of its calls;
        of very many only some run in one turn of the loop, so that timers and descriptors are not
        kept waiting by threads that call faster than the loop can.
        """
        if not _callable(callback) or self._debug:
            check_callback(callback, "call_soon_threadsafe")
        if context is None:
            context = copy_context()
        handle = ThreadsafeHandle(callback, args, self, context)
        if self._debug:
            handle._source_traceback = creation_stack()
        if (self._inbound or len(self._ready) >= _CROWDED) and self._is_to_wait():
            self._inbound.append(handle)
            self._has_inbound = True
        else:
            self._ready_append(handle)
        self._wake()
        return handle

    def _is_to_wait(self) -> bool:
        """Return whether a call of this thread waits in ``_inbound``; the loop's own never do."""
        if self._thread_id == 0:
            return bool(self._inbound)
        return self._thread_id != _get_ident()

    def _take_inbound(self) -> None:
        """Move some of what other threads have queued to the ready queue.

        Each goes from ``_inbound`` only when it is in the ready queue: what its thread queues after
        it cannot come first. To be called while there is some, at the beginning of a turn.
        """
        inbound = self._inbound
        for _ in range(min(len(inbound), _CROWDED)):
            self._ready_append(inbound[0])
            inbound.popleft()
        if not inbound:
            self._has_inbound = False
            # Another thread may have added something before that.
            if inbound:
                self._has_inbound = True

    # -- Waking up ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Make the loop's wait return, now or when it next begins. For any thread.

        One byte is on its way at a time: the flag is cleared before the ready queue is looked at,
        so that whoever finds it set has queued its work early enough to be seen; and after the
        socket was emptied, so that it is never set with no byte on its way.
        """
        if self._wake_pending:
            return
        self._wake_pending = True
        try:
            # If the buffer is full, a wake-up is certainly on its way. The accelerator keeps the
            # GIL: the loop would wake up only to wait for it, while this thread waits to go on.
            _send(self._wake_sender, b"\0", None)
        except OSError:
            if self._refusal is None:
                raise

    def _forget_wakeup(self) -> None:
        """Have the next ``wake`` write a byte, whether or not one is on its way.

        A ``wake`` into which the handler of a signal raised may not have written the byte that it
        had announced.
        """
        self._wake_pending = False

    def _wakeup_fd(self) -> int:
        """Return the descriptor for ``signal.set_wakeup_fd``."""
        return self._wake_sender.fileno()

    def _drain_wakeups(self) -> None:
        """Empty the wake-up socket, and have the handlers of signals run that wrote to it.

        In this order: a signal that comes after the socket was emptied has a byte there.
        """
        try:
            fd = self._wake_receiver.fileno()
            # The interpreter writes the number of each signal, wake() writes zeros.
            data = arrived = _receive(fd) or b""
            while len(data) == accelerator.RECEIVE_SIZE:
                data = _receive(fd) or b""
                arrived += data
            run_signal_handlers()
            if self._signal_handlers:
                self._signals_arrived(arrived)
        finally:
            self._wake_pending = False

    def _signals_arrived(self, numbers: bytes) -> None:
        """Call what handles signals of which the interpreter calls another handler by now."""

    # -- Reports -----------------------------------------------------------------------------------

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Have ``handler(loop, context)`` called for exceptions that reach nobody; None: log them.

        It runs in the context variables of the task or the callback that the exception came from.
        Raises TypeError for what cannot be called.
        """
        if handler is not None and not callable(handler):
            raise TypeError(
                f"A callable object or None is what handles exceptions, not {handler!r}."
            )
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Return the exception handler that was set, or None."""
        return self._exception_handler

    def default_exception_handler(self, context: Mapping[str, Any]) -> None:
        """Log ``context`` as an error, with its exception, to the logger named ``asyncio``."""
        reports.log_exception_context(context)

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        """Report what no caller can be told.

        ``context`` has a ``message`` and may have ``exception``, ``future``, ``task``, ``handle``,
        ``protocol``, ``transport``, ``socket``, ``asyncgen`` and ``source_traceback``. An exception
        in the handler itself is logged and goes no further; SystemExit and KeyboardInterrupt pass.
        """
        reports.hand_over(self, self._exception_handler, context)

    def _report_watcher(self, message: str, error: BaseException, watcher: object) -> None:
        self.call_exception_handler({"message": message, "exception": error, "watcher": watcher})

    # -- State -------------------------------------------------------------------------------------

    def is_closed(self) -> bool:
        """Return whether the loop was closed."""
        return self._refusal is not None

    def _check_open(self) -> None:
        """Raise RuntimeError when the loop takes no more work."""
        if self._refusal is not None:
            raise RuntimeError(self._refusal)

    def _check_thread(self) -> None:
        """Raise RuntimeError when another thread than the caller's runs the loop."""
        if self._thread_id and self._thread_id != threading.get_ident():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one: it "
                "runs in another thread; use call_soon_threadsafe() or run_coroutine_threadsafe()."
            )

    def _refuse_work(self, reason: str) -> None:
        """Take no more work: every later attempt raises RuntimeError(reason)."""
        self._refusal = reason
        # It does not refer to the loop: a closed one is not to be part of a reference cycle.
        self._ready_append = functools.partial(_refuse, reason)
        self._ready.clear()
        self._inbound.clear()
        self._timers.clear()

    def _release(self, *, abandoned: bool = False) -> None:
        """Give back the descriptors: the selector's and those of the wake-up sockets.

        Doing so again is fine, as it is for a loop that could not be made, which is ``abandoned``:
        a selector of the caller's stays open then.
        """
        poller: Any = getattr(self, "_poller", None)
        if poller is not None:
            if abandoned:
                poller.abandon()
            else:
                poller.close()
        for name in ("_wake_receiver", "_wake_sender"):
            part: Any = getattr(self, name, None)
            if part is not None:
                part.close()


def _refuse(reason: str, runnable: Runnable) -> NoReturn:
    raise RuntimeError(reason)


def running_scheduler(needed_by: str) -> Scheduler:
    """Return the loop that runs in this thread. Raises RuntimeError when none of ours does."""
    loop: object = asyncio._get_running_loop()
    if isinstance(loop, Scheduler):
        return loop
    if loop is None:
        raise RuntimeError(
            f"no running event loop: {needed_by} is for coroutines that runtime.run() runs."
        )
    raise RuntimeError(
        f"The running event loop is {loop!r}, not one of runtime's, which {needed_by} needs."
    )

"""Core of the event loop: its turns, and how it is run, stopped and closed.

A turn is one iteration of the loop::

    +--> compute the timeout      0 if the ready queue has entries, else until the first timer is
    |                             due, or without limit if there is no timer
    |    wait on the selector
    |    deliver the events       a stream's watcher receives, and queues the task that reads
    |    queue the due timers
    |    run the ready queue      as many entries as it has now: entries that are queued meanwhile
    +----+                        run in the next turn

``LoopCore`` is the behaviour, in a compiled class if a compiler was found; ``runtime.loop.Loop`` is
the public class, which adds the network and the system to it. Why these are two, and other idioms
for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from selectors import BaseSelector
from typing import TYPE_CHECKING, Any, Final

from runtime.kernel import descriptors, signals
from runtime.kernel.arguments.callables import check_callback
from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.compat.registry import running_loops, show_tasks_of
from runtime.kernel.compat.task_factory import TaskFactory, call_factory, take_options
from runtime.kernel.diagnostics import debug_mode
from runtime.kernel.diagnostics.reports import report_unraised
from runtime.kernel.diagnostics.step_sampler import SAMPLED_TURNS
from runtime.kernel.future import init_future
from runtime.kernel.handles import Handle, Runnable
from runtime.kernel.lifetime.asyncgens import AsyncGenerators
from runtime.kernel.lifetime.recovery import recover_tasks
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.observed_turns import run_sampled_turns, run_timed_turns
from runtime.kernel.poller import FEW_ENTRIES
from runtime.kernel.public_types import Future, Task, await_it
from runtime.kernel.scheduler import FORKED, Scheduler
from runtime.kernel.sleep_future import SleepFuture
from runtime.kernel.task import TaskCore, init_task, leave_task, step
from runtime.kernel.threads import executor as thread_pools

if TYPE_CHECKING:
    from runtime.kernel.diagnostics.coroutine_meter import CoroutineMeter
    from runtime.kernel.diagnostics.slow_callbacks import SlowCallbackWatch
    from runtime.kernel.lifetime.idle_collector import IdleCollector
    from runtime.kernel.threads.limiters import Limiter

FileDescriptor = descriptors.FileDescriptor

# A call of the class would parse the arguments three times. Instead the instance is made without
# __init__, and the function behind __init__ is called directly.
_bare_future: Final[Callable[[type[Future[Any]]], Future[Any]]] = Future.__new__
_bare_task: Final[Callable[[type[Task[Any]]], Task[Any]]] = Task.__new__
_Future: Final[type[Future[Any]]] = Future
_Task: Final[type[Task[Any]]] = Task
_Handle: Final = Handle


def _stop_loop_of(future: Any) -> None:
    """Stop the loop of ``future``, for which ``run_until_complete`` waits: it is done."""
    if not future.cancelled() and isinstance(future.exception(), (KeyboardInterrupt, SystemExit)):
        return  # The exception is leaving run_forever() already.
    future.get_loop().stop()


# If asyncio has its own function, which does the same, it is used: anyio recognises the main task
# by this callback, and keeps its worker threads until that task ends.
_stop_when_done: Final[Callable[[Any], object]] = getattr(
    asyncio.base_events, "_run_until_complete_cb", _stop_loop_of
)

_is_finalizing: Final = sys.is_finalizing
_set_asyncgen_hooks: Final[Callable[[Any, Any], object]] = sys.set_asyncgen_hooks

_NO_SAMPLES: Final = 1 << 60
"""Number of a turn that is never reached."""

_TOOLS_VARIABLE: Final = "RUNTIME_ASYNCIO_TOOLS"
"""The environment variable that has every new loop show its tasks to external tools."""

_CLOSED = "Event loop is closed"


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnRunner:
    """Runs the turns of a loop in another way than the loop itself, as a simulation does."""

    __slots__ = ()

    def run_turns(self, loop: LoopCore) -> None:
        """Run at least one turn; return when the loop is stopped."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class LoopCore(Scheduler):
    """The event loop without the network and the system, which ``runtime.loop.Loop`` adds."""

    __slots__ = (
        "_accepted",
        "_asyncgens",
        "_bytes_received",
        "_bytes_sent",
        "_ending",
        "_executor",
        "_idle_collector",
        "_idle_threads",
        "_limited_threads",
        "_lookup_threads",
        "_measured",
        "_pools",
        "_released",
        "_reports_deadlocks",
        "_slow_watch",
        "_task_factory",
        "_thread_limiter",
        "_threads_before",
        "_turn_runner",
        "_unknown_before",
        "_until_idle",
        "_waiting",
        "_watching_threads",
    )

    def __init__(
        self, selector: BaseSelector | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        Scheduler.__init__(self, selector, clock)
        self._released = False
        self._task_factory: TaskFactory | None = None
        self._asyncgens: AsyncGenerators | None = None
        self._executor = thread_pools.DefaultExecutor()
        self._limited_threads = thread_pools.LimitedThreads()
        self._lookup_threads = thread_pools.LookupThreads()
        self._pools: list[thread_pools.LoopExecutor] = []
        self._pools += (self._executor, self._limited_threads, self._lookup_threads)
        # The limiter of to_thread(); None until the program asks for it.
        self._thread_limiter: Limiter | None = None
        # For the slow-callback watch: whether the loop waits.
        self._waiting = False
        # Runs the turns in the place of _run_turns(), or None: see ``runtime.simulation``.
        self._turn_runner: TurnRunner | None = None
        self._slow_watch: SlowCallbackWatch | None = None
        # For ``metrics``: connections that servers have accepted, and the bytes that passed through
        # the sockets of connections.
        self._accepted = 0
        self._bytes_received = 0
        self._bytes_sent = 0
        # Whether the run ends when the loop is idle, and the threads that existed at its start.
        self._until_idle = False
        self._threads_before: list[threading.Thread] = []
        # The last ``_coroutine_meter``, whose figures are still shown when it is off.
        self._measured: CoroutineMeter | None = None
        # Collects garbage when the loop would wait, or None (the default).
        self._idle_collector: IdleCollector | None = None
        # Threads of other loops that are idle while this loop runs, and so never wake it.
        self._idle_threads: list[threading.Thread] = []
        # The native identifiers of the threads at the start that ``threading`` does not know.
        self._unknown_before: set[int] = set()
        # The tasks that the end of the run has cancelled.
        self._ending: set[Any] = set()
        # Threads that observe the loop and never wake it.
        self._watching_threads: list[threading.Thread] = []
        self._reports_deadlocks: bool | None = None  # None: only in debug mode.
        self._debug = debug_mode.debug_by_default()
        if os.environ.get(_TOOLS_VARIABLE, "0") not in {"", "0"}:
            self._copy_tasks()
        self._choose_turns()
        show_tasks_of(self)

    # -- Futures and tasks -------------------------------------------------------------------------

    def create_future(self) -> Future[Any]:
        """Return a new future of this loop."""
        future = _bare_future(_Future)
        init_future(future, self)
        return future

    def _sleep_future(self, delay: float) -> SleepFuture:
        """Return a future that ends with None after ``delay`` seconds, to be awaited once."""
        self._check_open()
        return SleepFuture(self, self.time() + delay)

    def create_task(
        self, coro: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], **options: Any
    ) -> Task[Any]:
        """Run a coroutine concurrently; return its task.

        The options are those of ``runtime.create_task``. A task factory gets all of them except
        ``daemon``, unchanged. Raises TypeError for an unknown option if there is no task factory,
        and RuntimeError if the loop is closed.
        """
        if self._refusal is not None or self._debug:
            self._check_new_task(coro)
        factory = self._task_factory
        if factory is not None:
            factory_task: Task[Any] = call_factory(factory, self, coro, options)
            return factory_task
        task = _bare_task(_Task)
        if options:
            name, context, eager_start = take_options(options)
            init_task(task, coro, self, name, context, eager_start)
        else:
            init_task(task, coro, self, None, None, False)
        return task

    def _check_new_task(self, coro: Any) -> None:
        try:
            self._check_open()
            self._check_thread()
        except RuntimeError:
            # Close the coroutine, so that no warning follows that it was never awaited.
            if hasattr(coro, "close"):
                coro.close()
            raise

    def set_task_factory(self, factory: TaskFactory | None) -> None:
        """Set the function that creates tasks: ``factory(loop, coro, **options)``.

        ``options`` are the keyword arguments of ``create_task``: ``name``, ``context``,
        ``eager_start``, and any others. A factory whose signature has no ``name`` is called without
        it, and the task is named afterwards, as asyncio did up to Python 3.13. None restores the
        default. Raises TypeError if ``factory`` is neither callable nor None.
        """
        if factory is not None and not callable(factory):
            raise TypeError(f"a task factory must be a callable or None, got {factory!r}")
        self._task_factory = factory

    def get_task_factory(self) -> TaskFactory | None:
        """Return the task factory that was set, or None."""
        return self._task_factory

    # -- Running -----------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until ``stop()`` is called.

        If a signal handler raises, at whatever moment, the loop is afterwards either running or
        not: everything that marks it as the running loop is set, or everything is reset.
        """
        self._check_open()
        self._check_not_running()
        asyncgens = self._async_generators()
        thread_id = threading.get_ident()
        hooks = sys.get_asyncgen_hooks()
        # The descriptor that was set for signals before; an empty list if none can be set here.
        wakeup_fds: list[int] = []
        try:
            self._thread_id = thread_id
            running_loops[thread_id] = self
            asyncio._set_running_loop(self)  # type: ignore[arg-type]
            _set_asyncgen_hooks(asyncgens.on_first_iteration, asyncgens.on_dropped)
            # The recovery after the last run may have been interrupted itself.
            self._recover_queue()
            # An interrupted _wake() may have set the flag without having written the byte.
            self._forget_wakeup()
            self._poller.begin_run()
            if self._idle_collector is not None:
                self._idle_collector.begin_run()
            try:
                # A single call in C, so that the result is stored before a signal handler can run.
                wakeup_fds.extend(map(signals.set_wakeup_fd, (self._wakeup_fd(),)))
            except ValueError:
                pass  # Not the main thread, or an interpreter without signals.
            # Each of these functions runs at least one turn, even if stop() was called before. It
            # returns when the loop is stopped, or when another one is to run the turns. The order
            # decides between them. A simulation, which lasts as long as its loop, runs all turns
            # itself. Debug mode times each step, so nothing is sampled meanwhile; it records as
            # well. While a recording lasts, copies of the tasks are not updated. A sample is begun
            # only if none of the others is wanted. The usual turns test `_watched` for all of them.
            while True:
                if self._turn_runner is not None:
                    self._turn_runner.run_turns(self)
                elif self._debug:
                    debug_mode.run_with_origin_tracking(run_timed_turns, self, collect)
                elif self._recorder is not None:
                    self._recorder.run_turns(self)
                elif self._copies is not None or self._coroutine_meter is not None:
                    run_timed_turns(self, collect)
                elif self._sampled_turns:
                    run_sampled_turns(self, collect)
                else:
                    _run_turns(self)
                if self._stopping:
                    break
            self._check_not_forked()
        except BaseException as error:
            if isinstance(error, Exception):
                # A fork empties the ready queue of the child, and takes its selector away.
                self._check_not_forked()
            recover_tasks(self)
            if self._recorder is not None:
                self._recorder.dump(type(error).__name__)
            raise
        finally:
            # A signal handler may raise here as well, but only after a call of a C function, or
            # when a Python function begins. So there is no call before the first of these blocks,
            # and every step that must follow a call has a block of its own.
            self._stopping = False
            self._thread_id = 0
            if thread_id in running_loops:
                del running_loops[thread_id]
            try:
                leave_task(self)
            except BaseException:
                leave_task(self)
                raise
            finally:
                try:
                    self._poller.writers.open = False
                    # An exception may have left the loop in the middle of a turn.
                    self._poller.writers.send()
                    self._poller.end_run()
                    if self._idle_collector is not None:
                        self._idle_collector.end_run()
                finally:
                    try:
                        asyncio._set_running_loop(None)
                    finally:
                        try:
                            _set_asyncgen_hooks(*hooks)
                        finally:
                            if wakeup_fds:
                                try:
                                    signal.set_wakeup_fd(wakeup_fds[0])
                                except (OSError, ValueError):
                                    signal.set_wakeup_fd(-1)  # That descriptor was closed.

    def _check_not_running(self) -> None:
        if self._thread_id:
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "Cannot run the event loop while another loop is running in this thread: "
                "await the coroutine, or run it in a thread of its own"
            )

    def run_until_complete(self, future: Any) -> Any:
        """Run until ``future`` is done; return its result. A coroutine is run as a new task.

        Raises the exception of the future, or RuntimeError if the loop is stopped before its end.
        """
        self._check_open()
        self._check_not_running()
        is_new_task = not asyncio.isfuture(future)
        if is_new_task:
            future = self._task_of(future)
        elif future.get_loop() is not self:
            raise ValueError(f"{future!r} belongs to a different event loop than {self!r}")
        try:
            future.add_done_callback(_stop_when_done)
            self.run_forever()
        except BaseException as raised:
            if is_new_task:
                # The caller gets this exception, and never sees the task.
                report_unraised(self, future, raised)
            raise
        finally:
            try:
                self._remove_stop_callback(future)
            except BaseException:
                self._remove_stop_callback(future)  # A signal handler raised.
                raise
        if not future.done():
            error = RuntimeError("Event loop stopped before Future completed.")
            error.add_note(f"It is {future!r}.")
            raise error
        try:
            return future.result()
        finally:
            # The future holds its exception, whose traceback holds this frame: break the cycle.
            del future

    def _remove_stop_callback(self, future: Any, callback: Any = _stop_when_done) -> None:
        """Remove the callback that stops the loop, so that ``future`` does not stop a later run."""
        future.remove_done_callback(callback)
        for runnable in list(self._ready):
            if isinstance(runnable, Handle) and runnable._callback is callback:
                runnable.cancel()

    def _own_threads(self) -> list[threading.Thread]:
        """Return the threads that the loop owns; they never wake it while it is idle."""
        from runtime.kernel.threads.observers import observers

        of_pools = [thread for pool in self._pools for thread in pool.threads()]
        threads = [*of_pools, *self._idle_threads, *self._watching_threads, *observers]
        return threads if self._slow_watch is None else [*threads, self._slow_watch.thread]

    # The module for idleness is imported here, because most programs do without it.

    def _is_idle(self) -> bool:
        """Return whether a run with ``until="idle"`` is to end."""
        from runtime.kernel.lifetime.idle import is_idle

        return is_idle(self, self._own_threads(), self._threads_before, self._unknown_before)

    def _checked_wait(self, timeout: float) -> float:
        """Return how long to wait: see ``idle.checked_wait``."""
        from runtime.kernel.lifetime.idle import checked_wait

        return checked_wait(self, self._own_threads(), timeout, not self._until_idle)

    def _task_of(self, awaitable: Any) -> Any:
        if asyncio.iscoroutine(awaitable) or not hasattr(awaitable, "__await__"):
            return self.create_task(awaitable)
        return self.create_task(await_it(awaitable))

    def stop(self) -> None:
        """Make ``run_forever`` return at the end of this turn, or of the next one it runs."""
        self._stopping = True

    def is_running(self) -> bool:
        """Return whether the loop is running."""
        return self._thread_id != 0

    def get_debug(self) -> bool:
        """Return whether debug mode is on."""
        return self._debug

    def set_debug(self, enabled: object) -> None:
        """Turn debug mode on or off: creation sites, thread checks, slow-callback reports."""
        self._debug = bool(enabled)
        self._choose_turns()

    def _choose_turns(self) -> None:
        """Note whether turns are to be run by one of the slower functions."""
        self._watched_always = (
            self._debug
            or self._copies is not None
            or self._recorder is not None
            or self._coroutine_meter is not None
        )
        self._watched = self._watched_always or self._sampled_turns > 0

    def _begin_sample(self) -> None:
        """Have the durations of the next turns measured, unless these are watched anyway."""
        every = self._sampler.every
        self._sample_at = self._turns + every if every else _NO_SAMPLES
        if every and not self._watched:
            self._sampled_turns = SAMPLED_TURNS
            self._watched = True

    def set_deadlock_reports(self, enabled: object) -> None:
        """Choose whether a run in which no task can ever run again ends with DeadlockError.

        Otherwise the loop continues waiting. None, the default, means in debug mode only. Turn the
        reports off if one appears although a thread of a C library would wake the loop.
        """
        self._reports_deadlocks = None if enabled is None else bool(enabled)

    def join_all_writes(self, enabled: object = True) -> None:
        """Have new connections and pipes send what they write in a turn when the turn ends.

        Otherwise the first write of a turn is sent at once, except by a connection that has just
        written several times in one turn. A server that answers many connections in a turn, each of
        them with one write, takes less CPU time with this: their peers are woken together, and not
        one by one. In return a response waits for the steps that follow it in its turn: for half a
        millisecond, or until the one that runs then has ended. Code that writes and then blocks the
        loop until the peer answers waits for ever. ``await writer.drain()`` sends before that.

        Connections and pipes that exist still begin with a turn in which they write several times,
        and then join all writes as well. With a false argument new ones begin as usual again, and
        each of the others returns to it with its next turn in which it writes once. To be called in
        the loop's thread.

        >>> import runtime
        >>> async def main() -> None:
        ...     runtime.get_running_loop().join_all_writes()
        >>> runtime.run(main())
        """
        self._poller.writers.all = bool(enabled)

    def get_external_inspection(self) -> bool:
        """Return whether tools that read the memory of the process see the loop's tasks."""
        return self._copies is not None

    def set_external_inspection(self, enabled: object) -> None:
        """Choose whether tools that read the memory of the process see the loop's tasks.

        These tools are ``python -m asyncio ps`` and ``pstree``, and the ``--async-aware`` mode of
        the sampling profiler, of Python 3.14 and later. They find our tasks through copies, which
        the loop updates each time that it is about to wait, at a cost that grows with the number of
        tasks. The environment variable ``RUNTIME_ASYNCIO_TOOLS=1`` turns this on for all new loops.
        Before 3.14 there are no such tools, and nothing happens. To be called in the loop's thread.
        """
        if bool(enabled) and self._copies is None:
            self._copy_tasks()
        elif not enabled and self._copies is not None:
            self._copies.clear()
            self._copies = None
        self._choose_turns()

    def _copy_tasks(self) -> None:
        """Make copies of the tasks for external tools, if there are such tools."""
        from runtime.kernel.compat.external_tools import AVAILABLE, TaskCopies

        if AVAILABLE:
            self._copies = TaskCopies(self)

    # -- Descriptors -------------------------------------------------------------------------------

    def add_reader(self, fd: FileDescriptor, callback: Callable[..., object], *args: Any) -> Handle:
        """Call ``callback(*args)`` whenever ``fd`` is readable, replacing an earlier reader.

        ``fd`` is a descriptor or an object with ``fileno()``. Returns the handle. Raises
        RuntimeError if a task waits until the descriptor is readable, or a stream or a transport
        uses it, ValueError if the object is closed, and OSError if the descriptor cannot be
        watched, as that of a regular file.
        """
        return descriptors.add_reader(self, fd, callback, args)

    def remove_reader(self, fd: FileDescriptor) -> bool:
        """Stop watching ``fd`` for reading. Returns whether it was being watched.

        A socket or file object that was closed since ``add_reader`` is accepted as well. Raises
        RuntimeError if a stream or a transport uses the descriptor.
        """
        return descriptors.remove_reader(self, fd)

    def add_writer(self, fd: FileDescriptor, callback: Callable[..., object], *args: Any) -> Handle:
        """Call ``callback(*args)`` whenever ``fd`` is writable, replacing an earlier writer.

        ``fd`` is a descriptor or an object with ``fileno()``. Returns the handle. Raises
        RuntimeError if a task waits until the descriptor is writable, or a stream or a transport
        uses it, ValueError if the object is closed, and OSError if the descriptor cannot be
        watched, as that of a regular file.
        """
        return descriptors.add_writer(self, fd, callback, args)

    def remove_writer(self, fd: FileDescriptor) -> bool:
        """Stop watching ``fd`` for writing. Returns whether it was being watched.

        A socket or file object that was closed since ``add_writer`` is accepted as well. Raises
        RuntimeError if a stream or a transport uses the descriptor.
        """
        return descriptors.remove_writer(self, fd)

    # -- Threads -----------------------------------------------------------------------------------

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[..., Any], *args: Any
    ) -> Future[Any]:
        """Call ``func(*args)`` in ``executor``; return a future for the result.

        None stands for the loop's default executor, a pool of threads. Cancelling the future keeps
        the call from starting; a call that has started continues, and its result is dropped.
        """
        self._check_open()
        if self._debug:
            check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._executor.get()
        return thread_pools.submit(self, executor, func, args)

    def set_default_executor(self, executor: concurrent.futures.ThreadPoolExecutor) -> None:
        """Set the ThreadPoolExecutor that ``run_in_executor(None, ...)`` uses.

        Raises TypeError for any other object.
        """
        self._executor.replace(executor)

    def _look_up(self, func: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call ``func(*args)``, which resolves a host name, in the thread pool for lookups."""
        self._check_open()
        return thread_pools.submit(self, self._lookup_threads.get(), func, args)

    def _begin_executor_shutdown(self) -> tuple[threading.Thread, Future[Any]] | None:
        """Begin to shut down the thread pools: see ``executor.begin_shutdown``."""
        return thread_pools.begin_shutdown(self, self._pools)

    def watch_slow_callbacks(self, threshold: Seconds | None = 0.1) -> None:
        """Log a warning with the running line when a turn takes over ``threshold`` seconds.

        A thread watches the loop, so that this costs next to nothing, unlike debug mode. None ends
        the watch. Raises ValueError if the threshold is not positive.
        """
        if self._slow_watch is not None:
            self._slow_watch.stop()
            self._slow_watch = None
        if threshold is not None:
            self._check_open()
            number = seconds(threshold, "watch_slow_callbacks()")
            # Imported here: most programs do without it, and it needs much.
            from runtime.kernel.diagnostics.slow_callbacks import SlowCallbackWatch

            self._slow_watch = SlowCallbackWatch(self, number)

    # -- Ending ------------------------------------------------------------------------------------

    def _async_generators(self) -> AsyncGenerators:
        """Return the register of the asynchronous generators that the loop has started."""
        asyncgens = self._asyncgens
        if asyncgens is None:
            asyncgens = self._asyncgens = AsyncGenerators(self)
        return asyncgens

    def close(self) -> None:
        """Close the loop and its descriptors; callbacks and tasks that are still queued never run.

        Closing twice is fine. Raises RuntimeError if the loop is running.
        """
        if self._thread_id:
            raise RuntimeError("Cannot close a running event loop")
        if self._released:
            return
        # Do not report pending tasks again: at the end of the interpreter a finalizer closes the
        # loop, and has warned already.
        is_silent = _is_finalizing() or self._refusal is not None
        pending = [] if is_silent else list(self._tasks)
        try:
            if self._refusal is None:
                self.watch_slow_callbacks(None)
                self.set_external_inspection(False)
                if self._recorder is not None:
                    self._recorder.stop()
                for pool in self._pools:
                    pool.close()
        finally:
            try:
                self._release_all()
            except BaseException:
                self._release_all()  # A signal handler raised.
                raise
        # Last, because the exception handler may raise, or call the loop.
        for task in pending:
            self._report_pending(task)

    def _release_all(self) -> None:
        self._tasks.clear()
        self._external_work.clear()
        if self._refusal is None:
            self._refuse_work(_CLOSED)
        self._release()
        self._released = True

    def _abandon(self) -> None:
        """Close the descriptors of a loop whose initialisation was interrupted.

        Such a loop is part of a reference cycle, so that its descriptors would otherwise stay open
        until the garbage collector runs.
        """
        self._refusal = _CLOSED
        self._release(abandoned=True)
        self._released = True

    def _report_pending(self, task: TaskCore) -> None:
        if task._log_destroy_pending:
            context: dict[str, Any] = {
                "message": "Task was destroyed but it is pending!",
                "task": task,
            }
            if task._source_traceback is not None:
                context["source_traceback"] = task._source_traceback
            self.call_exception_handler(context)

    def _before_fork(self) -> None:
        """Send the data that was written in the current turn: the child must not send it too."""
        self._poller.writers.send()

    def _forked(self) -> None:
        """Stop the loop, if it is running, in the child of a fork: it belongs to the parent."""
        if self._thread_id:
            from runtime.kernel.lifetime.forks import leave_in_child

            leave_in_child(self)

    def _check_not_forked(self) -> None:
        """Raise RuntimeError in the child of a process that forked while the loop was running."""
        if self._refusal == FORKED:
            raise RuntimeError(FORKED)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} closed={self.is_closed()} "
            f"debug={self._debug}>"
        )


def _run_turns(loop: LoopCore) -> None:
    """Run turns until the loop is stopped, or debug mode is turned on."""
    ready = loop._ready
    popleft: Callable[[], Any] = ready.popleft
    poller = loop._poller
    writers = poller.writers
    timers = loop._timers
    runnable: Any
    while True:
        count = len(ready)
        if (
            count
            and poller.skips
            and count <= FEW_ENTRIES
            and timers.lone is None
            and not (timers.fresh or timers.heap or timers.ordered)
            and not (loop._has_inbound or loop._until_idle)
        ):
            # A shortcut for collect(), which has neither a timer to look at nor a poll to make.
            poller.skips -= 1
            loop._turns += 1
        else:
            collect(loop)
            count = len(ready)
            if writers.any:
                writers.end_step()
        # Not "_": compiled code makes an object of its value.
        for _entry in range(count):
            runnable = popleft()
            # The two usual types, exactly: whether it is a subclass takes a search of its bases.
            kind = type(runnable)
            if kind is _Task:
                step(runnable)
            elif kind is _Handle:
                if loop._current is not None:
                    leave_task(loop)
                Handle._run(runnable)
            else:
                run_unusual(loop, runnable)
            if writers.any:
                writers.end_step()
        runnable = None  # Do not keep a finished object alive while the loop waits.
        # As end_turn() does, whose call would cost half a percent of a switch between tasks.
        if loop._current is not None:
            leave_task(loop)
        if writers.any:
            writers.send()
        if loop._stopping or loop._watched:
            return


def run_unusual(loop: LoopCore, runnable: Runnable) -> None:
    """Run an entry of the ready queue that is neither a plain handle nor exactly a ``Task``."""
    # Tasks first: if the answer is no, isinstance() also looks up __class__, which costs.
    if isinstance(runnable, TaskCore):
        step(runnable)
    else:
        if loop._current is not None and isinstance(runnable, Handle):
            leave_task(loop)
        runnable._run()


def collect(loop: LoopCore) -> None:
    """Begin a turn: wait for events, deliver them, and queue the timers that are due."""
    timers = loop._timers
    if loop._has_inbound:
        loop._take_inbound()
    if loop._until_idle and loop._is_idle():
        loop._until_idle = False
        loop._stopping = True
    if loop._ready or loop._stopping:
        loop._poller.poll_when_busy(len(loop._ready))
    elif (
        timers.lone is not None
        and not loop._until_idle
        and timers.only_lone_is_due(now := loop.time())
    ):
        # The turn has an entry to run, so that it does not wait either.
        loop._poller.poll_when_busy(1)
        timers.pop_due(now, loop._ready_append)
    else:
        if timers.fresh or timers.lone is not None:
            timers.merge()
        timeout = timers.wait_time(loop.time()) if timers.heap or timers.ordered else -1.0
        if loop._until_idle or (
            timeout < 0
            and (loop._debug if loop._reports_deadlocks is None else loop._reports_deadlocks)
        ):
            timeout = loop._checked_wait(timeout)
        if loop._idle_collector is not None and timeout != 0.0:
            loop._idle_collector.collect_if_due()
        if loop._poller.writers.any:
            # A finalizer or a signal handler has written since the end of the last turn.
            loop._poller.writers.send()
        loop._waiting = True
        try:
            # A signal handler or a finalizer may have queued a callback, or set a timer, since the
            # timeout was computed. From here on the wake-up of a signal ends the wait.
            if loop._ready or timers.fresh or timers.lone is not None:
                timeout = 0.0
            loop._poller.poll(timeout)
        finally:
            loop._waiting = False
    loop._turns += 1
    if loop._turns >= loop._sample_at:
        loop._begin_sample()
    if timers.lone is not None or timers.heap or timers.ordered or timers.fresh:
        timers.pop_due(loop.time(), loop._ready_append)

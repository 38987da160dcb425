"""``Loop``, the public event loop: it joins the kernel, the network and the system."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import threading
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from operator import call
from selectors import BaseSelector
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, TypeVar, TypeVarTuple, cast

from runtime.kernel.api import running
from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.arguments.seconds import seconds as number_of_seconds
from runtime.kernel.diagnostics.step_sampler import sampling_of
from runtime.kernel.handles import Handle
from runtime.kernel.lifetime.asyncgens import cancelling_tasks_in
from runtime.kernel.public_types import Future, Task
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.timers import TimerHandle
from runtime.net import lazy
from runtime.net.network_loop import NetworkLoop
from runtime.system.system_loop import SystemLoop

_CLOCK: Final[Any] = vars(Scheduler)["time"]
"""The attribute that holds the clock of every loop whose class does not override ``time``."""

_PATIENCE: Final = 1.0
"""Seconds for which ``shutdown_asyncgens`` waits for cancelled tasks to end their generators."""

_TOO_LATE: Final = object()
"""The outcome of the wait for the threads of the executors after the timeout."""

T = TypeVar("T")
LoopT = TypeVar("LoopT", bound="Loop")
Ts = TypeVarTuple("Ts")


class Loop(NetworkLoop, SystemLoop, Uncopyable, asyncio.AbstractEventLoop):  # type: ignore[misc]
    """An event loop, which is also an ``asyncio.AbstractEventLoop``.

    ``selector`` is a ``selectors.BaseSelector``, by default a new ``DefaultSelector``; the loop
    closes it. ``clock()`` returns the time in seconds, and is ``time.monotonic`` by default.
    """

    def __init__(
        self, selector: BaseSelector | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        try:
            super().__init__(selector, clock)
            if type(self).time is not _CLOCK:
                # A subclass overrides the method time(). When interpreted, the layers below have
                # then assigned the clock to an attribute of the instance, which hides the method.
                vars(self).pop("time", None)
                _CLOCK.__set__(self, _OverriddenTime(self, clock))
        except BaseException:
            self._abandon()
            raise

    # -- Types -------------------------------------------------------------------------------------

    # Signatures for type checkers, with type variables that compiled methods cannot have. They are
    # compatible with asyncio's, except that they return runtime's futures, tasks and handles.

    if TYPE_CHECKING:

        def create_task(  # type: ignore[override]
            self,
            coro: Coroutine[Any, Any, T] | Generator[Any, Any, T],
            *,
            name: object = None,
            context: Context | None = None,
            eager_start: bool | None = None,
            daemon: bool | None = None,
            **options: Any,
        ) -> Task[T]:
            """Run a coroutine concurrently; return its task."""

        def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
            """Run until ``future`` is done; return its result."""

        def run_in_executor(  # type: ignore[override]
            self,
            executor: concurrent.futures.Executor | None,
            func: Callable[[*Ts], T],
            *args: *Ts,
        ) -> Future[T]:
            """Call ``func(*args)`` in a thread, or wherever ``executor`` runs it."""

        def call_soon(  # type: ignore[override]
            self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
        ) -> Handle:
            """Call ``callback(*args)`` in the next turn of the loop."""

        def time(self) -> float:
            """Return the time on the loop's clock, in seconds from an arbitrary start.

            A subclass may override the method, and a test may assign another function: the timers
            follow that clock.
            """

        @property
        def slow_callback_duration(self) -> float:
            """The duration, in seconds, from which debug mode reports a callback as slow.

            It can be set, to any real number.
            """

        @slow_callback_duration.setter
        def slow_callback_duration(self, value: Seconds) -> None: ...

        def call_soon_threadsafe(  # type: ignore[override]
            self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
        ) -> Handle:
            """Call ``callback`` in a later turn, like ``call_soon``; callable from any thread."""

        def call_later(  # type: ignore[override]
            self,
            delay: Seconds,
            callback: Callable[[*Ts], object],
            *args: *Ts,
            context: Context | None = None,
        ) -> TimerHandle:
            """Call ``callback(*args)`` after ``delay`` seconds."""

        def call_at(  # type: ignore[override]
            self,
            when: Seconds,
            callback: Callable[[*Ts], object],
            *args: *Ts,
            context: Context | None = None,
        ) -> TimerHandle:
            """Call ``callback(*args)`` at ``when``, in seconds on the loop's clock."""

    # -- Running -----------------------------------------------------------------------------------

    def run_until_idle(self) -> bool:
        """Run until the loop is idle, and return True; return False when ``stop()`` was called.

        The loop is not idle as long as something is ready, a timer is set, a descriptor or a signal
        is watched, a call runs in an executor, or a thread is alive that was started during the run
        and is either no daemon thread, or belongs to a C library and may wake a task.

        Work that only daemon tasks wait for does not count, unless there are other tasks besides,
        which a daemon task may still wake. Tasks that still wait when the loop is idle are left as
        they are.
        """
        from runtime.kernel.threads.unknown_threads import unknown_threads

        self._threads_before = threading.enumerate()
        self._unknown_before = unknown_threads() or set()
        self._until_idle = True
        try:
            self.run_forever()
            return not self._until_idle
        finally:
            self._until_idle = False
            self._threads_before = []
            self._unknown_before = set()

    # -- Observation -------------------------------------------------------------------------------

    def metrics(self) -> lazy.LoopMetrics:
        """Return a snapshot of the loop's counters and histograms. May be called in any thread.

        The loop keeps them always. The first call in the process also begins to measure the pauses
        of the garbage collector.

        >>> import runtime
        >>> async def main() -> None:
        ...     await runtime.sleep(0.01)
        ...     found = runtime.get_running_loop().metrics()
        ...     print(found.tasks_alive, found.timers, found.waiting > 0.005)
        >>> runtime.run(main())
        1 0 True
        """
        # Imported here: most programs do without it.
        from runtime.kernel.api.metrics import metrics_of

        return metrics_of(self)

    def set_step_sampling(self, every: SupportsIndex) -> None:
        """Choose how often the steps of tasks and the callbacks are timed for ``metrics()``.

        Of ``every`` turns two are timed, by default of 512; 0 times none. Raises TypeError unless
        ``every`` is an integer, and ValueError if it is negative.

        >>> import runtime
        >>> loop = runtime.new_event_loop()
        >>> loop.set_step_sampling(16)
        >>> loop.close()
        """
        self._sampler.every = sampling_of(every)
        self._sample_at = self._turns

    def measure_coroutines(self, enabled: object = True) -> None:
        """Choose whether the steps of tasks are measured by the names of their coroutines.

        ``metrics().coroutines`` then says how often the tasks of each coroutine function ran, their
        CPU time, and how long they waited. This costs some microseconds for each step, and nothing
        while it is off, which is the default. While it is on, ``steps``, ``callbacks`` and
        ``ready_wait`` get no samples. An eager first step belongs to the task that makes it. When
        it is turned off, the figures stay as they are. To be called in the loop's thread. Raises
        RuntimeError if the loop is closed.

        >>> import runtime
        >>> async def serve() -> None:
        ...     await runtime.sleep(0)
        >>> async def main() -> None:
        ...     loop = runtime.get_running_loop()
        ...     loop.measure_coroutines()
        ...     await runtime.sleep(0)
        ...     await runtime.gather(serve(), serve())
        ...     for each in loop.metrics().coroutines:
        ...         if each.name == "serve":
        ...             print(each.tasks, "tasks,", each.steps, "steps,", each.cpu > 0)
        >>> runtime.run(main())
        2 tasks, 4 steps, True
        """
        if enabled:
            from runtime.kernel.diagnostics.coroutine_meter import CoroutineMeter
            from runtime.kernel.task import step

            self._check_open()
            if self._measured is None:
                self._measured = CoroutineMeter(step)
            self._measured.resume()
            self._coroutine_meter = self._measured
        elif self._coroutine_meter is not None:
            self._coroutine_meter.pause()
            self._coroutine_meter = None
        self._choose_turns()

    def record(self, seconds: Seconds = 30.0, events: SupportsIndex = 65536) -> lazy.Recording:
        """Record what the loop does from now on: its last events, in a ring of fixed size.

        The recording keeps up to ``events`` events, of 32 bytes each, and gives those of the last
        ``seconds``. It costs a few percent of the work of the loop, and nothing once it is stopped.
        Raises RuntimeError if the loop is closed or is being recorded, ValueError unless
        ``seconds`` is positive and ``events`` from 1 to 2**24, and TypeError for other types. To be
        called in the loop's thread.

        >>> import runtime
        >>> async def main() -> None:
        ...     recording = runtime.get_running_loop().record()
        ...     await runtime.create_task(runtime.sleep(0), name="sleeper")
        ...     recording.stop()
        ...     print({event.name for event in recording.events() if event.kind == "ended"})
        >>> runtime.run(main(), debug=False)
        {'sleeper'}
        """
        from runtime.kernel.diagnostics.recorder import Recording, events_of
        from runtime.kernel.recorded_turns import run_recorded_turns

        self._check_open()
        if self._recorder is not None:
            raise RuntimeError(f"{self!r} is being recorded: stop() the other recording first")
        duration = number_of_seconds(seconds, "record()")
        if not duration > 0:
            raise ValueError(f"record() expected a positive number of seconds, got {duration!r}")
        self._recorder = Recording(self, duration, events_of(events), run_recorded_turns)
        self._choose_turns()
        return self._recorder

    def collect_when_idle(
        self, enabled: object = True, *, most: SupportsIndex = 100_000, freeze: object = False
    ) -> None:
        """Collect garbage when the loop would wait, and not in the middle of a request.

        While the loop runs, automatic collections are off in the whole process. A collection that
        is due is made when the loop is about to wait, or between two turns if more than ``most``
        containers were allocated since the last one, and not deallocated. With ``freeze``, a full
        collection is made now, and all objects that exist are left out of further ones: call this
        when the program has started. Raises ValueError unless ``most`` is positive, and TypeError
        unless it is an integer. To be called in the loop's thread.

        >>> import gc, runtime
        >>> async def main() -> None:
        ...     runtime.get_running_loop().collect_when_idle()
        ...     print(gc.isenabled())
        >>> runtime.run(main())
        False
        >>> gc.isenabled()
        True
        """
        from runtime.kernel.lifetime.idle_collector import IdleCollector, allocations_of

        number = allocations_of(most)
        self._check_open()
        if self._idle_collector is not None:
            self._idle_collector.end_run()
        self._idle_collector = IdleCollector(number) if enabled else None
        collector = self._idle_collector
        self._poller.on_tick = None if collector is None else collector.collect_if_late
        if collector is not None:
            if freeze:
                gc.collect()
                gc.freeze()
            if self._thread_id:
                collector.begin_run()

    # -- Ending ------------------------------------------------------------------------------------

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that are not finished; warn about any started later.

        All of them are closed concurrently, including those that are started meanwhile. Generators
        that the program dropped before, and that are being closed already, are waited for. A
        generator whose task is being cancelled is left to that task for up to a second. Exceptions
        of the generators are reported to the exception handler.
        """
        await self._close_asyncgens()
        self._async_generators().mark_shut_down()

    async def _close_asyncgens(self) -> None:
        """Close the generators like ``shutdown_asyncgens``; do not warn about any started later."""
        asyncgens = self._async_generators()
        current = asyncio.current_task()
        while True:
            running: list[AsyncGenerator[Any, Any]] = []
            for generator in asyncgens.take_all():
                asyncgens.close_in_task(self._close_asyncgen(generator, running))
            closing = asyncgens.closing() - {current}
            if not closing:
                return
            await self._ended(closing)
            cancelled = cancelling_tasks_in(asyncio.all_tasks(self) - {current}, running)
            if cancelled:
                await asyncio.wait(cancelled, timeout=_PATIENCE)
            for generator in running:
                await self._close_asyncgen(generator, None)

    async def _close_asyncgen(
        self,
        generator: AsyncGenerator[Any, Any],
        running: list[AsyncGenerator[Any, Any]] | None,
    ) -> None:
        """Close a generator; add it to ``running`` instead if it is running already.

        It is running if another generator that iterates it is being closed: that one was started
        earlier, and is therefore closed earlier. With None for ``running`` it is closed in any
        case, and the error that this causes is reported.
        """
        try:
            if running is not None and generator.ag_running:  # type: ignore[attr-defined]
                running.append(generator)
            else:
                await generator.aclose()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler(
                {
                    "message": "an error occurred during closing of asynchronous generator "
                    f"{generator!r}",
                    "exception": error,
                    "asyncgen": generator,
                }
            )

    async def _ended(self, tasks: set[Any]) -> None:
        """Wait until tasks have ended, with a result or not; cancel them if this is cancelled."""
        try:
            for task in tasks:
                if not task.done():
                    ended = self.create_future()
                    task.add_done_callback(functools.partial(_finish, ended))
                    await ended
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise

    async def shutdown_default_executor(self, timeout: Seconds | None = None) -> None:
        """Wait for the default executor's threads to end, at most ``timeout`` seconds.

        The executor takes no more work. Neither does the thread pool for name resolution, whose
        threads are waited for as well. After the timeout a RuntimeWarning is issued, and the
        threads continue by themselves. With None there is no timeout.
        """
        shutdown = self._begin_executor_shutdown()
        if shutdown is None:
            return
        thread, done = shutdown
        expiry = None
        if timeout is not None:
            expiry = self.call_later(timeout, _note_timeout, done)
        try:
            # Its result is None if the threads have ended.
            is_too_late = await done is _TOO_LATE
        finally:
            if expiry is not None:
                expiry.cancel()
        if is_too_late:
            warnings.warn(
                "The executor did not finishing joining its threads within "
                f"{timeout} seconds; they are left to themselves",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            thread.join()

    def __del__(self) -> None:
        try:
            closed = self.is_closed()
        except AttributeError:
            return  # The handler of a signal raised before the loop was initialised.
        if not closed:
            warnings.warn(
                f"unclosed event loop {self!r}", ResourceWarning, stacklevel=2, source=self
            )
            if not self.is_running():
                self.close()


class _OverriddenTime:
    """The clock of a loop whose class has a method ``time`` of its own."""

    def __init__(self, loop: Loop, clock: Callable[[], float]) -> None:
        self._loop = weakref.ref(loop)
        self._clock = clock

    def __call__(self) -> float:
        loop = self._loop()
        # A test may have patched the class, and undone that since.
        if loop is None or type(loop).time is _CLOCK:
            return self._clock()
        return loop.time()


def _finish(ended: Future[None], task: object) -> None:
    if not ended.done():
        ended.set_result(None)


def _note_timeout(ended: Future[Any]) -> None:
    if not ended.done():
        ended.set_result(_TOO_LATE)


def new_event_loop() -> Loop:
    """Return a new event loop, which the caller closes."""
    return loop_from_factory(Loop)


def loop_from_factory(factory: Callable[[], LoopT]) -> LoopT:
    """Return the loop that ``factory()`` makes; close it if a signal handler raises meanwhile.

    A signal handler can raise after any call. A loop that was made, but not returned to the caller
    yet, would keep its descriptors open until the garbage collector finds it.
    """
    loops: list[LoopT] = []
    try:
        # A single call of C calls the factory and appends the loop to the list: no signal handler
        # can run between the two.
        loops.extend(map(call, (factory,)))
        return loops[0]
    except BaseException:
        for loop in loops:
            loop.close()
        raise


def get_running_loop() -> Loop:
    """Return the running loop of this thread. Raises RuntimeError if it is not one of runtime's."""
    return cast(Loop, running.get_running_loop())

"""``Loop``, the event loop that users hold: the kernel, the network and the system in one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from operator import call
from selectors import BaseSelector
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, cast

from runtime.kernel.api import running
from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.arguments.seconds import Seconds
from runtime.kernel.handles import Handle
from runtime.kernel.lifetime.asyncgens import tasks_that_end
from runtime.kernel.public_types import Future, Task
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.threads.unknown_threads import unknown_threads
from runtime.kernel.timers import TimerHandle
from runtime.net.network_loop import NetworkLoop
from runtime.system.system_loop import SystemLoop

_CLOCK: Final[Any] = vars(Scheduler)["time"]
"""The attribute of every loop that holds its clock, unless a class overrides it."""

_PATIENCE: Final = 1.0
"""Seconds that tasks which are being cancelled have to end the generators that they iterate."""

T = TypeVar("T")
LoopT = TypeVar("LoopT", bound="Loop")
Ts = TypeVarTuple("Ts")


class Loop(NetworkLoop, SystemLoop, Uncopyable, asyncio.AbstractEventLoop):  # type: ignore[misc]
    """An event loop, which is also an ``asyncio.AbstractEventLoop``.

    ``selector`` is a ``selectors.BaseSelector``, by default a new ``DefaultSelector``; ``clock``
    returns seconds, and is ``time.monotonic`` by default.
    """

    def __init__(
        self, selector: BaseSelector | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        try:
            super().__init__(selector, clock)
            if type(self).time is not _CLOCK:
                # The interpreted layers below have assigned it to what is not their attribute then.
                vars(self).pop("time", None)
                _CLOCK.__set__(self, _OverriddenTime(self, clock))
        except BaseException:
            self._abandon()
            raise

    # -- Types -------------------------------------------------------------------------------------

    # What type checkers are told, and compiled methods cannot say. asyncio's methods return its own
    # futures, tasks and handles; for the rest these are compatible with them.

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

            A test may override it, or assign another function: the timers follow.
            """

        def call_soon_threadsafe(  # type: ignore[override]
            self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
        ) -> Handle:
            """As ``call_soon``, from any thread."""

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
        """Run until nothing can run any more, and return True; False when ``stop()`` was called.

        Something can run as long as something is ready, a timer is set, a descriptor or a signal is
        watched, a call runs in an executor, or a thread lives that was started meanwhile and is no
        daemon, or is a C library's and may wake a task. What only daemon tasks have to do with does
        not count, unless there are tasks that are none, and that a daemon may yet wake. What still
        waits then is left as it is.
        """
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

    # -- Ending ------------------------------------------------------------------------------------

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that are not finished; warn about any started later.

        All are closed at the same time, also those that are started meanwhile, and those that were
        dropped, and are being closed already. A generator whose task is being cancelled is left to
        that task for up to a second. What they raise is reported to the exception handler.
        """
        await self._close_asyncgens()
        self._async_generators().warn_from_now_on()

    async def _close_asyncgens(self) -> None:
        """As ``shutdown_asyncgens``, but do not warn about any started later."""
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
            cancelled = tasks_that_end(asyncio.all_tasks(self) - {current}, running)
            if cancelled:
                await asyncio.wait(cancelled, timeout=_PATIENCE)
            for generator in running:
                await self._close_asyncgen(generator, None)

    async def _close_asyncgen(
        self,
        generator: AsyncGenerator[Any, Any],
        running: list[AsyncGenerator[Any, Any]] | None,
    ) -> None:
        """Close a generator; add it to ``running`` instead if another closes it that iterates it.

        The other one was started before, and so is closed before.
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
        """Wait until tasks have ended, however; cancel them if the caller is cancelled."""
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

        It takes no more work, and neither does the pool for look-ups of names, whose threads are
        waited for as well. After the timeout a RuntimeWarning is issued, and the threads are
        left to themselves.
        """
        shutdown = self._begin_executor_shutdown()
        if shutdown is None:
            return
        thread, done = shutdown
        expiry = None
        if timeout is not None:
            expiry = self.call_later(timeout, done.cancel)
        try:
            await done
        except asyncio.CancelledError:
            if expiry is None or self.time() < expiry.when():
                raise
            warnings.warn(
                "The executor did not finishing joining its threads within "
                f"{timeout} seconds; they are left to themselves.",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        finally:
            if expiry is not None:
                expiry.cancel()
        thread.join()

    def __del__(self) -> None:
        try:
            closed = self.is_closed()
        except AttributeError:
            return  # The handler of a signal raised before it was initialised.
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
        # The class may have been patched, and put back since.
        if loop is None or type(loop).time is _CLOCK:
            return self._clock()
        return loop.time()


def _finish(ended: Future[None], task: object) -> None:
    if not ended.done():
        ended.set_result(None)


def new_event_loop() -> Loop:
    """Return a new event loop, which the caller closes."""
    return made_by(Loop)


def made_by(factory: Callable[[], LoopT]) -> LoopT:
    """Return the loop that ``factory()`` returns, or close it, if the handler of a signal raises.

    That can happen after any call. A loop that was made, and is not yet in the hands of the caller,
    would keep its descriptors open until the collector comes by.
    """
    made: list[LoopT] = []
    try:
        # One call of C, from the call of the factory to the note of the loop that it made.
        made.extend(map(call, (factory,)))
        return made[0]
    except BaseException:
        for loop in made:
            loop.close()
        raise


def get_running_loop() -> Loop:
    """Return the loop that runs in this thread. Raises RuntimeError when none of ours does."""
    return cast(Loop, running.get_running_loop())

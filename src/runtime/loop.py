"""``Loop``, the event loop that users hold: the kernel, the network and the system in one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from selectors import BaseSelector
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, cast

from runtime.kernel import running
from runtime.kernel.handles import Handle
from runtime.kernel.outside import unknown_threads
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.seconds import Seconds
from runtime.kernel.timers import TimerHandle
from runtime.kernel.types import Future, Task
from runtime.net.network_loop import NetworkLoop
from runtime.system.system_loop import SystemLoop

_CLOCK: Final[Any] = vars(Scheduler)["time"]
"""The attribute of every loop that holds its clock, unless a class overrides it."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Loop(NetworkLoop, SystemLoop, asyncio.AbstractEventLoop):  # type: ignore[misc]
    """An event loop, which is also an ``asyncio.AbstractEventLoop``.

    ``selector`` is a ``selectors.BaseSelector``, by default a new ``DefaultSelector``; ``clock``
    returns seconds, and is ``time.monotonic`` by default.
    """

    def __init__(
        self, selector: BaseSelector | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(selector, clock)
        if type(self).time is not _CLOCK:
            # The interpreted layers below have assigned it to what is not their attribute then.
            vars(self).pop("time", None)
            _CLOCK.__set__(self, _OverriddenTime(self, clock))

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
        self.threads_before = threading.enumerate()
        self.unknown_before = unknown_threads() or set()
        self.until_idle = True
        try:
            self.run_forever()
            return not self.until_idle
        finally:
            self.until_idle = False
            self.threads_before = []
            self.unknown_before = set()

    # -- Ending ------------------------------------------------------------------------------------

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that are not finished; warn about any started later.

        What they raise is reported to the exception handler.
        """
        for generator in self.asyncgens_to_close():
            try:
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

    async def shutdown_default_executor(self, timeout: Seconds | None = None) -> None:
        """Wait for the default executor's threads to end, at most ``timeout`` seconds.

        It takes no more work, and neither does the pool for look-ups of names, whose threads are
        waited for as well. After the timeout a RuntimeWarning is issued, and the threads are
        left to themselves.
        """
        shutdown = self.begin_executor_shutdown()
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
        if not self.is_closed():
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


def new_event_loop() -> Loop:
    """Return a new event loop, which the caller closes."""
    return Loop()


def get_running_loop() -> Loop:
    """Return the loop that runs in this thread. Raises RuntimeError when none of ours does."""
    return cast(Loop, running.get_running_loop())

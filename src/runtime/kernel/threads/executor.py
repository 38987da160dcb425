"""Thread pools of a loop: for blocking calls, for those that a limiter limits, for name lookups."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from runtime.kernel.daemons import ExternalWork
from runtime.kernel.public_types import Future
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.threads.concurrent_futures import follow_concurrent

LOOKUP_THREADS: Final = 16
"""Maximum number of threads of a loop for name lookups. Each is started when it is needed."""


class LoopExecutor:
    """A thread pool that belongs to one loop, made when it is first needed.

    ``described`` names the pool in error messages, ``prefix`` begins the names of its threads, and
    ``max_workers`` is the maximum number of threads; None means the standard library's default.
    """

    def __init__(self, described: str, prefix: str, max_workers: int | None = None) -> None:
        self._described = described
        self._prefix = prefix
        self._max_workers = max_workers
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._shut_down = False

    def get(self) -> concurrent.futures.ThreadPoolExecutor:
        """Return the pool. Raises RuntimeError if it was shut down."""
        if self._shut_down:
            raise RuntimeError(f"{self._described} was shut down; it accepts no more calls")
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(
                self._max_workers, thread_name_prefix=self._prefix
            )
        return self._executor

    def threads(self) -> list[threading.Thread]:
        """Return the threads of the pool."""
        return list(getattr(self._executor, "_threads", ()))

    def load(self) -> tuple[int, int, int]:
        """Return the number of threads, the maximum of it, and the number of waiting calls."""
        executor: Any = self._executor
        queue = getattr(executor, "_work_queue", None)
        return (
            len(getattr(executor, "_threads", ())),
            getattr(executor, "_max_workers", 0),
            0 if queue is None else queue.qsize(),
        )

    def stop_accepting(self) -> concurrent.futures.ThreadPoolExecutor | None:
        """Take no more work; return the pool, or None if it was never made."""
        self._shut_down = True
        return self._executor

    def close(self) -> None:
        """Shut the pool down without waiting; its threads end when their queue is empty."""
        executor = self.stop_accepting()
        self._executor = None
        if executor is not None:
            executor.shutdown(wait=False)


class DefaultExecutor(LoopExecutor):
    """The executor of ``run_in_executor(None, ...)``, which the program may replace."""

    def __init__(self) -> None:
        # The threads have the same names as in asyncio: programs and tools recognise them by these.
        super().__init__("The loop's default executor", "asyncio")
        # The executor that the program gave, if any. Its threads may also work for others.
        self._given: concurrent.futures.ThreadPoolExecutor | None = None

    def replace(self, executor: concurrent.futures.ThreadPoolExecutor) -> None:
        """Use ``executor`` from now on. Raises TypeError unless it is a ThreadPoolExecutor."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError(
                f"the default executor must be a ThreadPoolExecutor, got {executor!r}: "
                "pass another kind to run_in_executor() itself"
            )
        self._executor = self._given = executor

    def is_replaced(self) -> bool:
        """Return whether the program has given the executor."""
        return self._given is not None

    def threads(self) -> list[threading.Thread]:
        """Return the threads of the executor if it was made here, else an empty list."""
        return [] if self._executor is self._given else super().threads()


class LimitedThreads(LoopExecutor):
    """The thread pool for calls that have borrowed a token of a limiter.

    It has no maximum of its own: it has as many threads as there were calls at the same time.
    """

    def __init__(self) -> None:
        super().__init__("The loop's pool for limited calls", "runtime-limited", sys.maxsize)


class LookupThreads(LoopExecutor):
    """The thread pool for name lookups.

    In the default executor, lookups would wait until the calls of the program there have ended.
    """

    def __init__(self) -> None:
        super().__init__("The loop's pool for lookups of names", "runtime-lookup", LOOKUP_THREADS)


def begin_shutdown(
    loop: Scheduler, pools: Iterable[LoopExecutor]
) -> tuple[threading.Thread, Future[Any]] | None:
    """Make ``pools`` refuse further work, and wait for their threads in a new thread.

    Returns the new thread, and a future of ``loop`` that is done when this thread is about to end.
    Returns None if no pool was ever made, or if the interpreter is about to end: no new thread can
    be started or would run any more, and the interpreter itself has waited for the pools' threads.
    """
    executors = [executor for pool in pools if (executor := pool.stop_accepting()) is not None]
    if not executors:
        return None
    if sys.is_finalizing():
        _shut_down_without_waiting(executors)
        return None
    done: Future[Any] = Future(loop=loop)
    work = ExternalWork()
    loop._external_work.add(work)

    def wait() -> None:
        try:
            for executor in executors:
                executor.shutdown(wait=True)
        finally:
            try:
                loop.call_soon_threadsafe(_finish, loop, work, done)
            except RuntimeError:
                if not loop.is_closed():
                    raise

    thread = threading.Thread(target=wait, name="runtime executor shutdown")
    try:
        thread.start()
    except RuntimeError:
        # Python 3.12 and later refuse at the end of the interpreter, or the system has a limit.
        loop._external_work.discard(work)
        _shut_down_without_waiting(executors)
        return None
    return thread, done


def _shut_down_without_waiting(executors: Iterable[concurrent.futures.ThreadPoolExecutor]) -> None:
    for executor in executors:
        executor.shutdown(wait=False)


def _finish(loop: Scheduler, work: ExternalWork, done: Future[Any]) -> None:
    loop._external_work.discard(work)
    if not done.done():
        done.set_result(None)


def submit(
    loop: Scheduler,
    executor: concurrent.futures.Executor,
    func: Callable[..., Any],
    args: tuple[Any, ...],
) -> Future[Any]:
    """Call ``func(*args)`` in ``executor``; return a future of ``loop`` for the result."""
    return follow_concurrent(executor.submit(func, *args), loop, ExternalWork())

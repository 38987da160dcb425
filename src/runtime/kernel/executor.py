"""The loop's default executor: threads for calls that block."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

from runtime.kernel.chain import follow_concurrent
from runtime.kernel.daemons import OutsideWork
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.types import Future


class DefaultExecutor:
    """The executor of one loop, made when it is first needed."""

    def __init__(self) -> None:
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        # The one that the program gave, whose threads may be at work for others.
        self._given: concurrent.futures.ThreadPoolExecutor | None = None
        self._shut_down = False

    def replace(self, executor: concurrent.futures.ThreadPoolExecutor) -> None:
        """Use ``executor`` from now on. Raises TypeError unless it is a ThreadPoolExecutor."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError(
                f"The default executor must be a ThreadPoolExecutor, not {executor!r}: "
                "pass another kind to run_in_executor() itself."
            )
        self._executor = self._given = executor

    def get(self) -> concurrent.futures.ThreadPoolExecutor:
        """Return the executor. Raises RuntimeError once it was shut down."""
        if self._shut_down:
            raise RuntimeError("The loop's default executor was shut down; it runs nothing more.")
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="runtime")
        return self._executor

    def threads(self) -> list[threading.Thread]:
        """Return the threads of an executor that was made here."""
        if self._executor is None or self._executor is self._given:
            return []
        return list(getattr(self._executor, "_threads", ()))

    def close(self) -> None:
        """Let go of the executor; its threads end when they have nothing left to do."""
        self._shut_down = True
        executor = self._executor
        self._executor = None
        if executor is not None:
            executor.shutdown(wait=False)

    def begin_shutdown(self, loop: Scheduler) -> tuple[threading.Thread, Future[Any]] | None:
        """Refuse further work, and wait for the threads in a thread of its own.

        Returns that thread, and a future of ``loop`` that is done when it is about to end; None
        when there never was an executor.
        """
        self._shut_down = True
        executor = self._executor
        if executor is None:
            return None
        done: Future[Any] = Future(loop=loop)
        work = OutsideWork()
        loop.outside.add(work)

        def wait() -> None:
            try:
                executor.shutdown(wait=True)
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_finish, loop, work, done)

        thread = threading.Thread(target=wait, name="runtime executor shutdown")
        thread.start()
        return thread, done


def _finish(loop: Scheduler, work: OutsideWork, done: Future[Any]) -> None:
    loop.outside.discard(work)
    if not done.done():
        done.set_result(None)


def submit(
    loop: Scheduler,
    executor: concurrent.futures.Executor,
    func: Callable[..., Any],
    args: tuple[Any, ...],
) -> Future[Any]:
    """Call ``func(*args)`` in ``executor``; return a future of ``loop`` for its result."""
    return follow_concurrent(executor.submit(func, *args), loop, OutsideWork())

"""Conversions of awaitables: into tasks and futures, and between loops and threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, overload

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.advice import advice_on_awaitable
from runtime.kernel.compat.registry import loop_of_thread
from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Future, Task, await_it
from runtime.kernel.threads.concurrent_futures import TaskFuture, follow_concurrent, follow_task

T = TypeVar("T")
F = TypeVar("F", bound=Future[Any])


def isfuture(obj: object) -> TypeGuard[Future[Any]]:
    """Return whether ``obj`` is a future: this package's, asyncio's, or with the same protocol."""
    return asyncio.isfuture(obj)


if TYPE_CHECKING:

    def create_task(
        coro: Coroutine[Any, Any, T] | Generator[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        eager_start: bool | None = None,
        daemon: bool | None = None,
        **options: Any,
    ) -> Task[T]:
        """Run a coroutine concurrently in the running loop; return its task."""

else:

    def create_task(
        coro: Coroutine[Any, Any, T] | Generator[Any, Any, T], **options: Any
    ) -> Task[T]:
        """Run a coroutine concurrently in the running loop; return its task.

        The loop keeps a reference to the task until it ends, so that the caller need not. The
        options are:

        - ``name``: a name for reports.
        - ``context``: the ``contextvars.Context`` that the task runs in, by default a copy of the
          current one.
        - ``eager_start``: whether the first step of the task runs at once, before this function
          returns. That raises RuntimeError in another thread than the loop's, and if ``context`` is
          entered already.
        - ``daemon``: whether the task works in the background. A daemon does not keep
          ``run(..., until="idle")`` going, and is cancelled at the end of the run. By default a
          task is a daemon if the task that creates it is one; timers and callbacks that a daemon
          sets are the daemon's, too. The task runs in a copy of ``context``.

        A task factory of the loop gets all options except ``daemon``, unchanged, and any others.
        Raises TypeError for other options if there is no factory, and RuntimeError if no loop is
        running.

        Source: the standard library's documentation of ``asyncio.create_task``.
        """
        running = loop_of_thread(get_ident())
        if running is None:
            if hasattr(coro, "close"):
                coro.close()
            return get_running_loop().create_task(coro)  # This raises the appropriate error.
        if options:
            return running.create_task(coro, **options)
        return running.create_task(coro)


@overload
def ensure_future(coro_or_future: F, *, loop: LoopCore | None = None) -> F: ...
@overload
def ensure_future(coro_or_future: Awaitable[T], *, loop: LoopCore | None = None) -> Task[T]: ...
def ensure_future(coro_or_future: Any, *, loop: LoopCore | None = None) -> Any:
    """Return a future unchanged; make a coroutine or any other awaitable a task.

    Raises ValueError if a future belongs to a different loop than ``loop``, and TypeError if the
    argument is not awaitable.
    """
    if asyncio.isfuture(coro_or_future):
        if loop is not None and coro_or_future.get_loop() is not loop:  # type: ignore[comparison-overlap]
            raise ValueError(f"{coro_or_future!r} belongs to a different event loop than {loop!r}")
        return coro_or_future
    coro = coro_or_future
    if not asyncio.iscoroutine(coro_or_future):
        if not hasattr(coro_or_future, "__await__"):
            raise TypeError(
                f"a future, a coroutine or an awaitable was expected, got {coro!r}"
                + advice_on_awaitable(coro)
            )
        coro = await_it(coro_or_future)
    if loop is None:
        return create_task(coro)
    return loop.create_task(coro)


def wrap_future(
    future: concurrent.futures.Future[T] | Future[T], *, loop: LoopCore | None = None
) -> Future[T]:
    """Return a future of ``loop``, by default the running one, that ends as ``future`` does.

    ``future`` is a concurrent future; cancelling either cancels the other. A future of an event
    loop is returned unchanged. Raises TypeError for any other object.
    """
    if isfuture(future):
        return future
    if not isinstance(future, concurrent.futures.Future):
        raise TypeError(f"wrap_future() expected a concurrent.futures.Future, got {future!r}")
    if loop is None:
        loop = get_running_loop()
    return follow_concurrent(future, loop)


def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, T], loop: LoopCore
) -> concurrent.futures.Future[T]:
    """Run a coroutine in ``loop`` from another thread; return a concurrent future of its result.

    Cancelling that future cancels the task. An exception that is never retrieved from it is
    reported to the loop's exception handler. Raises TypeError if ``coro`` is not a coroutine.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError(
            f"run_coroutine_threadsafe() expected a coroutine, got {coro!r}"
            + advice_on_awaitable(coro)
        )
    concurrent_future = TaskFuture()

    def start() -> None:
        try:
            task = loop.create_task(coro)
            follow_task(task, concurrent_future)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if concurrent_future.set_running_or_notify_cancel():
                concurrent_future.set_exception(error)
            raise

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        coro.close()
        raise
    return concurrent_future

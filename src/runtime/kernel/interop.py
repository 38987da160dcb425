"""Between kinds of awaitables, between loops, and between threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context
from threading import get_ident
from typing import Any, TypeGuard, TypeVar, overload

from runtime.kernel.chain import follow_concurrent, follow_task
from runtime.kernel.core import LoopCore
from runtime.kernel.registry import running_loops
from runtime.kernel.running import get_running_loop
from runtime.kernel.types import Future, Task, await_it

T = TypeVar("T")
F = TypeVar("F", bound=Future[Any])


def isfuture(obj: object) -> TypeGuard[Future[Any]]:
    """Return whether ``obj`` is a future: ours, asyncio's, or one made after their protocol."""
    return asyncio.isfuture(obj)


def create_task(
    coro: Coroutine[Any, Any, T] | Generator[Any, Any, T],
    *,
    name: object = None,
    context: Context | None = None,
    eager_start: bool | None = None,
    daemon: bool | None = None,
) -> Task[T]:
    """Run a coroutine concurrently in the running loop; return its task.

    The loop keeps the task until it ends, so that nobody need hold it. ``name`` is for reports,
    ``context`` what it runs in, by default a copy of the current one; with ``eager_start`` the
    first step runs at once. Raises RuntimeError when no loop is running.

    A ``daemon`` works in the background: it does not keep ``run(..., until="idle")`` going, and is
    cancelled at its end. Whether a task is one, is by default as with the task that creates it;
    timers and callbacks that a daemon sets are the daemon's, too. It runs in a copy of ``context``.
    """
    running = running_loops.get(get_ident())
    if running is None:
        if hasattr(coro, "close"):
            coro.close()
        return get_running_loop().create_task(coro)  # It raises, and says why.
    task: Task[T]
    if name is None and context is None and eager_start is None and daemon is None:
        task = running.create_task(coro)
    else:
        task = running.create_task(
            coro, name=name, context=context, eager_start=eager_start, daemon=daemon
        )
    return task


@overload
def ensure_future(coro_or_future: F, *, loop: LoopCore | None = None) -> F: ...
@overload
def ensure_future(coro_or_future: Awaitable[T], *, loop: LoopCore | None = None) -> Task[T]: ...
def ensure_future(coro_or_future: Any, *, loop: LoopCore | None = None) -> Any:
    """Return a future as it is; make a task of a coroutine or of any other awaitable.

    Raises ValueError when a future belongs to another loop than ``loop``, and TypeError for what
    cannot be awaited.
    """
    if asyncio.isfuture(coro_or_future):
        if loop is not None and coro_or_future.get_loop() is not loop:  # type: ignore[comparison-overlap]
            raise ValueError(f"{coro_or_future!r} belongs to another event loop than {loop!r}.")
        return coro_or_future
    coro = coro_or_future
    if not asyncio.iscoroutine(coro_or_future):
        if not hasattr(coro_or_future, "__await__"):
            raise TypeError(f"A future, a coroutine or an awaitable is required, not {coro!r}.")
        coro = await_it(coro_or_future)
    if loop is None:
        return create_task(coro)
    return loop.create_task(coro)


def wrap_future(
    future: concurrent.futures.Future[T] | Future[T], *, loop: LoopCore | None = None
) -> Future[T]:
    """Return a future of ``loop``, by default the running one, that follows a concurrent future.

    Cancelling either cancels the other. A future of an event loop is returned as it is. Raises
    TypeError for anything else.
    """
    if isfuture(future):
        return future
    if not isinstance(future, concurrent.futures.Future):
        raise TypeError(f"wrap_future() takes a concurrent.futures.Future, not {future!r}.")
    if loop is None:
        loop = get_running_loop()
    return follow_concurrent(future, loop)


def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, T], loop: LoopCore
) -> concurrent.futures.Future[T]:
    """Run a coroutine in ``loop`` from another thread; return a concurrent future of its result.

    Cancelling that future cancels the task. Raises TypeError for what is not a coroutine.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError(f"run_coroutine_threadsafe() takes a coroutine, not {coro!r}.")
    theirs: concurrent.futures.Future[T] = concurrent.futures.Future()

    def start() -> None:
        try:
            task = loop.create_task(coro)
            follow_task(task, theirs)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if theirs.set_running_or_notify_cancel():
                theirs.set_exception(error)
            raise

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        coro.close()
        raise
    return theirs

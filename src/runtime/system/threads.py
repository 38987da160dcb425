"""``to_thread``: calls blocking functions in threads."""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, overload

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import describe_callback
from runtime.kernel.threads.limiters import Limiter

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@overload
async def to_thread(func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def to_thread(func: Callable[[*Ts], R], /, *args: *Ts, limiter: Limiter) -> R: ...
async def to_thread(  # type: ignore[misc]  # mypy overlooks that kwargs may have the limiter.
    func: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call ``func(*args, **kwargs)`` in a thread of the default executor; return its result.

    The function runs in a copy of the caller's context. With ``limiter``, a ``CapacityLimiter``,
    the call waits for a token first, and gives it back when the function has returned, also if the
    task was cancelled meanwhile. Without it, ``current_default_thread_limiter()`` is the limiter.
    A ``limiter`` of another type is passed to the function.

    The limiter alone decides how many of its calls run at the same time. They have threads of their
    own, apart from the default executor, unless ``set_default_executor()`` was called: then they
    run in that executor, and its number of threads is another limit. The default limiter, too, has
    threads of its own as soon as its total is finite.

    Not cancellation safe: a call that has not started is not made; a call that has started
    continues, and its result is lost.

    Source: the standard library's documentation of ``asyncio.to_thread``.

    >>> import runtime
    >>> runtime.run(to_thread(sum, [1, 2, 3]))
    6
    """
    loop = get_running_loop()
    limiter: object = kwargs.get("limiter")
    has_own_threads = True
    if isinstance(limiter, Limiter):
        del kwargs["limiter"]
    else:
        limiter = loop._thread_limiter
        has_own_threads = limiter is not None and limiter.total != math.inf
    context = contextvars.copy_context()
    call = functools.partial(context.run, func, *args, **kwargs)
    if limiter is None:
        return await loop.run_in_executor(None, call)
    limited = _LimitedCall(loop, call, limiter)
    await limiter.acquire(limited)
    try:
        # A program that has set the default executor means these calls as well: its threads may
        # have been prepared for them.
        has_own_threads = has_own_threads and not loop._executor.is_replaced()
        executor = loop._limited_threads.get() if has_own_threads else None
        return await loop.run_in_executor(executor, limited)
    finally:
        limited.cancel()


class _LimitedCall:
    """A call in a thread that borrows a token of a limiter.

    The token is given back when the function has returned, or when the caller gives up before the
    thread has begun. Which of the two comes first is decided in one atomic step.
    """

    __slots__ = ("_begun", "_call", "_limiter", "_loop")

    def __init__(self, loop: LoopCore, call: Callable[[], Any], limiter: Limiter) -> None:
        self._loop = loop
        self._call = call
        self._limiter = limiter
        # Has one entry at most: whether the call has begun. setdefault() is atomic.
        self._begun: dict[None, bool] = {}

    def __call__(self) -> Any:
        """Call the function, in the thread."""
        if not self._begun.setdefault(None, True):
            return None
        try:
            return self._call()
        finally:
            try:
                self._loop.call_soon_threadsafe(self._limiter.release, self)
            except RuntimeError:
                if not self._loop.is_closed():
                    raise

    def cancel(self) -> None:
        """Give the token back if the call has not begun, and keep it from beginning."""
        if not self._begun.setdefault(None, False):
            self._limiter.release(self)

    def __repr__(self) -> str:
        return f"<call of {describe_callback(self._call)} in a thread>"

"""``to_thread``: calls blocking functions in threads."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from runtime.kernel.api.running import get_running_loop

P = ParamSpec("P")
R = TypeVar("R")


async def to_thread(func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``func(*args, **kwargs)`` in a thread of the default executor; return its result.

    The function runs in a copy of the caller's context.

    Not cancellation safe: a call that has not started is not made; a call that has started
    continues, and its result is lost.

    Source: the standard library's documentation of ``asyncio.to_thread``.

    >>> import runtime
    >>> runtime.run(to_thread(sum, [1, 2, 3]))
    6
    """
    context = contextvars.copy_context()
    call = functools.partial(context.run, func, *args, **kwargs)
    result: R = await get_running_loop().run_in_executor(None, call)
    return result

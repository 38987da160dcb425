"""Lookups of host names in the loop, which take the time that the names of the world say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.kernel.public_types import Future
from runtime.loop import Loop
from runtime.simulation.network.names import Names


def look_up(
    loop: Loop, names: Names, func: Callable[..., Any], args: tuple[Any, ...]
) -> Future[Any]:
    """Call ``func(*args)``, which resolves a host name, when it is answered; return a future.

    The arguments are those of ``LoopCore._look_up``.
    """
    future: Future[Any] = loop.create_future()
    request = args[-1] if isinstance(args[-1], tuple) else args[0]
    delay = names.delay_of(request[0])
    if delay > 0:
        loop.call_later(delay, _answer, future, func, args)
    else:
        loop.call_soon(_answer, future, func, args)
    return future


def _answer(future: Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.done():
        return
    try:
        answer = func(*args)
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(answer)

"""Long chains of futures, which are deallocated without recursion in C."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime.kernel.future import subscribe
from tests.kernel.tools import turn

# Long chains take long, and are alike in all builds of the same modules.
pytestmark = pytest.mark.variation

NUMBER = 100_000


def by_result(loop: runtime.Loop, last: Any) -> Any:
    future = loop.create_future()
    future.set_result(last)
    return future


def by_results_in_lists(loop: runtime.Loop, last: Any) -> Any:
    return by_result(loop, [(last,)])


def by_exception(loop: runtime.Loop, last: Any) -> Any:
    future = loop.create_future()
    future.set_exception(ValueError(last))
    future.exception()
    return future


def by_message(loop: runtime.Loop, last: Any) -> Any:
    future = loop.create_future()
    future.cancel(last)
    return future


def by_callback(loop: runtime.Loop, last: Any) -> Any:
    future = loop.create_future()
    future.add_done_callback(functools.partial(print, last))
    return future


def by_bound_callback(loop: runtime.Loop, last: Any) -> Any:
    future = loop.create_future()
    future.add_done_callback(last.done)
    return future


def by_subscription(loop: runtime.Loop, last: Any) -> Any:
    future = loop.create_future()
    subscribe(future, last)
    return future


def by_alarm(loop: runtime.Loop, last: Any) -> Any:
    sleeping = loop._sleep_future(3600)
    sleeping.add_done_callback(functools.partial(print, last))
    sleeping.cancel()
    sleeping.add_done_callback(functools.partial(print, last))
    return sleeping


def by_gathering(loop: runtime.Loop, last: Any) -> Any:
    return runtime.gather(last)


def by_shield(loop: runtime.Loop, last: Any) -> Any:
    return runtime.shield(last)


def by_handle(loop: runtime.Loop, last: Any) -> Any:
    return loop.call_soon(print, last)


def by_timer(loop: runtime.Loop, last: Any) -> Any:
    return loop.call_later(3600, print, last)


def by_future_of_asyncio(loop: runtime.Loop, last: Any) -> Any:
    future: asyncio.Future[Any] = asyncio.Future(loop=loop)
    future.set_result(by_result(loop, last))
    return future


def by_task(loop: runtime.Loop, last: Any) -> Any:
    async def wait() -> None:
        await last

    return loop.create_task(wait())


LINKS: list[Callable[[runtime.Loop, Any], Any]] = [
    by_result,
    by_results_in_lists,
    by_exception,
    by_message,
    by_callback,
    by_bound_callback,
    by_subscription,
    by_gathering,
    by_shield,
    by_handle,
    by_timer,
    by_alarm,
    by_future_of_asyncio,
    by_task,
]


@pytest.mark.parametrize("link", LINKS)
def test_a_chain_of_futures_goes(link: Callable[[runtime.Loop, Any], Any]) -> None:
    loop = runtime.new_event_loop()
    loop.set_debug(False)
    loop.set_exception_handler(lambda _loop, _report: None)
    last: Any = loop.create_future()
    for _ in range(NUMBER):
        last = link(loop, last)
    if link is by_task:
        turn(loop)
    loop.close()
    del last
    gc.collect()

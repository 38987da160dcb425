"""Exceptions whose waiter is gone, which are reported exactly once."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import collect_reports, never, turns


class Oops(Exception):
    pass


async def fail(suspensions: int = 1) -> None:
    await turns(suspensions)
    raise Oops


async def fail_when_cancelled() -> None:
    try:
        await never()
    except runtime.CancelledError:
        raise Oops from None


def in_a_thread(function: Callable[[], Any]) -> runtime.Future[Any]:
    return runtime.get_running_loop().run_in_executor(None, function)


# -- Reported exceptions ---------------------------------------------------------------------------


async def a_concurrent_future_that_is_never_read() -> None:
    loop = runtime.get_running_loop()
    await in_a_thread(lambda: runtime.run_coroutine_threadsafe(fail(), loop))
    await wait_all_tasks_blocked()


async def a_concurrent_future_whose_callback_does_not_ask() -> None:
    loop = runtime.get_running_loop()
    called = loop.create_future()

    def start() -> None:
        future = runtime.run_coroutine_threadsafe(fail(), loop)
        future.add_done_callback(lambda _: called.set_result(None))

    await in_a_thread(start)
    await called


async def a_concurrent_future_that_was_asked_too_early() -> None:
    loop = runtime.get_running_loop()
    go_on = runtime.Event()

    async def fail_later() -> None:
        await go_on.wait()
        raise Oops

    def start() -> concurrent.futures.Future[None]:
        future = runtime.run_coroutine_threadsafe(fail_later(), loop)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.exception(0)
        return future

    future = await in_a_thread(start)
    go_on.set()
    while not future.done():
        await turns(1)


async def a_concurrent_future_that_was_cancelled() -> None:
    loop = runtime.get_running_loop()
    future = await in_a_thread(
        lambda: runtime.run_coroutine_threadsafe(fail_when_cancelled(), loop)
    )
    await wait_all_tasks_blocked()
    await in_a_thread(future.cancel)
    await wait_all_tasks_blocked()


async def a_failed_task_that_is_cancelled_later() -> None:
    task = runtime.create_task(fail())
    await wait_all_tasks_blocked()
    assert not task.cancel()
    assert task.done()


async def a_task_whose_waiter_is_cancelled_in_the_same_turn() -> None:
    await _with_a_waiter_that_is_cancelled(lambda task: task, before_it_is_queued=True)


async def a_gathering_whose_waiter_is_cancelled_in_the_same_turn() -> None:
    await _with_a_waiter_that_is_cancelled(lambda task: runtime.gather(task))


async def a_shield_whose_waiter_is_cancelled_in_the_same_turn() -> None:
    await _with_a_waiter_that_is_cancelled(runtime.shield)


async def a_shield_whose_waiter_was_cancelled_before() -> None:
    task = runtime.create_task(fail(5))

    async def wait(task: runtime.Task[None]) -> None:
        await runtime.shield(task)

    waiter = runtime.create_task(wait(task))
    del task
    await turns(2)
    waiter.cancel()
    await wait_all_tasks_blocked()


async def a_thread_whose_waiter_is_cancelled_in_the_same_turn() -> None:
    theirs: concurrent.futures.Future[None] = concurrent.futures.Future()
    following = runtime.wrap_future(theirs)

    async def wait() -> None:
        await following

    waiter = runtime.create_task(wait())
    await wait_all_tasks_blocked()
    theirs.set_exception(Oops())
    while not following.done():
        await turns(1)
    # The waiter is queued, and did not run yet.
    waiter.cancel()
    await wait_all_tasks_blocked()
    assert waiter.cancelled()


async def one_of_several_whose_waiter_is_cancelled_in_the_same_turn() -> None:
    async def wait(task: runtime.Task[None]) -> None:
        await runtime.wait([task], return_when=runtime.FIRST_EXCEPTION)

    task = runtime.create_task(fail(5))
    waiter = runtime.create_task(wait(task))
    task.add_done_callback(lambda _: waiter.cancel())
    del task
    await wait_all_tasks_blocked()
    assert waiter.cancelled()


async def one_of_several_that_is_never_retrieved() -> None:
    await runtime.wait([runtime.create_task(fail())], return_when=runtime.FIRST_EXCEPTION)
    failed = runtime.create_task(fail())
    await wait_all_tasks_blocked()
    await runtime.wait([failed, runtime.create_task(turns())], return_when=runtime.FIRST_EXCEPTION)


async def _with_a_waiter_that_is_cancelled(
    wrap: Callable[[Any], Awaitable[object]], *, before_it_is_queued: bool = False
) -> None:
    async def wait(task: runtime.Task[None]) -> None:
        await wrap(task)

    def cancel(_: object) -> None:
        waiter.cancel()

    task = runtime.create_task(fail(5))
    if before_it_is_queued:
        task.add_done_callback(cancel)
    waiter = runtime.create_task(wait(task))
    await turns(2)
    if not before_it_is_queued:
        task.add_done_callback(cancel)
    del task
    await wait_all_tasks_blocked()
    assert waiter.cancelled()


LOST: list[Callable[[], Awaitable[None]]] = [
    a_concurrent_future_that_is_never_read,
    a_concurrent_future_whose_callback_does_not_ask,
    a_concurrent_future_that_was_asked_too_early,
    a_concurrent_future_that_was_cancelled,
    a_failed_task_that_is_cancelled_later,
    a_task_whose_waiter_is_cancelled_in_the_same_turn,
    a_gathering_whose_waiter_is_cancelled_in_the_same_turn,
    a_shield_whose_waiter_is_cancelled_in_the_same_turn,
    a_shield_whose_waiter_was_cancelled_before,
    a_thread_whose_waiter_is_cancelled_in_the_same_turn,
    one_of_several_whose_waiter_is_cancelled_in_the_same_turn,
    one_of_several_that_is_never_retrieved,
]


@pytest.mark.parametrize("scenario", LOST)
def test_it_is_reported_once(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> list[dict[str, Any]]:
        reports = collect_reports()
        await scenario()
        for _ in range(3):
            gc.collect()
            await wait_all_tasks_blocked()
        return reports

    reports = runtime.run(main())
    expected = 2 if scenario is one_of_several_that_is_never_retrieved else 1
    assert [type(report["exception"]) for report in reports] == [Oops] * expected
    assert all("never retrieved" in report["message"] for report in reports)
    assert all(report["future"].exception() is report["exception"] for report in reports)


async def test_retrieved_exceptions_are_not_reported() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()

    def ask(how: Callable[[concurrent.futures.Future[None]], object]) -> None:
        how(runtime.run_coroutine_threadsafe(fail(), loop))

    def by_result(future: concurrent.futures.Future[None]) -> None:
        with pytest.raises(Oops):
            future.result()

    def by_exception(future: concurrent.futures.Future[None]) -> None:
        assert isinstance(future.exception(), Oops)

    def by_waiting(future: concurrent.futures.Future[None]) -> None:
        [done] = concurrent.futures.wait([future]).done
        assert isinstance(done.exception(), Oops)

    for how in (by_result, by_exception, by_waiting):
        await in_a_thread(functools.partial(ask, how))
    future = await in_a_thread(lambda: runtime.run_coroutine_threadsafe(fail(), loop))
    with pytest.raises(Oops):
        await runtime.wrap_future(future)
    del future
    task = runtime.create_task(fail())
    await wait_all_tasks_blocked()
    task.cancel()
    assert isinstance(task.exception(), Oops)
    del task
    gc.collect()
    await wait_all_tasks_blocked()
    assert reports == []


def test_an_exception_that_ends_the_run_is_not_reported() -> None:
    reports: list[Any] = []

    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.set_exception_handler(lambda _loop, report: reports.append(report))
        await in_a_thread(lambda: runtime.run_coroutine_threadsafe(leave(), loop))
        await never()

    with pytest.raises(SystemExit):
        runtime.run(main())
    gc.collect()
    assert reports == []

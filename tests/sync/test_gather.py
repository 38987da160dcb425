from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest

import runtime
from runtime.sync.gather import gather
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import (
    assert_cancelled,
    collect_reports,
    fail,
    give,
    never,
    turns,
)


async def test_results_come_in_the_order_of_the_arguments() -> None:
    assert [*await gather(give("a", 3), give("b"), give("c", 2))] == ["a", "b", "c"]
    assert await gather(*[give(number) for number in range(3)]) == [0, 1, 2]


async def test_nothing_to_gather_gives_a_future_that_is_done() -> None:
    future: runtime.Future[list[Any]] = gather()
    assert future.done()
    assert future.get_loop() is runtime.get_running_loop()
    assert await future == []


def test_nothing_to_gather_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        gather()


def test_a_coroutine_needs_a_running_loop() -> None:
    coro = give(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        gather(coro)
    coro.close()


def test_a_future_needs_no_running_loop() -> None:
    loop = runtime.new_event_loop()
    future: runtime.Future[int] = loop.create_future()
    gathering = gather(future)
    assert gathering.get_loop() is loop
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(gathering) == [7]
    loop.close()


async def test_it_is_a_future() -> None:
    gathering = gather(give(1))
    assert isinstance(gathering, runtime.Future)
    assert weakref.ref(gathering)() is gathering
    assert "pending" in repr(gathering)
    with pytest.raises(runtime.InvalidStateError):
        gathering.result()
    assert [*await gathering] == [1]
    anything: Any = gathering
    assert asyncio.isfuture(anything)


async def test_a_repeated_argument_runs_once() -> None:
    ran = []

    async def once() -> int:
        ran.append(1)
        return len(ran)

    coro = once()
    future = runtime.get_running_loop().create_future()
    future.set_result("f")
    task = runtime.create_task(give("t"))
    results = await gather(coro, task, future, coro, future, task)
    assert [*results] == [1, "t", "f", 1, "f", "t"]
    assert ran == [1]


async def test_any_awaitable_will_do() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return give("awaitable").__await__()

    foreign: asyncio.Future[str] = asyncio.Future()
    foreign.get_loop().call_soon(foreign.set_result, "foreign")
    own = runtime.get_running_loop().create_future()
    own.set_result("own")
    results = await gather(Awaitable(), foreign, own, give("coroutine"))
    assert [*results] == ["awaitable", "foreign", "own", "coroutine"]


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_all_done_gives_a_future_that_is_done(return_exceptions: bool) -> None:
    loop = runtime.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    for number, future in enumerate(futures):
        future.set_result(number)
    gathering = gather(*futures, return_exceptions=return_exceptions)
    assert gathering.done()
    assert gathering.result() == [0, 1, 2]


async def test_a_future_that_failed_already_fails_it_at_once() -> None:
    failed = runtime.get_running_loop().create_future()
    failed.set_exception(LookupError("gone"))
    going = runtime.create_task(give(1))
    gathering = gather(going, failed)
    assert gathering.done()
    with pytest.raises(LookupError, match="gone"):
        await gathering
    assert await going == 1


async def test_the_first_exception_ends_it_and_the_others_go_on() -> None:
    reports = collect_reports()
    slow = runtime.create_task(give("slow", 20))
    late = runtime.create_task(fail(ValueError("late"), 10))
    with pytest.raises(LookupError, match="first"):
        await gather(slow, fail(LookupError("first")), late)
    assert not slow.done()
    assert await slow == "slow"
    # Later exceptions of the other tasks are not reported to any caller.
    assert late.done()
    del late
    gc.collect()
    assert reports == []


async def test_the_first_to_fail_wins_not_the_first_in_order() -> None:
    with pytest.raises(LookupError):
        await gather(fail(ValueError(), 9), fail(LookupError()))
    await wait_all_tasks_blocked()


async def test_exceptions_can_be_results() -> None:
    error = LookupError("x")
    cancelled = runtime.create_task(never())
    failed_foreign: asyncio.Future[int] = asyncio.Future()
    cancelled_foreign: asyncio.Future[int] = asyncio.Future()
    loop = runtime.get_running_loop()
    loop.call_soon(cancelled.cancel)
    loop.call_soon(failed_foreign.set_exception, error)
    loop.call_soon(cancelled_foreign.cancel, "theirs")
    awaitables: list[Awaitable[Any]] = [
        give("a"),
        fail(error),
        cancelled,
        failed_foreign,
        cancelled_foreign,
    ]
    results: list[Any] = await gather(*awaitables, return_exceptions=True)
    assert results[:2] == ["a", error]
    assert results[3] is error
    assert [type(result) for result in (results[2], results[4])] == [runtime.CancelledError] * 2
    assert results[2].args == ("",)
    assert results[4].args == ("theirs",)


async def test_cancelling_it_cancels_the_children_and_waits_for_them() -> None:
    cleaned = []

    async def child() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await runtime.sleep(0)
            cleaned.append(1)

    tasks = [runtime.create_task(child()) for _ in range(3)]
    gathering = gather(*tasks)
    await wait_all_tasks_blocked()
    assert gathering.cancel("stop")
    assert not gathering.done()
    with pytest.raises(runtime.CancelledError):
        await gathering
    assert cleaned == [1, 1, 1]
    assert all(task.cancelled() for task in tasks)
    assert not gathering.cancelled()
    assert not gathering.cancel()


async def test_cancelling_the_task_that_awaits_it_cancels_the_children() -> None:
    tasks = [runtime.create_task(never()) for _ in range(3)]

    async def parent() -> None:
        await gather(*tasks)

    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    task.cancel("because")
    with pytest.raises(runtime.CancelledError, match="because"):
        await task
    assert task.cancelled()
    assert all(child.cancelled() for child in tasks)


async def test_cancelling_prevails_over_exceptions_as_results() -> None:
    gathering = gather(never(), never(), return_exceptions=True)
    await wait_all_tasks_blocked()
    gathering.cancel()
    await assert_cancelled(gathering)


async def test_cancelling_prevails_when_the_children_refuse() -> None:
    async def stubborn() -> str:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            pass
        return "done anyway"

    child = runtime.create_task(stubborn())
    gathering = gather(give("quick"), child, return_exceptions=True)
    await wait_all_tasks_blocked()
    assert gathering.cancel()
    await assert_cancelled(gathering)
    assert child.result() == "done anyway"


async def test_cancelling_it_when_all_children_are_done_does_nothing() -> None:
    future = runtime.get_running_loop().create_future()
    gathering = gather(future)
    future.set_result(1)
    assert not gathering.cancel()
    assert [*await gathering] == [1]


async def test_a_child_that_is_cancelled_by_others_fails_it_without_cancelling_it() -> None:
    victim = runtime.create_task(never())
    bystander = runtime.create_task(give(2, 9))
    gathering = gather(victim, bystander)
    await turns(2)
    victim.cancel("mine")
    with pytest.raises(runtime.CancelledError, match="mine"):
        await gathering
    assert not gathering.cancelled()
    assert isinstance(gathering.exception(), runtime.CancelledError)
    assert await bystander == 2


async def test_a_foreign_child_that_is_cancelled() -> None:
    foreign: asyncio.Future[int] = asyncio.Future()
    gathering = gather(foreign, give(1))
    await wait_all_tasks_blocked()
    foreign.cancel("mine")
    with pytest.raises(runtime.CancelledError, match="mine"):
        await gathering


async def test_futures_must_be_of_one_loop() -> None:
    other = runtime.new_event_loop()
    theirs = other.create_future()
    ours = runtime.get_running_loop().create_future()
    with pytest.raises(ValueError, match="a different event loop"):
        gather(ours, theirs)
    other.close()


def test_futures_of_another_kind_of_loop_are_refused() -> None:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    with pytest.raises(ValueError, match="not one of runtime's"):
        gather(future)
    loop.close()


async def test_unawaitable_arguments_are_refused_and_started_tasks_continue() -> None:
    reports = collect_reports()
    ran = []

    async def child() -> None:
        ran.append(1)
        raise LookupError

    with pytest.raises(TypeError, match="awaitable"):
        gather(child(), 5)  # type: ignore[call-overload]
    await wait_all_tasks_blocked()
    gc.collect()
    assert ran == [1]
    assert reports == []


async def test_children_that_end_when_they_start_end_it_when_it_starts() -> None:
    loop = runtime.get_running_loop()

    def eager(loop: Any, coro: Any, **options: Any) -> Any:
        return runtime.Task(coro, loop=loop, eager_start=True, **options)

    async def at_once(value: int) -> int:
        return value

    loop.set_task_factory(eager)
    gathering = gather(at_once(1), at_once(2))
    assert gathering.done()
    assert [*await gathering] == [1, 2]


async def test_an_exception_that_is_never_retrieved_is_reported_once() -> None:
    reports = collect_reports()
    gather(fail(LookupError("unheard")), fail(ValueError("second")))
    await wait_all_tasks_blocked()
    gc.collect()
    assert [str(report["exception"]) for report in reports] == ["unheard"]


async def test_a_gathering_that_ended_holds_no_child() -> None:
    tasks = [runtime.create_task(give(number)) for number in range(3)]
    gathering = gather(*tasks)
    await gathering
    references = [weakref.ref(task) for task in tasks]
    del tasks
    await wait_all_tasks_blocked()
    assert [reference() for reference in references] == [None] * 3


async def test_children_show_their_waiters() -> None:
    task = runtime.create_task(give(1))
    gathering = gather(task)
    assert "gather()" in repr(task)
    await gathering


def test_a_loop_that_is_closed_does_not_complain_of_the_children() -> None:
    reports: list[Any] = []
    loop = runtime.new_event_loop()
    loop.set_exception_handler(lambda _loop, report: reports.append(report))

    async def main() -> None:
        gather(never(), never())
        await wait_all_tasks_blocked()

    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert reports == []


async def test_many_children() -> None:
    assert await gather(*[give(number) for number in range(2000)]) == list(range(2000))

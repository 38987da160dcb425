from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import runtime
from runtime.sync.shield import shield
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import assert_cancelled, collect_reports, fail, give, turns


async def test_it_gives_the_result_or_raises_the_exception() -> None:
    async def fail() -> None:
        raise LookupError("x")

    assert await shield(runtime.sleep(0, "r")) == "r"
    with pytest.raises(LookupError, match="x"):
        await shield(fail())


async def test_the_inner_task_goes_on_when_the_wait_is_cancelled() -> None:
    inner = runtime.create_task(give("r", 20))

    async def wait() -> Any:
        return await shield(inner)

    outer = runtime.create_task(wait())
    await turns(2)
    outer.cancel()
    await assert_cancelled(outer)
    assert not inner.done()
    assert inner.cancelling() == 0
    assert await inner == "r"


async def test_a_cancelled_inner_task_cancels_the_wait() -> None:
    inner = runtime.create_task(runtime.sleep(3600))
    outer = shield(inner)
    await wait_all_tasks_blocked()
    inner.cancel()
    await assert_cancelled(outer)
    assert outer.cancelled()


async def test_a_done_future_is_returned_unchanged() -> None:
    future = runtime.get_running_loop().create_future()
    future.set_result(1)
    assert shield(future) is future


async def test_an_exception_after_the_wait_was_cancelled_is_reported() -> None:
    reports = collect_reports()

    async def fail() -> None:
        await turns(9)
        raise LookupError("late")

    outer = shield(fail())
    await turns(2)
    outer.cancel()
    await wait_all_tasks_blocked()
    gc.collect()
    assert [str(report["exception"]) for report in reports] == ["late"]


@pytest.mark.parametrize("turns_before", [0, 1, 2])
async def test_an_exception_in_the_very_turn_of_the_cancellation_is_reported(
    turns_before: int,
) -> None:
    reports = collect_reports()

    async def wait() -> Any:
        return await shield(fail(LookupError("beside it"), 2))

    waiting = runtime.create_task(wait())
    await turns(turns_before + 1)
    waiting.cancel()
    await assert_cancelled(waiting)
    del waiting
    await wait_all_tasks_blocked()
    gc.collect()
    assert [str(report["exception"]) for report in reports] == ["beside it"]


async def test_an_exception_retrieved_elsewhere_is_not_reported() -> None:
    reports = collect_reports()
    inner = runtime.create_task(fail(LookupError("theirs"), 3))
    outer = shield(inner)
    await turns(1)
    outer.cancel()
    with pytest.raises(LookupError, match="theirs"):
        await inner
    del inner
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("kind", ["failed", "cancelled", "result"])
async def test_ended_and_cancelled_in_the_same_turn(kind: str) -> None:
    reports = collect_reports()
    inner = runtime.get_running_loop().create_future()
    outer = shield(inner)
    if kind == "failed":
        inner.set_exception(LookupError("nobody has seen it"))
    elif kind == "cancelled":
        inner.cancel()
    else:
        inner.set_result(1)
    outer.cancel()
    await wait_all_tasks_blocked()
    assert outer.cancelled()
    assert inner.done()
    del inner, outer
    gc.collect()
    unseen = [str(report["exception"]) for report in reports]
    assert unseen == (["nobody has seen it"] if kind == "failed" else [])


async def test_a_foreign_future_can_be_shielded() -> None:
    foreign: asyncio.Future[str] = asyncio.Future()
    outer = shield(foreign)
    foreign.set_result("theirs")
    assert await outer == "theirs"


async def test_an_unawaitable_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="awaitable"):
        shield(5)  # type: ignore[arg-type]

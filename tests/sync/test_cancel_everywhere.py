"""The helper for tests of cancellation, tested: it must find faulty code."""

from __future__ import annotations

import pytest

import runtime
from tests.support.cancel_everywhere import CancelPoint, Moment, cancel_everywhere, settled


def test_it_cancels_at_every_suspension_and_at_both_moments() -> None:
    cancelled_at = []

    async def scenario(point: CancelPoint) -> None:
        steps = []

        async def work() -> None:
            steps.append(1)
            await runtime.sleep(0)
            steps.append(2)
            await runtime.sleep(0.001)
            steps.append(3)
            await runtime.create_task(runtime.sleep(0))
            steps.append(4)

        await settled(point.start(work()))
        cancelled_at.append((point.suspension, point.moment, len(steps)))

    assert cancel_everywhere(scenario) == 3
    assert cancelled_at == [
        (suspension, moment, suspension)
        for suspension in range(1, 5)
        for moment in (Moment.WAITING, Moment.WOKEN)
    ]


def test_it_finds_a_window_between_being_woken_and_running() -> None:
    """Cancelling while the task waits is harmless here; cancelling once woken loses the token."""

    async def scenario(point: CancelPoint) -> None:
        loop = runtime.get_running_loop()
        token: runtime.Future[str] = loop.create_future()
        given_back = []

        async def take() -> None:
            try:
                await token
            except runtime.CancelledError:
                if token.cancelled():
                    given_back.append("never taken")
                raise
            given_back.append(token.result())

        task = point.start(take())
        await runtime.sleep(0)
        await runtime.sleep(0)
        if not token.done():
            token.set_result("token")
        await settled(task)
        assert given_back

    with pytest.raises(AssertionError) as caught:
        cancel_everywhere(scenario)
    assert caught.value.__notes__ == [
        "with the task cancelled at suspension 1, when it was woken and has not run yet"
    ]


def test_it_finds_tasks_that_are_left_over() -> None:
    async def scenario(point: CancelPoint) -> None:
        async def work() -> None:
            child = runtime.create_task(runtime.sleep(3600))
            await runtime.sleep(0)
            child.cancel()
            await settled(child)

        await settled(point.start(work()))

    with pytest.raises(AssertionError, match="tasks left over"):
        cancel_everywhere(scenario)


def test_it_finds_exceptions_that_were_only_reported() -> None:
    async def scenario(point: CancelPoint) -> None:
        def break_down() -> None:
            raise LookupError

        runtime.get_running_loop().call_soon(break_down)
        await settled(point.start(runtime.sleep(0)))

    with pytest.raises(AssertionError):
        cancel_everywhere(scenario)


def test_a_scenario_has_one_task_to_cancel() -> None:
    async def scenario(point: CancelPoint) -> None:
        second = runtime.sleep(0)
        await settled(point.start(runtime.sleep(0)))
        try:
            point.start(second)
        finally:
            second.close()

    with pytest.raises(AssertionError, match="one task"):
        cancel_everywhere(scenario)


def test_exceptions_of_the_task_are_raised() -> None:
    async def scenario(point: CancelPoint) -> None:
        async def work() -> None:
            await runtime.sleep(0)
            raise LookupError("its own")

        await settled(point.start(work()))

    with pytest.raises(LookupError, match="its own"):
        cancel_everywhere(scenario)

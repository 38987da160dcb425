from __future__ import annotations

import asyncio

import pytest

import runtime
from runtime.sync.timeouts import Timeout, timeout, timeout_at
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import turns


def me() -> runtime.Task[object]:
    task = runtime.current_task()
    assert task is not None
    return task


async def test_it_does_nothing_in_time() -> None:
    async with timeout(3600) as scope:
        await runtime.sleep(0)
    assert not scope.expired()
    assert me().cancelling() == 0
    assert "finished" in repr(scope)
    loop = runtime.get_running_loop()
    assert not loop._timers.pending()


async def test_it_cancels_and_raises_after_its_time() -> None:
    with pytest.raises(TimeoutError) as caught:
        async with timeout(0.001) as scope:
            await runtime.sleep(3600)
    assert isinstance(caught.value.__cause__, runtime.CancelledError)
    assert scope.expired()
    assert me().cancelling() == 0
    assert "expired" in repr(scope)
    await runtime.sleep(0)


@pytest.mark.parametrize("delay", [0, -1])
async def test_no_time_lets_the_body_run_up_to_its_first_suspension(delay: float) -> None:
    steps = []
    with pytest.raises(TimeoutError):
        async with timeout(delay):
            steps.append(1)
            await runtime.sleep(3600)
            steps.append(2)
    assert steps == [1]


async def test_no_limit() -> None:
    async with timeout(None) as scope:
        assert scope.when() is None
        await runtime.sleep(0)
    async with timeout_at(None) as scope:
        assert scope.when() is None
        assert "when=None" in repr(scope)


async def test_at_a_moment() -> None:
    loop = runtime.get_running_loop()
    when = loop.time() + 0.001
    with pytest.raises(TimeoutError):
        async with timeout_at(when) as scope:
            assert scope.when() == when
            await runtime.sleep(3600)
    assert loop.time() >= when


async def test_a_deadline_can_be_moved() -> None:
    loop = runtime.get_running_loop()
    async with timeout(3600) as scope:
        scope.reschedule(None)
        assert scope.when() is None
        later = loop.time() + 3600
        scope.reschedule(later)
        assert scope.when() == later
    with pytest.raises(TimeoutError):
        async with timeout(None) as scope:
            scope.reschedule(loop.time() + 0.001)
            await runtime.sleep(3600)
    with pytest.raises(TimeoutError):
        async with timeout(3600) as scope:
            scope.reschedule(loop.time() - 1)
            await runtime.sleep(3600)
    async with timeout(0.001) as scope:
        scope.reschedule(None)
        await runtime.sleep(0.005)
    assert not scope.expired()


async def test_wrong_uses_are_refused() -> None:
    scope = timeout(3600)
    assert "created" in repr(scope)
    with pytest.raises(RuntimeError, match="not been entered"):
        scope.reschedule(1.0)
    async with scope:
        with pytest.raises(RuntimeError, match="already been entered"):
            async with scope:
                raise AssertionError("unreachable")
    with pytest.raises(RuntimeError, match="finished"):
        scope.reschedule(1.0)
    with pytest.raises(RuntimeError, match="already been entered"):
        async with scope:
            raise AssertionError("unreachable")
    with pytest.raises(TimeoutError):
        async with timeout(0) as scope:
            try:
                await runtime.sleep(3600)
            finally:
                with pytest.raises(RuntimeError, match="expiring"):
                    scope.reschedule(None)
    with pytest.raises(RuntimeError, match="expired"):
        scope.reschedule(None)


def test_outside_of_a_loop_or_a_task() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        timeout(1)
    loop = runtime.new_event_loop()
    refused: list[BaseException] = []

    def enter() -> None:
        try:
            Timeout(None).__aenter__().send(None)
        except RuntimeError as error:
            refused.append(error)
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert "task" in str(refused[0])


async def test_the_inner_one_expires_first() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(3600) as outer, timeout(0.001) as inner:
            await runtime.sleep(3600)
    assert inner.expired()
    assert not outer.expired()


async def test_the_outer_one_expires_first() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(0.001) as outer, timeout(3600) as inner:
            await runtime.sleep(3600)
    assert outer.expired()
    assert not inner.expired()
    assert me().cancelling() == 0


async def test_both_expire_in_one_turn() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(0) as outer, timeout(0) as inner:
            await runtime.sleep(3600)
    assert outer.expired()
    assert inner.expired()
    assert me().cancelling() == 0


async def test_a_timeout_that_was_handled_inside_leaves_the_outer_one_working() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(3600) as outer:
            with pytest.raises(TimeoutError):
                async with timeout(0.001):
                    await runtime.sleep(3600)
            outer.reschedule(0.0)
            await runtime.sleep(3600)
    assert outer.expired()


@pytest.mark.parametrize("order", ["cancel first", "deadline first"])
async def test_a_cancellation_beside_the_deadline_prevails(order: str) -> None:
    async def work() -> None:
        async with timeout(3600) as scope:
            if order == "cancel first":
                me().cancel("by others")
                scope.reschedule(0.0)
            else:
                scope.reschedule(0.0)
                runtime.get_running_loop().call_soon(me().cancel)
            try:
                await runtime.sleep(3600)
            finally:
                await turns(3)

    task = runtime.create_task(work())
    with pytest.raises(runtime.CancelledError):
        await task
    assert task.cancelled()
    assert task.cancelling() == 1


async def test_a_cancellation_that_was_asked_for_before_is_not_its_own() -> None:
    async def work() -> bool:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            pass
        with pytest.raises(TimeoutError):
            async with timeout(0.001):
                await runtime.sleep(3600)
        assert me().cancelling() == 1
        return True

    task = runtime.create_task(work())
    await wait_all_tasks_blocked()
    task.cancel()
    assert await task


async def test_a_body_that_swallows_the_cancellation_is_left_alone() -> None:
    async with timeout(0.001) as scope:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            pass
    assert scope.expired()
    assert me().cancelling() == 0
    await runtime.sleep(0)


async def test_a_body_that_ends_before_the_cancellation_is_raised() -> None:
    """The deadline comes while the task is queued to run: nothing of it is left afterwards."""
    loop = runtime.get_running_loop()
    future = loop.create_future()
    async with timeout(3600) as scope:
        loop.call_soon(future.set_result, 1)
        scope.reschedule(0.0)
        try:
            await future
        except runtime.CancelledError:
            pass
    assert scope.expired()
    assert me().cancelling() == 0
    await runtime.sleep(0)


async def test_other_exceptions_pass_with_the_timeout_in_their_context() -> None:
    with pytest.raises(LookupError) as caught:
        async with timeout(0.001):
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                raise LookupError("while cleaning up")  # noqa: B904  # the test is about its context
    context = caught.value.__context__
    assert isinstance(context, TimeoutError)
    assert isinstance(context.__cause__, runtime.CancelledError)


async def test_the_timeout_is_between_the_cancellation_and_its_consequence() -> None:
    with pytest.raises(LookupError) as caught:
        async with timeout(0):
            try:
                try:
                    await runtime.sleep(3600)
                except runtime.CancelledError as cancelled:
                    raise ValueError("caused by it") from cancelled
            except ValueError:
                raise LookupError("while handling that")  # noqa: B904  # the context matters
    value_error = caught.value.__context__
    assert isinstance(value_error, ValueError)
    assert isinstance(value_error.__context__, TimeoutError)
    assert value_error.__cause__ is value_error.__context__
    assert isinstance(value_error.__context__.__cause__, runtime.CancelledError)


async def test_an_exception_that_has_nothing_to_do_with_the_cancellation_is_left_alone() -> None:
    with pytest.raises(LookupError) as caught:
        async with timeout(0) as scope:
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                pass
            raise LookupError
    assert caught.value.__context__ is None
    assert scope.expired()
    assert me().cancelling() == 0


async def test_exception_groups_pass_with_the_timeout_in_the_context_of_each() -> None:
    async def clean_up_badly() -> None:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            raise LookupError("while cleaning up")  # noqa: B904  # the test is about its context

    with pytest.raises(ExceptionGroup) as caught:
        async with timeout(0.001), runtime.TaskGroup() as group:
            group.create_task(clean_up_badly())
            await runtime.sleep(3600)
    (error,) = caught.value.exceptions
    assert isinstance(error, LookupError)
    assert isinstance(error.__context__, TimeoutError)
    assert me().cancelling() == 0


async def test_a_foreign_task_can_use_it() -> None:
    async def work() -> str:
        try:
            async with timeout(0.001):
                await runtime.sleep(3600)
        except TimeoutError:
            return "expired"
        raise AssertionError("unreachable")

    loop = asyncio.get_running_loop()
    assert await asyncio.Task(work(), loop=loop) == "expired"


async def test_a_cancelled_body_that_was_in_time_is_cancelled() -> None:
    async def work() -> None:
        async with timeout(3600):
            await runtime.sleep(3600)

    task = runtime.create_task(work())
    await wait_all_tasks_blocked()
    task.cancel("by others")
    with pytest.raises(runtime.CancelledError, match="by others"):
        await task

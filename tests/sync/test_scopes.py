"""Cancel scopes: what each ``await`` in them does, and how they are left."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import weakref
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import Log, never, turns

pytestmark = pytest.mark.runtime(clock="virtual")


def requests() -> int:
    task = runtime.current_task()
    assert task is not None
    return task.cancelling()


async def is_cancelled() -> bool:
    """Return whether a wait is interrupted here."""
    try:
        await runtime.sleep(0.25)
    except runtime.CancelledError:
        return True
    return False


# -- Cancelling ------------------------------------------------------------------------------------


async def test_a_scope_that_is_not_cancelled_does_nothing() -> None:
    with runtime.CancelScope() as scope:
        await runtime.sleep(1)
    assert not scope.cancel_called
    assert not scope.cancelled_caught
    assert scope.cancel_reason is None
    assert requests() == 0


async def test_every_wait_is_interrupted_until_the_scope_is_left() -> None:
    interrupted = 0
    with runtime.CancelScope() as scope:
        scope.cancel()
        assert scope.cancel_called
        try:
            await runtime.sleep(1)
        except runtime.CancelledError:
            interrupted += 1
        try:
            await runtime.sleep(0)
        except runtime.CancelledError:
            interrupted += 1
        try:
            await runtime.get_running_loop().create_future()
        except runtime.CancelledError:
            interrupted += 1
        await runtime.sleep_forever()
    assert interrupted == 3
    assert scope.cancelled_caught
    assert not await is_cancelled()
    assert requests() == 0


async def test_a_task_that_waits_is_interrupted_at_once() -> None:
    scope = runtime.CancelScope()

    async def wait() -> float:
        with scope:
            await never()
        return runtime.get_running_loop().time()

    task = runtime.create_task(wait())
    await wait_all_tasks_blocked()
    began = runtime.get_running_loop().time()
    scope.cancel()
    assert await task == began


async def test_a_block_that_ends_by_itself_is_not_caught() -> None:
    with runtime.CancelScope() as scope:
        scope.cancel()
    assert scope.cancel_called
    assert not scope.cancelled_caught
    assert not await is_cancelled()


async def test_a_result_that_is_there_already_is_kept() -> None:
    """As ``suspend``, a wait that has ended gives its result; the next one is interrupted."""
    loop = runtime.get_running_loop()
    future: runtime.Future[str] = loop.create_future()
    log = Log()

    async def wait(scope: runtime.CancelScope) -> None:
        with scope:
            log.add(await future)
            log.add("interrupted", await is_cancelled())

    scope = runtime.CancelScope()
    task = runtime.create_task(wait(scope))
    await runtime.sleep(0)
    future.set_result("result")
    scope.cancel()
    await task
    assert log == ["result", "interrupted True"]


async def test_a_result_of_asyncios_future_that_is_there_already_is_kept() -> None:
    loop: Any = runtime.get_running_loop()
    future: asyncio.Future[str] = asyncio.Future(loop=loop)
    scope = runtime.CancelScope()

    async def wait() -> tuple[str, bool]:
        with scope:
            return await future, await is_cancelled()
        raise AssertionError

    task = runtime.create_task(wait())
    await turns()
    future.set_result("result")
    scope.cancel()
    assert await task == ("result", True)


async def test_asyncios_future_is_cancelled() -> None:
    loop: Any = runtime.get_running_loop()
    future: asyncio.Future[str] = asyncio.Future(loop=loop)
    with runtime.CancelScope() as scope:
        runtime.get_running_loop().call_later(1, scope.cancel, "no more")
        with pytest.raises(runtime.CancelledError) as caught:
            await future
    assert future.cancelled()
    assert str(caught.value) == ""
    reason = runtime.cancel_reason(caught.value)
    assert reason is not None
    assert reason.text == "no more"


async def test_a_future_that_refuses_is_waited_for() -> None:
    class Stubborn(runtime.Future[str]):
        def cancel(self, msg: Any = None) -> bool:
            return False

    future = Stubborn()
    runtime.get_running_loop().call_later(2, future.set_result, "late")
    with runtime.move_on_after(1) as scope:
        assert await future == "late"
        assert await is_cancelled()
    assert not scope.cancelled_caught


async def test_a_task_that_has_not_begun_runs_up_to_its_first_wait() -> None:
    log = Log()

    async def child() -> None:
        log.add("begun")
        await never()

    with runtime.CancelScope() as scope:
        async with runtime.TaskGroup() as group:
            group.create_task(child())
            scope.cancel()
    assert log == ["begun"]


async def test_a_task_that_yields_is_interrupted_there() -> None:
    scope = runtime.CancelScope()

    async def spin() -> int:
        count = 0
        with scope:
            while True:
                await runtime.sleep(0)
                count += 1
        return count

    task = runtime.create_task(spin())
    await turns(3)
    scope.cancel()
    assert await task in (2, 3)


async def test_it_is_cancelled_before_it_is_entered() -> None:
    scope = runtime.CancelScope()
    scope.cancel("too early")
    with scope:
        await never()
    assert scope.cancelled_caught


async def test_it_is_cancelled_twice() -> None:
    with runtime.CancelScope() as scope:
        scope.cancel("first")
        scope.cancel("second")
        await never()
    assert scope.cancel_reason is not None
    assert scope.cancel_reason.text == "first"


async def test_after_it_was_left_cancel_does_nothing() -> None:
    with runtime.CancelScope() as scope:
        pass
    scope.cancel()
    assert not scope.cancel_called
    assert not await is_cancelled()


async def test_other_exceptions_pass() -> None:
    with pytest.raises(LookupError), runtime.CancelScope() as scope:
        scope.cancel()
        raise LookupError
    assert not scope.cancelled_caught
    with pytest.raises(runtime.CancelledError), runtime.CancelScope() as scope:
        raise runtime.CancelledError("of the program")
    assert requests() == 0


async def test_an_exception_instead_of_the_cancellation_passes() -> None:
    with pytest.raises(LookupError) as caught, runtime.CancelScope() as scope:
        scope.cancel()
        try:
            await never()
        finally:
            raise LookupError
    assert isinstance(caught.value.__context__, runtime.CancelledError)
    assert not await is_cancelled()


async def test_a_group_of_cancellations_ends_at_the_scope() -> None:
    with runtime.CancelScope() as scope:
        scope.cancel()
        raise BaseExceptionGroup("", [runtime.CancelledError(), runtime.CancelledError()])
    assert scope.cancelled_caught


async def test_the_rest_of_a_group_goes_on() -> None:
    with pytest.raises(ExceptionGroup) as caught, runtime.CancelScope() as scope:
        scope.cancel()
        raise BaseExceptionGroup("mixed", [runtime.CancelledError(), ValueError("of a task")])
    assert [str(error) for error in caught.value.exceptions] == ["of a task"]
    assert scope.cancelled_caught


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_exceptions_that_end_a_program_pass(kind: type[BaseException]) -> None:
    with pytest.raises(kind), runtime.CancelScope() as scope:
        scope.cancel()
        raise kind
    assert requests() == 0


async def test_a_scope_and_its_task_leave_no_cycle() -> None:
    class Local:
        pass

    async def fail(local: Local) -> None:
        with runtime.fail_after(1):
            await never()

    gc.collect()
    gc.disable()
    try:
        local = Local()
        task = runtime.create_task(fail(local))
        with pytest.raises(TimeoutError):
            await task
        gone = weakref.ref(local)
        del task, local
        await runtime.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


async def test_a_scope_can_be_referred_to_weakly() -> None:
    scope = runtime.CancelScope()
    reference = weakref.ref(scope)
    assert reference() is scope


# -- Nesting ---------------------------------------------------------------------------------------


async def test_the_outer_scope_reaches_through_the_inner_one() -> None:
    with runtime.CancelScope() as outer:
        with runtime.CancelScope() as inner:
            outer.cancel()
            await never()
        raise AssertionError("the inner scope must not end it")
    assert outer.cancelled_caught
    assert not inner.cancel_called
    assert not inner.cancelled_caught


async def test_the_inner_scope_leaves_the_outer_one_alone() -> None:
    with runtime.CancelScope() as outer:
        with runtime.CancelScope() as inner:
            inner.cancel()
            await never()
        assert inner.cancelled_caught
        assert not await is_cancelled()
    assert not outer.cancelled_caught


async def test_both_are_cancelled_and_the_outer_one_catches() -> None:
    with runtime.CancelScope() as outer:
        with runtime.CancelScope() as inner:
            inner.cancel()
            outer.cancel()
            await never()
        raise AssertionError
    assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)
    assert requests() == 0


async def test_a_shield_protects_its_block_only() -> None:
    with runtime.CancelScope() as outer:
        outer.cancel()
        assert requests() == 1
        with runtime.CancelScope(shield=True):
            assert requests() == 0
            assert not await is_cancelled()
        assert requests() == 1
        assert await is_cancelled()
    assert requests() == 0


async def test_a_shield_with_a_deadline_bounds_clean_up() -> None:
    time = runtime.get_running_loop().time
    began = time()
    with runtime.move_on_after(1) as outer:
        try:
            await never()
        finally:
            with runtime.move_on_after(2, shield=True) as bound:
                await never()
    assert time() == began + 3
    assert bound.cancelled_caught
    assert outer.cancelled_caught


async def test_a_wait_in_a_shield_goes_on_when_the_outer_scope_is_cancelled() -> None:
    scope = runtime.CancelScope()
    log = Log()

    async def work() -> None:
        with scope:
            with runtime.CancelScope(shield=True):
                await runtime.sleep(1)
                log.add("done")
            await never()

    task = runtime.create_task(work())
    await runtime.sleep(0.5)
    scope.cancel()
    await task
    assert log == ["done"]


async def test_the_shield_is_set_and_removed_while_it_is_in_force() -> None:
    with runtime.CancelScope() as outer, runtime.CancelScope() as inner:
        outer.cancel()
        inner.shield = True
        assert inner.shield
        assert not await is_cancelled()
        inner.shield = False
        assert await is_cancelled()
        await never()
    assert outer.cancelled_caught


async def test_a_shield_that_is_removed_lets_the_cancellation_through_at_once() -> None:
    outer, inner = runtime.CancelScope(), runtime.CancelScope(shield=True)

    async def work() -> bool:
        with outer, inner:
            await never()
        return outer.cancelled_caught

    task = runtime.create_task(work())
    await wait_all_tasks_blocked()
    outer.cancel()
    await wait_all_tasks_blocked()
    assert not task.done()
    inner.shield = False
    assert await task


async def test_many_scopes() -> None:
    scopes = [runtime.CancelScope() for _ in range(3000)]
    for scope in scopes:
        scope.__enter__()
    scopes[0].cancel()
    with pytest.raises(runtime.CancelledError) as caught:
        await never()
    for scope in reversed(scopes[1:]):
        assert not scope.__exit__(runtime.CancelledError, caught.value, None)
    assert scopes[0].__exit__(runtime.CancelledError, caught.value, None)
    assert requests() == 0


# -- Deadlines -------------------------------------------------------------------------------------


async def test_move_on() -> None:
    time = runtime.get_running_loop().time
    began = time()
    with runtime.move_on_after(2) as after:
        await never()
    with runtime.move_on_at(began + 5) as at:
        await never()
    assert after.cancelled_caught
    assert at.cancelled_caught
    assert time() == began + 5
    with runtime.move_on_after(math.inf) as scope:
        await runtime.sleep(10)
    assert not scope.cancel_called


async def test_fail() -> None:
    time = runtime.get_running_loop().time
    began = time()
    with pytest.raises(TimeoutError) as caught, runtime.fail_after(2):
        await never()
    assert isinstance(caught.value.__cause__, runtime.CancelledError)
    with pytest.raises(TimeoutError), runtime.fail_at(began + 5):
        await never()
    assert time() == began + 5
    with runtime.fail_after(1):
        pass
    with runtime.fail_after(1) as scope:
        scope.cancel()
        await never()
    assert scope.cancelled_caught


async def test_a_timeout_inside_fails_first() -> None:
    with runtime.move_on_after(2) as scope, pytest.raises(TimeoutError):
        async with runtime.timeout(1):
            await never()
    assert not scope.cancel_called


async def test_a_deadline_in_the_past_interrupts_the_first_wait() -> None:
    log = Log()
    for seconds in (0, -1, -math.inf):
        with runtime.move_on_after(seconds) as scope:
            log.add("begun")
            await runtime.sleep(0)
        assert scope.cancelled_caught
    assert log == ["begun"] * 3


async def test_the_deadline_is_moved() -> None:
    time = runtime.get_running_loop().time
    began = time()
    with runtime.move_on_after(1) as scope:
        assert scope.deadline == began + 1
        scope.deadline += 2
        await runtime.sleep(2)
        scope.deadline = began + 2.5
        await never()
    assert time() == began + 2.5
    with runtime.move_on_after(1) as scope:
        scope.deadline = math.inf
        await runtime.sleep(5)
        scope.deadline = time() - 1
        assert scope.cancel_called
        assert await is_cancelled()
    with runtime.CancelScope() as scope:
        scope.deadline = time() + 1
        await never()
    assert scope.cancelled_caught


async def test_a_deadline_that_has_passed_while_the_loop_was_busy() -> None:
    loop = runtime.get_running_loop()
    with runtime.move_on_after(1) as scope:
        clock: Any = loop.time
        clock._jump(loop.time() + 2)
        assert scope.cancel_called
        assert await is_cancelled()


async def test_the_deadline_of_a_scope_that_was_left_is_no_timer() -> None:
    with runtime.move_on_after(1):
        pass
    assert runtime.get_running_loop()._timers.pending() == []


async def test_the_current_effective_deadline() -> None:
    deadline = runtime.current_effective_deadline
    assert deadline() == math.inf
    with runtime.move_on_at(100), runtime.CancelScope() as inner:
        assert deadline() == 100
        with runtime.move_on_at(50):
            assert deadline() == 50
        with runtime.move_on_at(200):
            assert deadline() == 100
            with runtime.move_on_at(150, shield=True):
                assert deadline() == 150
        inner.cancel()
        assert deadline() == -math.inf
        with runtime.CancelScope(shield=True):
            assert deadline() == math.inf
    found = []
    runtime.get_running_loop().call_soon(lambda: found.append(deadline()))
    await runtime.sleep(0)
    assert found == [math.inf]


# -- Groups ----------------------------------------------------------------------------------------


async def test_tasks_of_a_group_inherit_the_scope() -> None:
    log = Log()

    async def child(number: int) -> None:
        with runtime.CancelScope():
            try:
                await never()
            finally:
                log.add(number, requests(), await is_cancelled())

    with runtime.move_on_after(1) as scope:
        async with runtime.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(number))
    assert scope.cancelled_caught
    assert sorted(log) == ["0 1 True", "1 1 True", "2 1 True"]


async def test_other_tasks_do_not_inherit_the_scope() -> None:
    with runtime.CancelScope() as scope:
        task = runtime.create_task(is_cancelled())
        scope.cancel()
    assert not await task


async def test_tasks_of_nested_groups() -> None:
    ended = []

    async def leaf(number: int) -> None:
        try:
            await never()
        finally:
            ended.append(number)

    async def branch(number: int) -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(leaf(2 * number))
            group.create_task(leaf(2 * number + 1))

    with runtime.move_on_after(1):
        async with runtime.TaskGroup() as group:
            group.create_task(branch(0))
            group.create_task(branch(1))
    assert sorted(ended) == [0, 1, 2, 3]


async def test_the_scope_of_a_group() -> None:
    log = Log()

    async def child() -> None:
        try:
            await never()
        finally:
            log.add("interrupted", await is_cancelled())

    async with runtime.TaskGroup() as group:
        group.create_task(child())
        await runtime.sleep(1)
        group.cancel_scope.cancel()
        await never()
    assert log == ["interrupted True"]
    assert group.cancel_scope.cancelled_caught
    assert requests() == 0
    group = runtime.TaskGroup()
    group.cancel_scope.deadline = runtime.get_running_loop().time() + 1
    async with group:
        group.create_task(never())
    assert group.cancel_scope.cancelled_caught


async def test_a_new_task_of_a_cancelled_group_is_cancelled() -> None:
    async def child() -> bool:
        return await is_cancelled()

    async with runtime.TaskGroup() as group:
        group.cancel_scope.cancel()
        later = group.create_task(child())
        eager = group.create_task(child(), eager_start=True)
        await never()
    assert later.result()
    assert eager.result()


async def test_an_eager_task_cancels_the_scope_of_its_group() -> None:
    group = runtime.TaskGroup()

    async def child() -> bool:
        group.cancel_scope.cancel()
        return await is_cancelled()

    async with group:
        task = group.create_task(child(), eager_start=True)
    assert task.result()


async def test_a_cancelled_group_that_is_left_before_a_group_inside_it() -> None:
    outer = runtime.TaskGroup()
    inner = runtime.TaskGroup()
    await outer.__aenter__()
    await inner.__aenter__()
    outer.create_task(never())
    inner.create_task(runtime.sleep(1))
    outer.cancel_scope.cancel()
    await outer.__aexit__(None, None, None)
    assert outer.cancel_scope.cancelled_caught
    assert requests() == 0
    await runtime.sleep(1)
    await inner.__aexit__(None, None, None)


async def test_a_child_in_a_shield_is_not_interrupted() -> None:
    log = Log()

    async def child() -> None:
        with runtime.CancelScope(shield=True):
            await runtime.sleep(3)
            log.add("saved")
        await never()

    with runtime.move_on_after(1) as scope:
        async with runtime.TaskGroup() as group:
            group.create_task(child())
    assert log == ["saved"]
    assert scope.cancelled_caught


async def test_a_failing_sibling_waits_for_a_shield() -> None:
    """The request of the group is made when the shield is left: in tasks, and in the body."""
    log = Log()

    async def child() -> None:
        with runtime.CancelScope(shield=True):
            await runtime.sleep(3)
            log.add("child saved")
        await never()

    async def fail() -> None:
        await runtime.sleep(1)
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with runtime.TaskGroup() as group:
            group.create_task(child())
            group.create_task(fail())
            with runtime.CancelScope(shield=True):
                await runtime.sleep(2)
                log.add("body saved")
            log.add("interrupted", await is_cancelled())
            await never()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert log == ["body saved", "interrupted True", "child saved"]
    assert requests() == 0


async def test_a_failure_in_a_cancelled_group_is_raised() -> None:
    async def fail() -> None:
        try:
            await never()
        finally:
            raise LookupError

    with pytest.raises(ExceptionGroup), runtime.move_on_after(1) as scope:
        async with runtime.TaskGroup() as group:
            group.create_task(fail())
    assert scope.cancel_called
    assert not await is_cancelled()
    assert requests() == 0


async def test_tasks_of_another_class_are_cancelled_once() -> None:
    loop = runtime.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    log = Log()

    async def child() -> None:
        try:
            await never()
        finally:
            log.add("interrupted", await is_cancelled())

    try:
        with runtime.move_on_after(1) as scope:
            async with runtime.TaskGroup() as group:
                group.create_task(child())
    finally:
        loop.set_task_factory(None)
    assert log == ["interrupted False"]
    assert scope.cancelled_caught


async def test_a_task_of_another_class_cannot_enter_a_scope_but_a_group() -> None:
    async def enter() -> str:
        async with runtime.TaskGroup() as group:
            group.create_task(runtime.sleep(0))
        with pytest.raises(RuntimeError) as caught:
            runtime.CancelScope().__enter__()
        return str(caught.value)

    loop: Any = runtime.get_running_loop()
    assert "can only be entered in a task of runtime, and Task-" in await asyncio.Task(
        enter(), loop=loop
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's eager tasks are new in 3.12")
async def test_an_eager_task_of_asyncio_cannot_enter_a_scope() -> None:
    """It runs inside a task of this package, whose scopes are not its own."""

    async def enter() -> str:
        with pytest.raises(RuntimeError) as caught:
            runtime.CancelScope().__enter__()
        await runtime.sleep(1)
        return str(caught.value)

    new_task: Any = asyncio.Task
    with runtime.CancelScope() as scope:
        task = new_task(enter(), loop=runtime.get_running_loop(), eager_start=True)
        scope.cancel()
        await never()
    assert scope.cancelled_caught
    assert "can only be entered in a task of runtime, and Task-" in await task

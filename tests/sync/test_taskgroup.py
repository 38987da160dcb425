from __future__ import annotations

import contextlib
import contextvars
import gc
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import runtime
from runtime.sync.taskgroup import TaskGroup
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import (
    assert_cancelled,
    collect_reports,
    fail,
    give,
    never,
    turns,
)


def me() -> runtime.Task[object]:
    task = runtime.current_task()
    assert task is not None
    return task


async def test_it_waits_for_its_tasks() -> None:
    async with TaskGroup() as group:
        tasks = [group.create_task(give(number, 3 * number + 1)) for number in range(3)]
        assert "tasks=3" in repr(group)
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert me().cancelling() == 0


async def test_an_empty_group_ends_at_once() -> None:
    async with TaskGroup():
        pass


async def test_tasks_can_add_tasks() -> None:
    results = []

    async def spread(group: TaskGroup, depth: int) -> None:
        results.append(depth)
        await runtime.sleep(0)
        if depth:
            group.create_task(spread(group, depth - 1))

    async with TaskGroup() as group:
        group.create_task(spread(group, 3))
    assert results == [3, 2, 1, 0]


async def test_one_failure_cancels_the_others_and_the_body() -> None:
    cleaned = []

    async def slow() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await runtime.sleep(0)
            cleaned.append("task")

    error = LookupError("x")
    with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup") as caught:
        async with TaskGroup() as group:
            group.create_task(slow())
            group.create_task(fail(error))
            try:
                await runtime.sleep(3600)
            finally:
                cleaned.append("body")
    assert caught.value.exceptions == (error,)
    assert cleaned == ["body", "task"]
    assert me().cancelling() == 0


@pytest.mark.parametrize("by", ["failure", "scope"])
async def test_tasks_are_cancelled_in_the_order_of_their_creation(by: str) -> None:
    cancelled: list[int] = []

    async def wait(number: int) -> None:
        try:
            await never()
        finally:
            cancelled.append(number)

    with contextlib.suppress(ExceptionGroup), runtime.CancelScope() as scope:
        async with TaskGroup() as group:
            for number in range(30):
                group.create_task(wait(number))
            await wait_all_tasks_blocked()
            if by == "failure":
                group.create_task(fail(LookupError()))
            else:
                scope.cancel()
    assert cancelled == list(range(30))


async def test_all_failures_are_raised_together() -> None:
    errors = [LookupError("a"), ValueError("b"), TypeError("body")]
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.create_task(fail(errors[0]))
            group.create_task(fail(errors[1]))
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                raise errors[2] from None
    assert set(caught.value.exceptions) == set(errors)


async def test_a_failing_body_cancels_the_tasks() -> None:
    tasks = []
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            tasks.append(group.create_task(never()))
            await runtime.sleep(0)
            raise LookupError("body")
    assert [str(error) for error in caught.value.exceptions] == ["body"]
    assert tasks[0].cancelled()


async def test_a_cancelled_task_is_no_failure() -> None:
    async with TaskGroup() as group:
        task = group.create_task(never())
        other = group.create_task(give(2))
        await runtime.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert other.result() == 2


@pytest.mark.parametrize("where", ["body", "exit"])
async def test_cancelling_the_parent_cancels_the_tasks(where: str) -> None:
    tasks: list[runtime.Task[Any]] = []

    async def parent() -> None:
        async with TaskGroup() as group:
            tasks.append(group.create_task(never()))
            if where == "body":
                await runtime.sleep(3600)

    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    task.cancel("enough")
    with pytest.raises(runtime.CancelledError, match="enough"):
        await task
    assert tasks[0].cancelled()
    assert task.cancelling() == 1


async def test_cancelled_again_while_the_tasks_clean_up() -> None:
    async def slow() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await turns(5)

    async def parent() -> None:
        async with TaskGroup() as group:
            group.create_task(slow())

    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    for _ in range(3):
        task.cancel()
        await turns(1)
    await assert_cancelled(task)
    assert task.cancelling() == 3


async def test_failures_prevail_over_a_cancellation_which_comes_at_the_next_await() -> None:
    async def bad_clean_up() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise LookupError("in clean-up")

    async def parent() -> str:
        with pytest.raises(ExceptionGroup):
            async with TaskGroup() as group:
                group.create_task(bad_clean_up())
                await runtime.sleep(3600)
        assert me().cancelling() == 1
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            return "cancelled at the next await"
        raise AssertionError("unreachable")

    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    task.cancel()
    assert await task == "cancelled at the next await"


async def test_a_failure_and_a_cancellation_from_outside() -> None:
    async def parent() -> None:
        async with TaskGroup() as group:
            group.create_task(fail(LookupError("x"), 5))
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                me().cancel("from outside")
                raise

    task = runtime.create_task(parent())
    with pytest.raises(ExceptionGroup):
        await task
    assert task.cancelling() == 1


async def test_a_body_that_swallows_the_groups_cancellation() -> None:
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.create_task(fail(LookupError("x")))
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                pass
    assert me().cancelling() == 0
    await runtime.sleep(0)


async def test_a_task_that_swallows_its_cancellation_is_waited_for() -> None:
    async def stubborn() -> str:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            await turns(5)
        return "my way"

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            task = group.create_task(stubborn())
            await runtime.sleep(0)
            group.create_task(fail(LookupError("x")))
    assert len(caught.value.exceptions) == 1
    assert task.result() == "my way"


async def test_groups_inside_groups() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as outer:
            outer.create_task(fail(LookupError("outer"), 5))
            async with TaskGroup() as inner:
                inner.create_task(never())
    assert [str(error) for error in caught.value.exceptions] == ["outer"]
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as outer:
            slow = outer.create_task(never())
            async with TaskGroup() as inner:
                inner.create_task(fail(LookupError("inner")))
    (nested,) = caught.value.exceptions
    assert isinstance(nested, ExceptionGroup)
    assert slow.cancelled()
    assert me().cancelling() == 0


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
async def test_fatal_errors_of_the_body_are_raised_as_they_are(fatal: type[BaseException]) -> None:
    tasks = []
    with pytest.raises(fatal):
        async with TaskGroup() as group:
            tasks.append(group.create_task(never()))
            await runtime.sleep(0)
            raise fatal
    assert tasks[0].cancelled()


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_fatal_errors_of_a_task_prevail(fatal: type[BaseException]) -> None:
    loop = runtime.new_event_loop()

    async def fatal_task() -> None:
        raise fatal

    async def main() -> None:
        async with TaskGroup() as group:
            group.create_task(fail(LookupError()))
            group.create_task(fatal_task())

    task = loop.create_task(main())
    with pytest.raises(fatal):
        loop.run_until_complete(task)
    with pytest.raises(fatal):
        loop.run_until_complete(task)
    loop.close()


class Unprintable(SystemExit):
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, Unprintable])
async def test_exceptions_superseded_by_a_fatal_error_are_reported(
    fatal: type[BaseException],
) -> None:
    reports = collect_reports()

    async def bad_clean_up() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise LookupError("in clean-up")

    with pytest.raises(fatal):
        async with TaskGroup() as group:
            group.create_task(bad_clean_up())
            await wait_all_tasks_blocked()
            raise fatal
    assert [str(report["exception"]) for report in reports] == ["in clean-up"]
    assert fatal.__name__ in reports[0]["message"]


def test_the_fatal_error_of_a_task_is_not_reported_beside_being_raised() -> None:
    reports: list[Any] = []
    loop = runtime.new_event_loop()
    loop.set_exception_handler(lambda _loop, report: reports.append(report))

    async def main() -> None:
        async with TaskGroup() as group:
            group.create_task(fail(SystemExit(3), 0))

    task = loop.create_task(main())
    for _ in range(2):  # The task's exception leaves the loop first, and then the group.
        with pytest.raises(SystemExit):
            loop.run_until_complete(task)
    loop.close()
    gc.collect()
    assert reports == []


async def test_an_async_generator_that_holds_a_group_can_be_closed() -> None:
    tasks = []

    async def generate(clean_up: bool) -> AsyncGenerator[int, None]:
        async with TaskGroup() as group:
            tasks.append(group.create_task(never()))
            if not clean_up:
                group.create_task(bad_clean_up())
            await wait_all_tasks_blocked()
            yield 1

    async def bad_clean_up() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise LookupError("in clean-up")

    generator = generate(True)
    assert await anext(generator) == 1
    await generator.aclose()
    generator = generate(False)
    assert await anext(generator) == 1
    with pytest.raises(BaseExceptionGroup) as caught:
        await generator.aclose()
    assert [type(error) for error in caught.value.exceptions] == [LookupError, GeneratorExit]
    assert all(task.cancelled() for task in tasks)


async def test_base_exceptions_make_a_base_exception_group() -> None:
    class Special(BaseException):
        pass

    with pytest.raises(BaseExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.create_task(fail(Special()))
    assert not isinstance(caught.value, ExceptionGroup)


async def test_no_tasks_for_a_group_that_takes_none() -> None:
    group = TaskGroup()
    coro = give(1)
    with pytest.raises(RuntimeError, match="not been entered"):
        group.create_task(coro)
    with pytest.raises(RuntimeError, match="not been entered"):
        group.create_task(5)  # type: ignore[arg-type]
    async with group:
        assert "entered" in repr(group)
    late = give(2)
    with pytest.raises(RuntimeError, match="finished"):
        group.create_task(late)
    with pytest.raises(RuntimeError, match="already been entered"):
        await group.__aenter__()
    aborted = give(3)
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            slow = group.create_task(never())
            group.create_task(fail(LookupError()))
            try:
                await runtime.sleep(3600)
            finally:
                assert "cancelling" in repr(group)
                assert "errors=1" in repr(group)
                with pytest.raises(RuntimeError, match="shutting down"):
                    group.create_task(aborted)
    assert slow.cancelled()
    # All three coroutines were closed: they cannot be awaited, and do not warn that they never
    # were.
    for refused in (coro, late, aborted):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await refused


async def test_names_and_contexts() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def read() -> tuple[str, str]:
        return variable.get(), me().get_name()

    async with TaskGroup() as group:
        plain = group.create_task(read())
        special = group.create_task(read(), name="special", context=context)
    assert plain.result()[0] == "none"
    assert special.result() == ("given", "special")


async def test_tasks_that_end_when_they_start() -> None:
    async def at_once() -> str:
        return "quick"

    async def fails_at_once() -> None:
        raise LookupError("quick")

    async with TaskGroup() as group:
        task = group.create_task(at_once(), eager_start=True)
        assert task.done()
    assert task.result() == "quick"
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.create_task(fails_at_once(), eager_start=True)
            await runtime.sleep(3600)
    assert me().cancelling() == 0


async def test_a_failure_at_the_start_aborts_the_group_at_the_next_suspension() -> None:
    """Until then the body continues, and adds tasks, as it does when tasks start later."""
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.create_task(fail(LookupError("quick"), 0), eager_start=True)
            other = group.create_task(never(), eager_start=True)
            await runtime.sleep(3600)
    assert [str(error) for error in caught.value.exceptions] == ["quick"]
    assert other.cancelled()
    assert me().cancelling() == 0


@pytest.mark.parametrize("eager", [False, True])
async def test_a_task_whose_first_step_adds_a_failing_task_is_cancelled_too(eager: bool) -> None:
    async def parent_of_failing(group: TaskGroup) -> None:
        group.create_task(fail(LookupError("quick"), 0), eager_start=eager)
        await never()

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            task = group.create_task(parent_of_failing(group), eager_start=eager)
    assert [str(error) for error in caught.value.exceptions] == ["quick"]
    assert task.cancelled()


async def test_a_task_that_starts_at_once_and_suspends() -> None:
    async with TaskGroup() as group:
        task = group.create_task(give("later"), eager_start=True)
        assert not task.done()
    assert task.result() == "later"


async def test_a_group_that_ended_keeps_no_exception() -> None:
    class Failure(Exception):
        pass

    groups = []
    references = []
    try:
        async with TaskGroup() as group:
            groups.append(group)
            group.create_task(fail(Failure()))
            group.create_task(fail(Failure()))
            await runtime.sleep(3600)
    except* Failure as caught:
        references += [weakref.ref(error) for error in caught.exceptions]
    await wait_all_tasks_blocked()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


async def test_the_exception_of_the_body_is_in_no_cycle() -> None:
    class Failure(Exception):
        pass

    gc.collect()
    gc.disable()
    try:
        references = []
        try:
            async with TaskGroup():
                raise Failure
        except* Failure as caught:
            references += [weakref.ref(error) for error in caught.exceptions]
        await wait_all_tasks_blocked()
        assert [reference() for reference in references] == [None]
    finally:
        gc.enable()


def test_it_needs_a_task() -> None:
    with pytest.raises(RuntimeError):
        TaskGroup().__aenter__().send(None)
    loop = runtime.new_event_loop()
    refused: list[BaseException] = []

    def enter() -> None:
        try:
            TaskGroup().__aenter__().send(None)
        except RuntimeError as error:
            refused.append(error)
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert "parent task" in str(refused[0])


async def fail_when(gate: runtime.Future[None]) -> None:
    """Raise ValueError in the turn after the one in which ``gate`` is finished."""
    await gate
    raise ValueError


def finish_after_the_next_step(gate: runtime.Future[None]) -> None:
    """Finish ``gate`` so that a task that waits for it steps after a task that yields now."""
    runtime.get_running_loop().call_later(0, gate.set_result, None)


async def test_the_end_of_a_task_is_not_part_of_the_step_before_it() -> None:
    """It has the context of the body, however."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[object] = []

    class Noting(runtime.Task[Any]):
        def cancel(self, msg: Any = None) -> bool:
            seen.append((runtime.current_task(), variable.get("none")))
            return super().cancel(msg)

    loop = runtime.get_running_loop()
    gate: runtime.Future[None] = loop.create_future()
    loop.set_task_factory(lambda loop, coro, **options: Noting(coro, loop=loop, **options))
    try:
        with pytest.raises(ExceptionGroup):
            async with TaskGroup() as group:
                variable.set("body")
                group.create_task(never())
                group.create_task(fail_when(gate))
                await runtime.sleep(0)
                finish_after_the_next_step(gate)
                await turns(100)
    finally:
        loop.set_task_factory(None)
    assert seen == [(None, "body")]


async def test_a_failure_is_a_request_from_outside_for_a_body_in_a_cancelled_scope() -> None:
    """It is none of the scope, although the step before the end of the task is the body's."""
    log: list[str] = []
    gate: runtime.Future[None] = runtime.get_running_loop().create_future()
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.create_task(fail_when(gate))
            with runtime.CancelScope() as scope:
                scope.cancel()
                for turn in range(1000):
                    # The scope interrupts this some times only.
                    try:
                        await runtime.sleep(0)
                    except runtime.CancelledError:
                        if turn > 500:
                            raise
                    if turn == 0:
                        me().uncancel()
                    elif turn == 500:
                        finish_after_the_next_step(gate)
            log.append("the scope has ended the cancellation")
    assert log == []


async def test_an_exception_of_a_cancel_method_is_reported() -> None:
    reports = collect_reports()

    class Refusing(runtime.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            raise LookupError("refused")

    async def wait() -> None:
        await future

    async def parent() -> None:
        async with TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail(ValueError()))
            await never()

    future = Refusing()
    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    assert [str(report["exception"]) for report in reports] == ["refused"]
    future.set_result(None)
    task.cancel()
    with pytest.raises(ExceptionGroup):
        await task


async def test_an_error_after_the_parent_ended_is_reported() -> None:
    reports = collect_reports()

    async def parent() -> None:
        await TaskGroup_entered.__aenter__()
        TaskGroup_entered.create_task(fail(LookupError("late"), 5))

    TaskGroup_entered = TaskGroup()
    await runtime.create_task(parent())
    await wait_all_tasks_blocked()
    assert [str(report["exception"]) for report in reports] == ["late"]

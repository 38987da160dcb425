"""``TaskGroup.start`` and the daemons of a group."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

import runtime
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled
from tests.sync.tools import Log, collect_reports, never, turns

pytestmark = pytest.mark.runtime(clock="virtual")


async def serve(started: runtime.Started[int], value: int, log: Log) -> None:
    await runtime.sleep(1)
    log.add("starting")
    started(value)
    try:
        await never()
    finally:
        log.add("ended")


async def test_it_returns_the_value() -> None:
    log = Log()
    async with runtime.TaskGroup() as group:
        assert await group.start(serve, 7, log, name="server") == 7
        assert log == ["starting"]
        assert "server" in {task.get_name() for task in runtime.all_tasks()}
        group.cancel()
    assert log == ["starting", "ended"]


async def test_a_group_that_only_waits_for_a_starting_task_can_be_cancelled() -> None:
    log = Log()
    group = runtime.TaskGroup()

    async def body() -> None:
        async with group:
            group.create_task(runtime.sleep(0.5))

    waiting = runtime.create_task(body())
    await turns(1)
    starting = runtime.create_task(group.start(serve, 7, log))
    await runtime.sleep(0.75)
    group.cancel()
    await waiting
    assert await starting == 7
    assert log == ["starting", "ended"]


async def test_it_returns_none() -> None:
    async def work(started: runtime.Started[None]) -> None:
        started()

    async with runtime.TaskGroup() as group:
        results = await runtime.gather(group.start(work))
    assert list(results) == [None]


async def test_a_task_in_the_style_of_trio() -> None:
    async def work(value: int, *, task_status: Any) -> None:
        task_status.started(value)

    async def adapted(started: runtime.Started[int], value: int) -> None:
        await work(value, task_status=started)

    async with runtime.TaskGroup() as group:
        assert await group.start(adapted, 7) == 7


async def test_a_failure_before_is_raised_here() -> None:
    async def fail(started: runtime.Started[int]) -> None:
        await runtime.sleep(1)
        raise LookupError

    async with runtime.TaskGroup() as group:
        with pytest.raises(LookupError):
            await group.start(fail)
        await runtime.sleep(1)
        other = group.create_task(runtime.sleep(1, "still open"))
    assert other.result() == "still open"


async def test_a_failure_after_aborts_the_group() -> None:
    async def fail(started: runtime.Started[int]) -> None:
        started(1)
        await runtime.sleep(1)
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with runtime.TaskGroup() as group:
            await group.start(fail)
            await never()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


async def test_it_ends_without_a_call() -> None:
    async def forget(started: runtime.Started[int]) -> None:
        await runtime.sleep(0)

    async with runtime.TaskGroup() as group:
        with pytest.raises(RuntimeError, match=r"forget\(\) has ended, and has not called started"):
            await group.start(forget)


async def test_it_is_called_twice() -> None:
    async def work(started: runtime.Started[int]) -> None:
        started(1)
        with pytest.raises(RuntimeError, match=r"<Started of work\(\) called> was called before"):
            started(2)

    async with runtime.TaskGroup() as group:
        assert await group.start(work) == 1


async def test_a_group_that_takes_no_tasks() -> None:
    group = runtime.TaskGroup()
    with pytest.raises(RuntimeError, match="has not been entered"):
        await group.start(serve, 1, Log())
    async with group:
        pass
    with pytest.raises(RuntimeError, match="is finished"):
        await group.start(serve, 1, Log())


async def test_a_function_that_cannot_be_called() -> None:
    async with runtime.TaskGroup() as group:
        with pytest.raises(TypeError):
            await group.start(serve)  # type: ignore[arg-type]
        wrong: Any
        for wrong in (3, None):
            with pytest.raises(TypeError, match=r"start\(\) expected a coroutine function, got"):
                await group.start(wrong)
        wrong = runtime.sleep(1)
        with pytest.raises(TypeError, match=r"pass the function .* start\(sleep, ...\)"):
            await group.start(wrong)
        wrong = lambda started: 3  # noqa: E731
        with pytest.raises(TypeError, match="got <function .*, which returned 3"):
            await group.start(wrong)


async def test_the_caller_is_cancelled() -> None:
    log = Log()

    async def work(started: runtime.Started[int]) -> None:
        try:
            await never()
        finally:
            await runtime.sleep(1)
            log.add("cleaned up")
            started(1)

    async with runtime.TaskGroup() as group:
        starting = runtime.create_task(group.start(work))
        await turns()
        starting.cancel()
        with pytest.raises(runtime.CancelledError):
            await starting
        assert log == ["cleaned up"]


async def test_the_scope_of_the_caller_is_cancelled() -> None:
    log = Log()

    async def work(started: runtime.Started[int]) -> None:
        try:
            await never()
        finally:
            with runtime.CancelScope(shield=True):
                await runtime.sleep(1)
            log.add("cleaned up")

    async with runtime.TaskGroup() as group:
        with runtime.move_on_after(1) as scope:
            await group.start(work)
        assert scope.cancelled_caught
        assert log == ["cleaned up"]


async def test_a_task_starts_when_its_caller_was_just_cancelled() -> None:
    log = Log()

    async def work(started: runtime.Started[int], scope: runtime.CancelScope) -> None:
        try:
            await runtime.sleep(0)
            scope.cancel()
            started(1)
            await never()
        finally:
            log.add("ended")

    async with runtime.TaskGroup() as group:
        with runtime.CancelScope() as scope:
            await group.start(work, scope)
        assert scope.cancelled_caught
        assert log == ["ended"]


async def test_it_is_called_after_the_task_has_ended() -> None:
    kept: list[runtime.Started[int]] = []

    async def fail(started: runtime.Started[int]) -> None:
        kept.append(started)
        raise LookupError

    async with runtime.TaskGroup() as group:
        with pytest.raises(LookupError):
            await group.start(fail)
    assert repr(kept[0]).endswith(" ended>")
    with pytest.raises(RuntimeError, match="cannot be called any more: the task has ended"):
        kept[0](1)


@pytest.mark.parametrize("fails", [False, True])
async def test_the_caller_is_cancelled_when_the_task_has_started_or_failed(fails: bool) -> None:
    log = Log()

    async def begin(started: runtime.Started[str]) -> None:
        await runtime.sleep(1)
        main.get_loop().call_soon(main.cancel)
        if fails:
            raise LookupError("failed")
        started("started")

    async def call() -> None:
        async with runtime.TaskGroup() as group:
            try:
                value: str = await group.start(begin)
                log.add(value)
            except LookupError as error:
                log.add(error)
            await never()

    main = runtime.create_task(call())
    await runtime.wait([main])
    assert main.cancelled()
    assert log == ["failed" if fails else "started"]


async def test_after_the_start_it_is_in_the_scope_of_the_group() -> None:
    log = Log()
    async with runtime.TaskGroup() as group:
        with runtime.CancelScope() as scope:
            await group.start(serve, 1, log)
            scope.cancel()
            with pytest.raises(runtime.CancelledError):
                await runtime.sleep(0)
        await runtime.sleep(5)
        assert log == ["starting"]
        group.cancel_scope.cancel()
    assert log == ["starting", "ended"]


async def test_the_group_is_cancelled_while_the_task_starts() -> None:
    """The task belongs to the caller until it starts; then it is in the cancelled scope."""
    log = Log()
    group = runtime.TaskGroup()

    async def outside() -> int:
        return await group.start(serve, 1, log)

    async with group:
        starting = runtime.create_task(outside())
        await turns()
        group.cancel_scope.cancel()
    assert await starting == 1
    assert log == ["starting", "ended"]


async def test_the_group_waits_for_a_task_that_starts() -> None:
    log = Log()
    group = runtime.TaskGroup()

    async def outside() -> int:
        return await group.start(serve, 1, log)

    async with group:
        starting = runtime.create_task(outside())
        runtime.get_running_loop().call_later(3, group.cancel)
        await runtime.sleep(0)
    assert await starting == 1
    assert log == ["starting", "ended"]


async def test_a_failure_while_it_is_cancelled_is_raised_by_the_group() -> None:
    async def work(started: runtime.Started[int]) -> None:
        try:
            await never()
        finally:
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with runtime.TaskGroup() as group:
            with runtime.move_on_after(1):
                await group.start(work)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_task_that_does_not_start_leaves_no_cycle(fails: bool) -> None:
    async def begin(started: runtime.Started[int]) -> None:
        if fails:
            raise LookupError
        await never()

    async def call() -> None:
        async with runtime.TaskGroup() as group:
            with runtime.move_on_after(1), contextlib.suppress(LookupError):
                await group.start(begin)

    await runtime.create_task(call())
    gc.collect()
    gc.disable()
    try:
        await runtime.create_task(call())
        await turns()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_eager_tasks_start_at_once() -> None:
    async def work(started: runtime.Started[int]) -> None:
        started(1)
        await never()

    loop = runtime.get_running_loop()
    loop.set_task_factory(runtime.eager_task_factory)
    try:
        async with runtime.TaskGroup() as group:
            assert await group.start(work) == 1
            group.cancel_scope.cancel()
    finally:
        loop.set_task_factory(None)


async def test_tasks_of_another_class() -> None:
    loop = runtime.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    log = Log()
    try:
        async with runtime.TaskGroup() as group:
            assert await group.start(serve, 7, log) == 7
            group.cancel_scope.cancel()
        assert log == ["starting", "ended"]
    finally:
        loop.set_task_factory(None)


@pytest.mark.runtime(clock="real")
def test_cancelled_anywhere() -> None:
    async def scenario(point: CancelPoint) -> None:
        log = Log()

        async def work(started: runtime.Started[int]) -> None:
            log.add("begun")
            try:
                await runtime.sleep(0)
                started(1)
                await runtime.sleep(0.001)
            finally:
                log.add("ended")

        async def caller() -> None:
            async with runtime.TaskGroup() as group:
                with runtime.CancelScope():
                    assert await group.start(work) == 1

        await settled(point.start(caller()))
        assert log in ([], ["begun", "ended"])

    assert cancel_everywhere(scenario) >= 2


# -- Daemons ---------------------------------------------------------------------------------------


async def test_daemons_are_cancelled_when_the_others_have_ended() -> None:
    log = Log()

    async def daemon() -> None:
        try:
            await never()
        finally:
            await runtime.sleep(1)
            log.add("daemon ended")

    async with runtime.TaskGroup() as group:
        task = group.create_task(daemon(), daemon=True)
        group.create_task(runtime.sleep(2))
        await runtime.sleep(1)
    assert log == ["daemon ended"]
    assert task.cancelled()
    assert runtime.get_running_loop().time() == 3


async def test_daemons_alone() -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(never(), daemon=True)
    async with runtime.TaskGroup() as group:
        group.create_task(never(), daemon=True)
        group.create_task(never(), daemon=True)
        await runtime.sleep(1)


async def test_a_daemon_that_fails_aborts_the_group() -> None:
    async def fail() -> None:
        await runtime.sleep(1)
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with runtime.TaskGroup() as group:
            group.create_task(fail(), daemon=True)
            await never()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


async def test_a_daemon_that_fails_while_it_ends() -> None:
    async def fail() -> None:
        try:
            await never()
        finally:
            raise LookupError

    reports = collect_reports()
    with pytest.raises(ExceptionGroup):
        async with runtime.TaskGroup() as group:
            group.create_task(fail(), daemon=True)
            await runtime.sleep(0)
    assert reports == []


async def test_a_task_that_a_daemon_creates_is_waited_for() -> None:
    log = Log()

    async def work() -> None:
        await runtime.sleep(2)
        log.add("done")

    async def daemon(group: runtime.TaskGroup) -> None:
        await runtime.sleep(1)
        group.create_task(work())
        await never()

    async with runtime.TaskGroup() as group:
        group.create_task(daemon(group), daemon=True)
        group.create_task(runtime.sleep(1.5))
    assert log == ["done"]


async def test_a_daemon_that_a_daemon_creates_when_it_ends_is_cancelled_after_it() -> None:
    log = Log()

    async def helper() -> None:
        try:
            await never()
        finally:
            log.add("helper ended")

    async def daemon(group: runtime.TaskGroup) -> None:
        try:
            await never()
        finally:
            group.create_task(helper(), daemon=True)
            await runtime.sleep(1)
            log.add("daemon ended")

    async with runtime.TaskGroup() as group:
        group.create_task(daemon(group), daemon=True)
        await runtime.sleep(1)
    assert log == ["daemon ended", "helper ended"]
    assert runtime.get_running_loop().time() == 2


async def test_a_daemon_of_a_group_that_is_aborted_is_cancelled_once() -> None:
    log = Log()

    async def daemon() -> None:
        try:
            await never()
        finally:
            await runtime.sleep(1)
            log.add("cleaned up")

    async with runtime.TaskGroup() as group:
        group.create_task(daemon(), daemon=True)
        group.create_task(never())
        await runtime.sleep(1)
        group.cancel()
    assert log == ["cleaned up"]

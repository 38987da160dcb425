"""Scopes together with requests by ``Task.cancel()``, with asyncio's code, and with the loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest

import runtime
from runtime.sync.suspend import Resume
from runtime.testing import wait_all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled
from tests.support.programs import run_code
from tests.sync.tools import Log, assert_cancelled, collect_reports, never, turns

pytestmark = pytest.mark.runtime(clock="virtual")


def requests() -> int:
    task = runtime.current_task()
    assert task is not None
    return task.cancelling()


# -- Requests from outside -------------------------------------------------------------------------


async def test_a_request_at_the_same_time_goes_on_through_the_scope() -> None:
    scope = runtime.CancelScope()
    log = Log()

    async def work() -> None:
        try:
            with scope:
                await never()
        finally:
            log.add(scope.cancel_called, scope.cancelled_caught, requests())
            await runtime.sleep(0)
            log.add("not interrupted twice")

    for first in ("scope", "task"):
        scope = runtime.CancelScope()
        task = runtime.create_task(work())
        await wait_all_tasks_blocked()
        if first == "scope":
            scope.cancel()
            task.cancel()
        else:
            task.cancel()
            scope.cancel()
        await assert_cancelled(task)
        assert task.cancelling() == 1
    assert log == ["True False 1", "not interrupted twice"] * 2


async def test_a_request_during_the_clean_up_goes_on_through_the_scope() -> None:
    log = Log()

    async def work() -> None:
        with runtime.move_on_after(1):
            try:
                await never()
            finally:
                with runtime.CancelScope(shield=True):
                    await runtime.sleep(2)
                log.add("not reached")

    task = runtime.create_task(work())
    await runtime.sleep(2)
    task.cancel("from outside")
    await assert_cancelled(task)
    assert log == []


async def test_a_request_that_the_scope_does_not_see_is_raised_after_it() -> None:
    async def work() -> str:
        task = runtime.current_task()
        assert task is not None
        with runtime.CancelScope() as scope:
            task.cancel()
            scope.cancel()
        try:
            await runtime.sleep(0)
        except runtime.CancelledError:
            return f"raised, {requests()} counted"
        return "lost"

    assert await runtime.create_task(work()) == "raised, 1 counted"


async def test_a_request_before_the_scope_is_not_lost_in_it() -> None:
    async def work() -> None:
        task = runtime.current_task()
        assert task is not None
        task.cancel()
        with runtime.CancelScope() as scope:
            scope.cancel()
            await runtime.sleep(0)

    task = runtime.create_task(work())
    await assert_cancelled(task)


async def test_an_earlier_request_that_was_caught_does_not_count() -> None:
    async def work() -> str:
        try:
            await never()
        except runtime.CancelledError:
            pass
        with runtime.move_on_after(1) as scope:
            await never()
        return f"{scope.cancelled_caught} {requests()}"

    task = runtime.create_task(work())
    await runtime.sleep(0)
    task.cancel()
    assert await task == "True 1"


async def test_uncancel_in_a_cancelled_scope() -> None:
    with runtime.CancelScope() as scope:
        scope.cancel()
        task = runtime.current_task()
        assert task is not None
        while task.cancelling():
            task.uncancel()
        await never()
    assert scope.cancelled_caught
    assert requests() == 0


async def test_a_request_after_the_one_of_the_scope_was_taken_back() -> None:
    log = Log()

    async def work() -> None:
        task = runtime.current_task()
        assert task is not None
        with runtime.CancelScope() as scope:
            scope.cancel()
            while True:
                try:
                    # The second time the task waits: it was interrupted here before.
                    await runtime.get_running_loop().create_future()
                except runtime.CancelledError:
                    if log:
                        raise
                    log.add("remaining", task.uncancel())
        log.add("lost")

    task = runtime.create_task(work())
    await wait_all_tasks_blocked()
    task.cancel()
    await assert_cancelled(task)
    assert log == ["remaining 0"]
    assert task.cancelling() == 1


async def test_a_shield_after_the_request_of_the_scope_was_taken_back() -> None:
    task = runtime.current_task()
    assert task is not None
    with runtime.CancelScope() as outer:
        outer.cancel()
        with pytest.raises(runtime.CancelledError):
            await never()
        task.uncancel()
        with runtime.move_on_after(1, shield=True) as shield:
            await never()
    assert shield.cancelled_caught
    assert requests() == 0


async def check_requests(earlier: int, calls: tuple[str, ...]) -> None:
    """Make calls while a task is in a scope; it was cancelled ``earlier`` times before it."""
    scope = runtime.CancelScope()
    end = runtime.Event()

    async def work() -> None:
        for _ in range(earlier):
            with pytest.raises(runtime.CancelledError):
                await never()
        last: BaseException | None = None
        with scope:
            while not end.is_set():
                try:
                    await end.wait()
                except runtime.CancelledError as error:
                    last = error
            if last is not None:
                raise last

    task = runtime.create_task(work())
    await wait_all_tasks_blocked()
    for _ in range(earlier):
        task.cancel()
        await wait_all_tasks_blocked()
    old, new, of_scope = earlier, 0, 0
    for call in calls:
        match call:
            case "request":
                task.cancel()
                new += 1
            case "scope":
                of_scope += not scope.cancel_called
                scope.cancel()
            case "take back":
                task.uncancel()
                if new:
                    new -= 1
                elif of_scope:
                    of_scope = 0
                else:
                    old = max(0, old - 1)
        await wait_all_tasks_blocked()
        assert task.cancelling() == old + new + of_scope
    end.set()
    await runtime.wait([task])
    assert task.cancelling() == old + new
    assert scope.cancelled_caught == ("scope" in calls and not new)
    was_cancelled = "scope" in calls or "request" in calls
    assert task.cancelled() == (was_cancelled and not scope.cancelled_caught)


@pytest.mark.parametrize("earlier", [0, 1, 2])
async def test_requests_before_and_in_a_scope_are_taken_back_and_made_again(earlier: int) -> None:
    for calls in itertools.product(["request", "take back", "scope"], repeat=4):
        try:
            await check_requests(earlier, calls)
        except AssertionError as error:
            error.add_note(f"after {earlier} earlier requests, and {calls}")
            raise


async def test_a_request_in_a_cancelled_scope_is_not_lost_in_a_shield() -> None:
    async def work() -> str:
        task = runtime.current_task()
        assert task is not None
        with runtime.CancelScope() as outer:
            outer.cancel()
            task.cancel()
            with runtime.move_on_after(0, shield=True):
                await never()
        return "lost"

    await assert_cancelled(runtime.create_task(work()))


async def test_a_request_reaches_into_a_shield() -> None:
    async def work() -> None:
        with runtime.CancelScope(shield=True):
            await never()

    task = runtime.create_task(work())
    await runtime.sleep(0)
    task.cancel()
    await assert_cancelled(task)


def test_cancelled_anywhere_the_task_ends_so() -> None:
    async def scenario(point: CancelPoint) -> None:
        log = Log()

        async def child() -> None:
            with runtime.CancelScope(shield=True):
                await runtime.sleep(0)
            await runtime.sleep(0.001)

        async def work() -> None:
            with runtime.CancelScope() as outer:
                with runtime.move_on_after(0.001):
                    async with runtime.TaskGroup() as group:
                        group.create_task(child())
                        group.create_task(child())
                        await runtime.sleep(0)
                outer.cancel()
                try:
                    await never()
                finally:
                    with runtime.CancelScope(shield=True):
                        await runtime.sleep(0)
            log.add("left", requests())

        task = point.start(work())
        await settled(task)
        if point.reached and task.cancelled():
            assert log == []
        else:
            assert log == ["left 0"]

    assert cancel_everywhere(scenario) >= 4


# -- Code of asyncio -------------------------------------------------------------------------------


async def test_asyncios_timeout_inside() -> None:
    with runtime.move_on_after(1) as scope:
        async with asyncio.timeout(5):
            await never()
    assert scope.cancelled_caught
    with runtime.move_on_after(5) as scope, pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await never()
    assert not scope.cancel_called
    assert requests() == 0


async def test_asyncios_timeout_that_expires_in_a_cancelled_scope() -> None:
    with runtime.move_on_after(1) as scope:
        async with asyncio.timeout(2):
            try:
                await never()
            finally:
                with runtime.CancelScope(shield=True):
                    await runtime.sleep(3)
    assert scope.cancelled_caught
    assert requests() == 0


async def test_asyncios_timeout_around() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            with runtime.CancelScope() as scope:
                await never()
    assert not scope.cancelled_caught
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            with runtime.move_on_after(1):
                await never()
            await never()
    assert requests() == 0


@pytest.mark.parametrize("wait_for", [asyncio.wait_for, runtime.wait_for])
async def test_wait_for(wait_for: Any) -> None:
    with runtime.move_on_after(1) as scope:
        await wait_for(never(), 5)
    assert scope.cancelled_caught
    with runtime.move_on_after(5), pytest.raises(TimeoutError):
        await wait_for(never(), 1)
    assert requests() == 0


async def test_asyncios_task_group_inside() -> None:
    log = Log()

    async def child() -> None:
        try:
            await never()
        finally:
            await runtime.sleep(1)
            log.add("cleaned up")

    with runtime.move_on_after(1) as scope:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
    assert scope.cancelled_caught
    assert log == ["cleaned up"]
    assert requests() == 0


async def test_asyncios_task_group_with_errors_in_a_cancelled_scope() -> None:
    """The group takes the request back and makes it again; it must not outlive the scope."""

    async def child() -> None:
        try:
            await never()
        finally:
            raise LookupError

    for new_group in (asyncio.TaskGroup, runtime.TaskGroup):
        with runtime.move_on_after(1) as scope, pytest.raises(ExceptionGroup):
            async with new_group() as group:
                group.create_task(child())
        assert scope.cancel_called
        assert requests() == 0
        await runtime.sleep(1)


async def test_asyncios_task_group_around() -> None:
    async def child() -> str:
        with runtime.move_on_after(1):
            await never()
        return "moved on"

    async with asyncio.TaskGroup() as group:
        task = group.create_task(child())
        with runtime.move_on_after(1) as scope:
            await never()
    assert scope.cancelled_caught
    assert task.result() == "moved on"


async def test_gather_and_shield() -> None:
    with runtime.move_on_after(1) as scope:
        await asyncio.gather(never(), never())
    assert scope.cancelled_caught
    with runtime.move_on_after(1) as scope:
        await runtime.gather(never(), never())
    assert scope.cancelled_caught
    task = runtime.create_task(runtime.sleep(3, "goes on"))
    with runtime.move_on_after(1) as scope:
        await runtime.shield(task)
    assert scope.cancelled_caught
    assert await task == "goes on"


async def test_tasks_that_wait_for_one_another() -> None:
    """A cycle of waits ends, as by ``Task.cancel()``."""
    tasks: list[runtime.Task[None]] = []

    async def wait(number: int) -> None:
        await runtime.sleep(0)
        await tasks[1 - number]

    with runtime.move_on_after(1):
        async with runtime.TaskGroup() as group:
            tasks += [group.create_task(wait(0)), group.create_task(wait(1))]
    assert all(task.cancelled() for task in tasks)
    assert requests() == 0


async def test_a_long_chain_of_tasks() -> None:
    async def wait(future: Any) -> None:
        await future

    with runtime.move_on_after(1):
        async with runtime.TaskGroup() as group:
            last: Any = runtime.get_running_loop().create_future()
            for _ in range(3000):
                last = group.create_task(wait(last))
    assert requests() == 0


# -- Tasks that refuse to end ----------------------------------------------------------------------


async def test_a_task_that_awaits_again_at_the_same_place_waits() -> None:
    loop = runtime.get_running_loop()
    interrupted = 0
    with runtime.move_on_after(1):
        future = loop.create_future()
        loop.call_later(9, future.set_result, None)
        while not future.done():
            try:
                await asyncio.shield(future)
            except runtime.CancelledError:
                interrupted += 1
        assert loop.time() == 9
        await never()
    assert interrupted <= 100


async def test_a_task_that_awaits_a_future_again_is_interrupted_once() -> None:
    def finish(future: runtime.Future[None]) -> None:
        if not future.done():
            future.set_result(None)

    loop = runtime.get_running_loop()
    interrupted = 0
    with runtime.move_on_after(1):
        futures = [loop.create_future() for _ in range(3)]
        for number, future in enumerate(futures):
            loop.call_later(5 + number, finish, future)
        for future in futures:
            try:
                await future
            except runtime.CancelledError:
                interrupted += 1
    assert interrupted == 1
    assert loop.time() == 7


async def test_a_refusing_task_costs_no_turns() -> None:
    """The loop does nothing between two events, however long the task refuses to end."""
    loop = runtime.get_running_loop()
    with runtime.move_on_after(1):
        steps = 0
        while steps < 300:
            steps += 1
            try:
                await runtime.sleep(1)
            except runtime.CancelledError:
                continue
    # A hundred attempts were interrupted at once, and the others slept.
    assert loop.time() == pytest.approx(1 + 300 - 100 - 1, abs=1)


async def test_every_other_place_is_interrupted() -> None:
    log = Log()
    with runtime.CancelScope() as scope:
        scope.cancel()
        for number in range(3):
            try:
                await runtime.sleep(1)
            except runtime.CancelledError:
                log.add(number, "first")
            try:
                await runtime.sleep(1)
            except runtime.CancelledError:
                log.add(number, "second")
    assert len(log) == 6


@types.coroutine
def stepped_by_hand(coro: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Run a coroutine as a task does, which can only be seen while the coroutine runs."""
    error: BaseException | None = None
    while True:
        try:
            awaited = coro.send(None) if error is None else coro.throw(error)
        except StopIteration:
            return
        error = None
        try:
            yield awaited
        except BaseException as thrown:
            error = thrown


class SteppedByHand(Coroutine[Any, Any, None]):
    """The same by an object with methods of its own, as a compiled coroutine has."""

    def __init__(self, coro: Coroutine[Any, Any, None]) -> None:
        self._coro = coro

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def __iter__(self) -> SteppedByHand:
        return self

    def __next__(self) -> Any:
        return self._coro.send(None)

    def send(self, value: Any) -> Any:
        return self._coro.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coro.throw(*error)

    def close(self) -> None:
        self._coro.close()


async def in_a_task(coro: Coroutine[Any, Any, None]) -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(SteppedByHand(coro))


STEPPERS = pytest.mark.parametrize("stepped", [stepped_by_hand, SteppedByHand, in_a_task])


@STEPPERS
async def test_every_wait_of_a_coroutine_that_is_stepped_by_hand_is_interrupted(
    stepped: Callable[[Coroutine[Any, Any, None]], Awaitable[None]],
) -> None:
    log = Log()

    async def work() -> None:
        for number in range(3):
            try:
                await runtime.sleep(1)
            except runtime.CancelledError:
                log.add(number)
        await never()

    with runtime.CancelScope() as scope:
        scope.cancel()
        await stepped(work())
    assert scope.cancelled_caught
    assert log == ["0", "1", "2"]


@STEPPERS
async def test_a_coroutine_that_is_stepped_by_hand_and_refuses_to_end_waits(
    stepped: Callable[[Coroutine[Any, Any, None]], Awaitable[None]],
) -> None:
    interruptions = 0

    async def work() -> None:
        nonlocal interruptions
        until = runtime.get_running_loop().time() + 1
        while runtime.get_running_loop().time() < until:
            try:
                await runtime.sleep(1)
            except runtime.CancelledError:
                interruptions += 1

    with runtime.CancelScope() as scope:
        scope.cancel()
        await stepped(work())
    assert interruptions == 100


# -- The loop --------------------------------------------------------------------------------------


async def test_an_eager_task_in_a_scope() -> None:
    log = Log()

    async def child() -> None:
        with runtime.move_on_after(1):
            log.add("begun")
            await never()
        log.add("moved on")

    with runtime.CancelScope() as scope:
        task = runtime.create_task(child(), eager_start=True)
        assert log == ["begun"]
        await task
    assert not scope.cancel_called
    assert log == ["begun", "moved on"]


async def test_suspend() -> None:
    undone = Log()

    def arm(resume: Resume[int]) -> Any:
        return lambda: undone.add("undone")

    with runtime.move_on_after(1) as scope:
        await runtime.suspend(arm)
    assert scope.cancelled_caught
    assert undone == ["undone"]

    resumes: list[Resume[int]] = []
    scope = runtime.CancelScope()

    async def wait() -> int:
        with scope:
            return await runtime.suspend(resumes.append)
        raise AssertionError("the value is lost")

    task = runtime.create_task(wait())
    await runtime.sleep(0)
    resumes[0](7)
    scope.cancel()
    assert await task == 7


async def test_locks_and_queues() -> None:
    lock, queue, condition = runtime.Lock(), runtime.Queue[int](), runtime.Condition()
    await lock.acquire()
    for wait in (lock.acquire, queue.get):
        with runtime.move_on_after(1) as scope:
            await wait()
        assert scope.cancelled_caught
    with runtime.move_on_after(1) as scope:
        async with condition:
            await condition.wait()
    assert scope.cancelled_caught
    assert not condition.locked()
    queue.put_nowait(1)
    assert await queue.get() == 1


async def test_a_condition_whose_lock_is_held_for_long() -> None:
    """``wait()`` takes the lock again in any case; this does not take all of the processor."""
    condition = runtime.Condition()
    scope = runtime.CancelScope()

    async def wait() -> bool:
        async with condition:
            with scope:
                await condition.wait()
            return condition.locked()

    task = runtime.create_task(wait())
    await wait_all_tasks_blocked()
    async with condition:
        scope.cancel()
        await runtime.sleep(10)
    assert await task


async def test_threads() -> None:
    with runtime.CancelScope() as scope:
        scope.cancel()
        await runtime.to_thread(print)
    assert scope.cancelled_caught


async def test_a_coroutine_that_is_dropped_in_a_scope() -> None:
    reports = collect_reports()

    async def wait() -> None:
        with runtime.CancelScope():
            await runtime.get_running_loop().create_future()

    coro = wait()
    coro.send(None)
    del coro
    gc.collect()
    await turns()
    assert reports == []
    assert runtime.current_effective_deadline() > 0
    assert requests() == 0


def test_a_loop_that_is_closed_with_a_task_in_a_scope() -> None:
    done = run_code(
        """
import runtime

async def wait():
    with runtime.CancelScope(deadline=1e9), runtime.CancelScope():
        await runtime.sleep_forever()

loop = runtime.new_event_loop()
task = loop.create_task(wait())
loop.call_soon(loop.stop)
loop.run_forever()
task._log_destroy_pending = False
loop.close()
del task
"""
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_deadlines_of_daemons_do_not_keep_a_run_going() -> None:
    log = Log()

    async def wait(name: str) -> None:
        with runtime.move_on_after(3600 if name == "daemon" else 0.01):
            await runtime.sleep_forever()
        log.add(name)

    async def main() -> None:
        runtime.create_task(wait("daemon"), daemon=True)
        runtime.create_task(wait("other"))

    runtime.run(main(), until="idle")
    assert log == ["other"]


async def test_a_scope_is_cancelled_by_a_thread() -> None:
    loop = runtime.get_running_loop()
    with runtime.CancelScope() as scope:
        await runtime.to_thread(lambda: loop.call_soon_threadsafe(scope.cancel))
        await never()
    assert scope.cancelled_caught


@pytest.mark.runtime(debug=True)
async def test_a_scope_is_cancelled_in_the_wrong_thread() -> None:
    with runtime.CancelScope() as scope, pytest.raises(RuntimeError, match="Non-thread-safe"):
        await runtime.to_thread(scope.cancel)


@pytest.mark.parametrize(("name", "value"), [("deadline", 0.0), ("shield", True)])
@pytest.mark.runtime(debug=True)
async def test_a_scope_is_changed_in_the_wrong_thread(name: str, value: object) -> None:
    with runtime.CancelScope() as scope:
        before = getattr(scope, name)
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await runtime.to_thread(setattr, scope, name, value)
        assert getattr(scope, name) == before


async def test_the_cancel_of_a_class_of_the_program_raises() -> None:
    class Odd(runtime.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            runtime.Future.cancel(self, msg)
            raise ZeroDivisionError

    scope = runtime.CancelScope()

    async def wait(future: Any) -> None:
        with scope:
            await future

    tasks = [runtime.create_task(wait(Odd()))]
    await wait_all_tasks_blocked()
    with pytest.raises(ZeroDivisionError):
        scope.cancel()
    await runtime.gather(*tasks)
    reports = collect_reports()

    async def at_deadline() -> None:
        with runtime.move_on_after(1):
            await Odd()

    await at_deadline()
    assert [str(report["message"])[:27] for report in reports] == ["Exception at the deadline o"]


async def test_checkpoints() -> None:
    await runtime.checkpoint()
    await runtime.checkpoint_if_cancelled()
    await runtime.cancel_shielded_checkpoint()
    with runtime.CancelScope() as scope:
        scope.cancel()
        await runtime.cancel_shielded_checkpoint()
        with pytest.raises(runtime.CancelledError):
            await runtime.checkpoint_if_cancelled()
        with runtime.CancelScope(shield=True):
            await runtime.checkpoint_if_cancelled()
        await runtime.checkpoint()
    assert scope.cancelled_caught

    async def request() -> str:
        task = runtime.current_task()
        assert task is not None
        task.cancel("later")
        await runtime.cancel_shielded_checkpoint()
        try:
            await runtime.checkpoint_if_cancelled()
        except runtime.CancelledError as error:
            return str(error)
        return "lost"

    assert await runtime.create_task(request()) == "later"


async def test_a_checkpoint_that_does_not_suspend() -> None:
    log = Log()
    runtime.get_running_loop().call_soon(log.add, "another")
    await runtime.checkpoint_if_cancelled()
    assert log == []
    await runtime.checkpoint()
    assert log == ["another"]

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

import runtime
from runtime.sync.locks import BoundedSemaphore, Condition, Event, Lock, Semaphore
from runtime.sync.queues import Queue
from runtime.testing import wait_all_tasks_blocked
from tests.arguments.odd import Index
from tests.sync.tools import Log, assert_cancelled, turns

# -- Lock ------------------------------------------------------------------------------------------


async def test_a_lock_is_held_by_one() -> None:
    lock = Lock()
    assert not lock.locked()
    assert await lock.acquire() is True
    assert lock.locked()
    lock.release()
    assert not lock.locked()
    async with lock as nothing:
        assert nothing is None
        assert lock.locked()
    assert not lock.locked()


async def test_the_lock_goes_from_one_to_the_next_in_the_order_of_coming() -> None:
    lock, log = Lock(), Log()

    async def work(name: str) -> None:
        async with lock:
            log.add(name, "in")
            await turns(2)
            log.add(name, "out")

    await runtime.gather(*[work(name) for name in "abc"])
    assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_a_woken_waiter_is_not_overtaken() -> None:
    lock, log = Lock(), Log()

    async def waiter() -> None:
        async with lock:
            log.add("waiter")

    async def barger() -> None:
        async with lock:
            log.add("barger")

    await lock.acquire()
    first = runtime.create_task(waiter())
    await wait_all_tasks_blocked()
    lock.release()
    assert not lock.locked()
    second = runtime.create_task(barger())
    async with lock:
        log.add("releaser")
    await first
    await second
    assert log[0] == "waiter"


async def test_a_lock_that_is_not_held_cannot_be_released() -> None:
    lock = Lock()
    with pytest.raises(RuntimeError, match="Lock object at .* is not acquired"):
        lock.release()


async def test_a_cancelled_waiter_leaves_the_lock_to_the_next() -> None:
    lock = Lock()
    await lock.acquire()
    first, second = (runtime.create_task(lock.acquire()) for _ in range(2))
    await wait_all_tasks_blocked()
    lock.release()
    first.cancel()  # it was woken, and has not run
    await assert_cancelled(first)
    assert await second is True
    lock.release()


async def test_cancelled_waiters_do_not_block_the_lock() -> None:
    lock = Lock()
    await lock.acquire()
    waiters = [runtime.create_task(lock.acquire()) for _ in range(2)]
    await wait_all_tasks_blocked()
    for waiter in waiters:
        waiter.cancel()
    lock.release()
    taking = lock.acquire()
    with pytest.raises(StopIteration):
        taking.send(None)
    assert lock.locked()
    for waiter in waiters:
        await assert_cancelled(waiter)
    lock.release()
    assert not lock.locked()


async def test_a_waiter_that_is_cancelled_while_the_lock_is_held_changes_nothing() -> None:
    lock = Lock()
    await lock.acquire()
    first, second = (runtime.create_task(lock.acquire()) for _ in range(2))
    await wait_all_tasks_blocked()
    assert "waiters:2" in repr(lock)
    first.cancel()
    await assert_cancelled(first)
    assert "locked, waiters:1" in repr(lock)
    lock.release()
    assert await second
    assert "[locked]" in repr(lock)
    lock.release()
    assert "[unlocked]" in repr(lock)


# -- Event -----------------------------------------------------------------------------------------


async def test_an_event_wakes_all_waiters_in_order_of_arrival() -> None:
    event, log = Event(), Log()

    async def wait(name: str) -> None:
        assert await event.wait() is True
        log.add(name)

    tasks = [runtime.create_task(wait(name)) for name in "abc"]
    await wait_all_tasks_blocked()
    assert "unset, waiters:3" in repr(event)
    assert log == []
    event.set()
    event.set()
    assert event.is_set()
    await runtime.gather(*tasks)
    assert log == ["a", "b", "c"]
    assert "[set]" in repr(event)
    assert await event.wait() is True
    event.clear()
    assert not event.is_set()


async def test_a_woken_waiter_goes_on_though_the_event_was_cleared() -> None:
    event = Event()
    task = runtime.create_task(event.wait())
    await wait_all_tasks_blocked()
    event.set()
    event.clear()
    late = runtime.create_task(event.wait())
    assert await task is True
    await wait_all_tasks_blocked()
    assert not late.done()
    late.cancel()
    await assert_cancelled(late)
    assert "[unset]" in repr(event)


async def test_an_event_forgets_waiters_that_were_cancelled() -> None:
    event = Event()
    tasks = [runtime.create_task(event.wait()) for _ in range(3)]
    await wait_all_tasks_blocked()
    tasks[1].cancel()
    await assert_cancelled(tasks[1])
    assert "waiters:2" in repr(event)
    tasks[0].cancel()
    event.set()
    await assert_cancelled(tasks[0])
    assert await tasks[2]
    # It was woken and cancelled in the same turn, and is in no queue any more.
    event.clear()
    task = runtime.create_task(event.wait())
    await wait_all_tasks_blocked()
    event.set()
    task.cancel()
    await assert_cancelled(task)


# -- Condition -------------------------------------------------------------------------------------


async def test_a_condition_wakes_as_many_as_are_notified() -> None:
    condition, log = Condition(), Log()

    async def wait(name: str) -> None:
        async with condition:
            assert await condition.wait() is True
            assert condition.locked()
            log.add(name)

    tasks = [runtime.create_task(wait(name)) for name in "abcd"]
    await wait_all_tasks_blocked()
    assert "unlocked, waiters:4" in repr(condition)
    async with condition:
        condition.notify()
    await wait_all_tasks_blocked()
    assert log == ["a"]
    async with condition:
        condition.notify(2)
        condition.notify(0)
        await wait_all_tasks_blocked()
        assert log == ["a"]
        assert "[locked, waiters:" in repr(condition)
    await wait_all_tasks_blocked()
    assert log == ["a", "b", "c"]
    async with condition:
        condition.notify_all()
    await runtime.gather(*tasks)
    assert log == ["a", "b", "c", "d"]


async def test_a_condition_waits_for_a_predicate() -> None:
    condition = Condition()
    items: list[int] = []

    async def take() -> list[int]:
        async with condition:
            return await condition.wait_for(lambda: items[:2] if len(items) > 1 else [])

    task = runtime.create_task(take())
    for number in range(2):
        await wait_all_tasks_blocked()
        assert not task.done()
        async with condition:
            items.append(number)
            condition.notify_all()
    assert await task == [0, 1]
    async with condition:
        assert await condition.wait_for(lambda: "at once") == "at once"


async def test_a_condition_must_be_held() -> None:
    condition = Condition()
    for method in (condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="acquire it first"):
            method()
    with pytest.raises(RuntimeError, match="acquire it first"):
        await condition.wait()
    with pytest.raises(RuntimeError, match="is not acquired"):
        condition.release()


async def test_a_condition_can_share_a_lock() -> None:
    lock = Lock()
    first, second = Condition(lock), Condition(lock)
    assert await first.acquire() is True
    assert second.locked()
    assert lock.locked()
    second.notify()
    first.release()
    assert not second.locked()


async def test_a_cancelled_wait_holds_the_lock_again_before_it_ends() -> None:
    condition = Condition()
    states = []

    async def wait() -> None:
        async with condition:
            try:
                await condition.wait()
            finally:
                states.append(condition.locked())

    task = runtime.create_task(wait())
    await wait_all_tasks_blocked()
    await condition.acquire()
    task.cancel("first")
    await wait_all_tasks_blocked()
    assert not task.done()
    task.cancel("second")
    await wait_all_tasks_blocked()
    assert not task.done()
    condition.release()
    with pytest.raises(runtime.CancelledError, match="second"):
        await task
    assert states == [True]
    assert not condition.locked()
    assert task.cancelling() == 2


async def test_a_notification_of_a_cancelled_task_goes_to_the_next() -> None:
    condition, log = Condition(), Log()

    async def wait(name: str) -> None:
        async with condition:
            await condition.wait()
            log.add(name)

    tasks = [runtime.create_task(wait(name)) for name in "abc"]
    await wait_all_tasks_blocked()
    async with condition:
        condition.notify(1)
        tasks[0].cancel()
    await assert_cancelled(tasks[0])
    await tasks[1]
    assert log == ["b"]
    await wait_all_tasks_blocked()
    assert not tasks[2].done()
    # A task that is cancelled without a notification has none to pass on.
    tasks[2].cancel()
    await assert_cancelled(tasks[2])


async def test_a_cancellation_without_a_notification_wakes_no_other_waiter() -> None:
    condition, woken = Condition(), Log()

    async def wait(name: str) -> None:
        async with condition:
            await condition.wait()
            woken.add(name)

    tasks = [runtime.create_task(wait(name)) for name in "ab"]
    await wait_all_tasks_blocked()
    tasks[0].cancel()
    await assert_cancelled(tasks[0])
    await wait_all_tasks_blocked()
    assert woken == []
    async with condition:
        condition.notify()
    await tasks[1]
    assert woken == ["b"]


# -- Semaphores ------------------------------------------------------------------------------------


async def test_a_semaphore_lets_so_many_in() -> None:
    semaphore = Semaphore(2)
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await turns(2)
            inside -= 1

    await runtime.gather(*[work() for _ in range(7)])
    assert most == 2
    assert not semaphore.locked()
    assert "[unlocked, value:2]" in repr(semaphore)


async def test_a_semaphore_is_fair() -> None:
    semaphore, log = Semaphore(1), Log()

    async def work(name: str) -> None:
        async with semaphore:
            log.add(name)

    assert await semaphore.acquire() is True
    assert semaphore.locked()
    waiting = [runtime.create_task(work(name)) for name in "ab"]
    await wait_all_tasks_blocked()
    assert "[locked, waiters:2]" in repr(semaphore)
    semaphore.release()
    late = runtime.create_task(work("late"))
    async with semaphore:
        log.add("releaser")
    await runtime.gather(*waiting, late)
    assert log == ["a", "b", "releaser", "late"] or log == ["a", "b", "late", "releaser"]
    assert log[:2] == ["a", "b"]


async def test_a_permit_promised_to_a_cancelled_task_goes_to_the_next() -> None:
    semaphore = Semaphore(0)
    first, second, third = (runtime.create_task(semaphore.acquire()) for _ in range(3))
    await wait_all_tasks_blocked()
    semaphore.release()
    first.cancel()
    await assert_cancelled(first)
    assert await second
    await wait_all_tasks_blocked()
    assert not third.done()
    semaphore.release()
    assert await third
    assert semaphore.locked()


async def test_permits_are_not_lost_between_cancellations() -> None:
    semaphore = Semaphore(0)
    tasks = [runtime.create_task(semaphore.acquire()) for _ in range(4)]
    await wait_all_tasks_blocked()
    tasks[0].cancel()
    semaphore.release()
    semaphore.release()
    tasks[1].cancel()
    await wait_all_tasks_blocked()
    assert [task.done() for task in tasks] == [True] * 4
    assert [task.cancelled() for task in tasks] == [True, True, False, False]
    assert "value" not in repr(semaphore)
    assert semaphore.locked()


async def test_a_permit_for_cancelled_waiters_only_is_free_for_all() -> None:
    semaphore = Semaphore(1)
    await semaphore.acquire()
    task = runtime.create_task(semaphore.acquire())
    await wait_all_tasks_blocked()
    task.cancel()
    semaphore.release()
    assert not semaphore.locked()
    assert await semaphore.acquire()
    await assert_cancelled(task)
    assert semaphore.locked()


async def test_permits_released_while_waiters_are_leaving_are_handed_out() -> None:
    semaphore = Semaphore(0)
    tasks = [runtime.create_task(semaphore.acquire()) for _ in range(2)]
    await wait_all_tasks_blocked()
    semaphore.release()
    semaphore.release()
    semaphore.release()
    assert semaphore.locked()  # waiting tasks come first
    late = runtime.create_task(semaphore.acquire())
    for task in (*tasks, late):
        assert await task
    assert semaphore.locked()


async def test_a_late_acquirer_gets_the_permit_left_by_woken_waiters() -> None:
    semaphore = Semaphore(0)
    waiting = runtime.create_task(semaphore.acquire())
    await wait_all_tasks_blocked()
    late = runtime.create_task(semaphore.acquire())  # it runs before the waiter that is woken now
    semaphore.release()
    semaphore.release()
    assert await waiting
    await wait_all_tasks_blocked()
    assert late.done()
    assert semaphore.locked()


async def test_a_bounded_semaphore_refuses_one_release_too_many() -> None:
    semaphore = BoundedSemaphore(2)
    await semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match="released too many times: it has 2 permits"):
        semaphore.release()
    unbounded = Semaphore(0)
    unbounded.release()
    assert not unbounded.locked()


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_a_semaphore_has_no_negative_number_of_permits(kind: type[Semaphore]) -> None:
    with pytest.raises(ValueError, match=">= 0, got -1"):
        kind(-1)


# -- Common properties -----------------------------------------------------------------------------


def exhausted_semaphore() -> Semaphore:
    return Semaphore(0)


def full_queue() -> Queue[int]:
    queue: Queue[int] = Queue(1)
    queue.put_nowait(1)
    return queue


async def wait_for_lock(lock: Lock) -> None:
    await lock.acquire()
    await lock.acquire()


async def wait_for_condition(condition: Condition) -> None:
    async with condition:
        await condition.wait()


WAITS: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (Lock, wait_for_lock),
    (Event, Event.wait),
    (Condition, wait_for_condition),
    (exhausted_semaphore, Semaphore.acquire),
    (lambda: runtime.Barrier(2), runtime.Barrier.wait),
    (Queue, Queue.get),
    (full_queue, lambda queue: queue.put(2)),
    (full_queue, Queue.join),
]


@pytest.mark.parametrize(("make", "wait"), WAITS)
def test_another_loop_than_that_of_the_first_wait_is_refused(
    make: Callable[[], Any], wait: Callable[[Any], Any]
) -> None:
    primitive = make()

    async def first() -> None:
        task = runtime.create_task(wait(primitive))
        await wait_all_tasks_blocked()
        assert not task.done()
        task.cancel()
        await assert_cancelled(task)
        if isinstance(primitive, Lock):
            primitive.release()

    async def second() -> None:
        with pytest.raises(
            RuntimeError, match=f"{type(primitive).__name__}.* different event loop"
        ):
            await wait(primitive)

    runtime.run(first())
    runtime.run(second())


@pytest.mark.parametrize(("make", "wait"), WAITS)
async def test_the_same_loop_may_wait_again(
    make: Callable[[], Any], wait: Callable[[Any], Any]
) -> None:
    primitive = make()
    for _ in range(2):
        task = runtime.create_task(wait(primitive))
        await wait_all_tasks_blocked()
        assert not task.done()
        task.cancel()
        await assert_cancelled(task)
        if isinstance(primitive, Lock):
            primitive.release()


@pytest.mark.parametrize(("make", "wait"), WAITS)
def test_they_do_not_wait_under_a_loop_that_is_not_ours(
    make: Callable[[], Any], wait: Callable[[Any], Any]
) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="must be one of runtime's"):
            await wait(make())

    asyncio.run(main())


@pytest.mark.parametrize("make", [make for make, _ in WAITS])
def test_they_can_be_referred_to_weakly(make: Callable[[], Any]) -> None:
    primitive = make()
    assert weakref.ref(primitive)() is primitive


@pytest.mark.parametrize("make", [Lock, Condition, Semaphore])
def test_operations_without_waiting_need_no_loop(make: Callable[[], Any]) -> None:
    primitive = make()
    acquiring = primitive.acquire()
    assert inspect.iscoroutine(acquiring)
    with pytest.raises(StopIteration) as stopped:
        acquiring.send(None)
    assert stopped.value.value is True
    primitive.release()


# -- Arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", [5, "lock", Lock, False, Event(), Queue[int]()])
def test_a_condition_needs_a_lock(lock: Any) -> None:
    with pytest.raises(TypeError, match="lock must be a Lock or None, got "):
        Condition(lock)


async def test_a_condition_takes_any_object_with_the_methods_of_a_lock() -> None:
    for lock in (asyncio.Lock(), Semaphore(1)):
        condition = Condition(lock)  # type: ignore[arg-type]
        task = runtime.create_task(wait_for_notification(condition))
        await wait_all_tasks_blocked()
        async with condition:
            condition.notify()
        await task


async def wait_for_notification(condition: Condition) -> None:
    async with condition:
        await condition.wait()


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
async def test_a_number_of_permits_is_whole(kind: Any) -> None:
    wrong: Any
    for wrong in (1.5, 0.5, Fraction(1, 2), float("nan")):
        with pytest.raises(ValueError, match="must be a whole number, got "):
            kind(wrong)
    odd: list[Any] = [None, "1", b"1", [], 1j, object()]
    for wrong in odd:
        with pytest.raises(TypeError, match="must be a whole number, got "):
            kind(wrong)
    for wrong in (-1, -2.0, float("-inf")):
        with pytest.raises(ValueError, match="must be >= 0"):
            kind(wrong)
    for value in (1.0, Fraction(1), Index(1), True):
        semaphore = kind(value)
        async with semaphore:
            assert semaphore.locked()
        assert not semaphore.locked()


async def test_an_infinite_number_of_permits() -> None:
    semaphore = Semaphore(float("inf"))  # type: ignore[arg-type]
    for _ in range(100):
        await semaphore.acquire()
    semaphore.release()
    assert not semaphore.locked()
    with pytest.raises(ValueError, match="must be finite"):
        BoundedSemaphore(float("inf"))  # type: ignore[arg-type]

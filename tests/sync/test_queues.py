from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

import pytest

import runtime
from runtime.sync.queues import LifoQueue, PriorityQueue, Queue
from runtime.testing import wait_all_tasks_blocked
from tests.arguments.odd import Index
from tests.sync.tools import Log, assert_cancelled

KINDS = [Queue, LifoQueue, PriorityQueue]


@pytest.mark.parametrize(
    ("kind", "order"), [(Queue, [2, 3, 1]), (LifoQueue, [1, 3, 2]), (PriorityQueue, [1, 2, 3])]
)
def test_each_kind_has_its_order(kind: type[Queue[int]], order: list[int]) -> None:
    queue = kind()
    for item in (2, 3, 1):
        queue.put_nowait(item)
    assert queue.qsize() == 3
    assert [queue.get_nowait() for _ in range(3)] == order
    assert queue.empty()


def test_they_are_generic_at_run_time() -> None:
    for kind in KINDS:
        generic: Any = kind
        made = generic[int](3)
        assert isinstance(made, kind)
        assert made.maxsize == 3


def test_the_exceptions_are_identical_to_asyncio_s() -> None:
    assert runtime.QueueEmpty is asyncio.QueueEmpty
    assert runtime.QueueFull is asyncio.QueueFull
    theirs = getattr(asyncio, "QueueShutDown", runtime.QueueShutDown)
    assert runtime.QueueShutDown is theirs


@pytest.mark.parametrize("maxsize", [0, -1])
def test_no_limit(maxsize: int) -> None:
    queue: Queue[int] = Queue(maxsize)
    for number in range(100):
        queue.put_nowait(number)
    assert not queue.full()
    assert queue.maxsize == maxsize


def test_a_limit() -> None:
    queue: Queue[int] = Queue(2)
    queue.put_nowait(1)
    assert not queue.full()
    queue.put_nowait(2)
    assert queue.full()
    with pytest.raises(runtime.QueueFull):
        queue.put_nowait(3)
    assert queue.qsize() == 2
    assert queue.get_nowait() == 1
    assert not queue.full()


def test_nothing_to_get() -> None:
    queue: Queue[int] = Queue()
    with pytest.raises(runtime.QueueEmpty):
        queue.get_nowait()


async def test_get_waits_for_an_item_and_getters_are_served_in_order() -> None:
    queue: Queue[int] = Queue()
    getters = [runtime.create_task(queue.get()) for _ in range(3)]
    await wait_all_tasks_blocked()
    assert "getters=3" in repr(queue)
    for number in range(3):
        await queue.put(number)
    assert [await getter for getter in getters] == [0, 1, 2]


async def test_put_waits_for_room_and_putters_are_served_in_order() -> None:
    queue: Queue[int] = Queue(1)
    await queue.put(0)
    putters = [runtime.create_task(queue.put(number)) for number in (1, 2)]
    await wait_all_tasks_blocked()
    assert "putters=2" in repr(queue)
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]
    await runtime.gather(*putters)


async def test_an_item_may_be_taken_before_a_woken_getter_runs() -> None:
    queue: Queue[int] = Queue()
    getter = runtime.create_task(queue.get())
    await wait_all_tasks_blocked()
    queue.put_nowait(1)
    assert queue.get_nowait() == 1
    await wait_all_tasks_blocked()
    assert not getter.done()
    queue.put_nowait(2)
    assert await getter == 2


async def test_room_may_be_taken_before_a_woken_putter_runs() -> None:
    queue: Queue[int] = Queue(1)
    queue.put_nowait(1)
    putter = runtime.create_task(queue.put(3))
    await wait_all_tasks_blocked()
    assert queue.get_nowait() == 1
    queue.put_nowait(2)
    await wait_all_tasks_blocked()
    assert not putter.done()
    assert queue.get_nowait() == 2
    assert await queue.get() == 3
    await putter


async def test_a_getter_that_is_cancelled_when_it_was_woken_wakes_the_next() -> None:
    queue: Queue[int] = Queue()
    first, second = (runtime.create_task(queue.get()) for _ in range(2))
    await wait_all_tasks_blocked()
    queue.put_nowait(1)
    first.cancel()
    await assert_cancelled(first)
    assert await second == 1


async def test_a_putter_that_is_cancelled_when_it_was_woken_wakes_the_next() -> None:
    queue: Queue[int] = Queue(1)
    queue.put_nowait(0)
    first, second = (runtime.create_task(queue.put(number)) for number in (1, 2))
    await wait_all_tasks_blocked()
    assert queue.get_nowait() == 0
    first.cancel()
    await assert_cancelled(first)
    await second
    assert queue.get_nowait() == 2
    assert queue.empty()


async def test_waiters_that_were_cancelled_are_forgotten() -> None:
    queue: Queue[int] = Queue(1)
    getters = [runtime.create_task(queue.get()) for _ in range(3)]
    await wait_all_tasks_blocked()
    getters[0].cancel()
    getters[1].cancel()
    queue.put_nowait(1)  # the first two are still in the queue
    assert await getters[2] == 1
    for getter in getters[:2]:
        await assert_cancelled(getter)
    queue.put_nowait(1)
    putters = [runtime.create_task(queue.put(number)) for number in (2, 3)]
    await wait_all_tasks_blocked()
    putters[0].cancel()
    assert queue.get_nowait() == 1
    await putters[1]
    await assert_cancelled(putters[0])
    assert queue.get_nowait() == 3
    waiting = runtime.create_task(queue.get())
    await wait_all_tasks_blocked()
    waiting.cancel()
    await assert_cancelled(waiting)
    assert "getters" not in repr(queue)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_cancelled_waiter_is_passed_over(waits: bool) -> None:
    queue: Queue[int] = Queue(1)
    getters = [runtime.create_task(queue.get()) for _ in range(2)]
    await wait_all_tasks_blocked()
    getters[0].cancel()
    if waits:
        await queue.put(1)
    else:
        queue.put_nowait(1)
    await wait_all_tasks_blocked()
    assert getters[1].result() == 1
    queue.put_nowait(2)
    putters = [runtime.create_task(queue.put(number)) for number in (3, 4)]
    await wait_all_tasks_blocked()
    putters[0].cancel()
    assert (await queue.get() if waits else queue.get_nowait()) == 2
    await wait_all_tasks_blocked()
    assert putters[1].done()
    assert queue.get_nowait() == 4


async def test_items_of_cancelled_getters_stay() -> None:
    queue: Queue[int] = Queue()
    getter = runtime.create_task(queue.get())
    await wait_all_tasks_blocked()
    queue.put_nowait(1)
    getter.cancel()
    await assert_cancelled(getter)
    assert queue.get_nowait() == 1


async def test_join_waits_until_all_is_done() -> None:
    queue: Queue[int] = Queue()
    await queue.join()
    for number in range(2):
        queue.put_nowait(number)
    joiners = [runtime.create_task(queue.join()) for _ in range(2)]
    await wait_all_tasks_blocked()
    queue.get_nowait()
    queue.task_done()
    assert await queue.get() == 1
    await wait_all_tasks_blocked()
    assert not any(joiner.done() for joiner in joiners)
    queue.task_done()
    await runtime.gather(*joiners)
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


async def test_a_cancelled_join_is_forgotten() -> None:
    queue: Queue[int] = Queue()
    queue.put_nowait(1)
    joiners = [runtime.create_task(queue.join()) for _ in range(2)]
    await wait_all_tasks_blocked()
    joiners[0].cancel()
    await assert_cancelled(joiners[0])
    joiners[1].cancel()
    queue.task_done()
    await assert_cancelled(joiners[1])


@pytest.mark.parametrize("kind", KINDS)
async def test_shutdown_lets_the_items_be_taken(kind: type[Queue[int]]) -> None:
    queue = kind()
    queue.put_nowait(1)
    queue.put_nowait(2)
    queue.shutdown()
    with pytest.raises(runtime.QueueShutDown):
        queue.put_nowait(3)
    with pytest.raises(runtime.QueueShutDown):
        await queue.put(3)
    assert {await queue.get(), queue.get_nowait()} == {1, 2}
    with pytest.raises(runtime.QueueShutDown):
        queue.get_nowait()
    with pytest.raises(runtime.QueueShutDown):
        await queue.get()
    queue.task_done()
    queue.task_done()
    await queue.join()
    assert "shutdown" in repr(queue)


@pytest.mark.parametrize("kind", KINDS)
async def test_immediate_shutdown_drops_the_items_and_counts_them_as_done(
    kind: type[Queue[int]],
) -> None:
    queue = kind()
    for number in range(3):
        queue.put_nowait(number)
    queue.get_nowait()
    joiner = runtime.create_task(queue.join())
    await wait_all_tasks_blocked()
    queue.shutdown(immediate=True)
    assert queue.empty()
    with pytest.raises(runtime.QueueShutDown):
        await queue.get()
    await wait_all_tasks_blocked()
    assert not joiner.done()
    queue.task_done()
    await joiner
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


async def test_immediate_shutdown_may_end_a_join() -> None:
    queue: Queue[int] = Queue()
    queue.put_nowait(1)
    joiner = runtime.create_task(queue.join())
    await wait_all_tasks_blocked()
    queue.shutdown(immediate=True)
    await joiner


async def test_immediate_shutdown_after_more_was_said_to_be_done_than_was_taken() -> None:
    queue: Queue[int] = Queue()
    queue.put_nowait(1)
    queue.put_nowait(2)
    queue.task_done()
    queue.task_done()
    queue.shutdown(immediate=True)
    await queue.join()
    assert queue.empty()


@pytest.mark.parametrize("immediate", [False, True])
async def test_shutdown_wakes_all_waiters(immediate: bool) -> None:
    empty: Queue[int] = Queue()
    full: Queue[int] = Queue(1)
    full.put_nowait(1)
    waiters: list[runtime.Task[Any]] = [runtime.create_task(empty.get()) for _ in range(2)]
    waiters += [runtime.create_task(full.put(number)) for number in range(2)]
    await wait_all_tasks_blocked()
    waiters[0].cancel()
    empty.shutdown(immediate)
    full.shutdown(immediate)
    await assert_cancelled(waiters[0])
    for waiter in waiters[1:]:
        with pytest.raises(runtime.QueueShutDown):
            await waiter
    assert full.qsize() == (0 if immediate else 1)
    empty.shutdown(immediate)


def test_how_it_is_shown() -> None:
    queue: Queue[int] = Queue(3)
    assert str(queue) == "<Queue maxsize=3>"
    queue.put_nowait(1)
    assert str(queue) == "<Queue maxsize=3 items=[1] unfinished=1>"
    assert repr(PriorityQueue()).startswith("<PriorityQueue at 0x")


async def test_producers_and_consumers() -> None:
    queue: Queue[int] = Queue(3)
    log = Log()

    async def produce(start: int) -> None:
        for number in range(start, start + 50):
            await queue.put(number)

    async def consume() -> None:
        while True:
            try:
                log.add(await queue.get())
            except runtime.QueueShutDown:
                return
            queue.task_done()

    consumers = [runtime.create_task(consume()) for _ in range(4)]
    await runtime.gather(produce(0), produce(50), produce(100))
    await queue.join()
    queue.shutdown()
    await runtime.gather(*consumers)
    assert sorted(map(int, log)) == list(range(150))


@pytest.mark.parametrize("kind", [Queue, LifoQueue, PriorityQueue])
@pytest.mark.parametrize("maxsize", [None, "5", b"5", [], 1j, object()])
def test_a_size_that_is_not_a_number(kind: Any, maxsize: object) -> None:
    with pytest.raises(TypeError, match="maxsize must be a number, got "):
        kind(maxsize)


def test_odd_sizes() -> None:
    with pytest.raises(ValueError, match="got NaN"):
        Queue(float("nan"))  # type: ignore[arg-type]
    sizes: list[tuple[Any, int]] = [(2.5, 3), (2.0, 2), (Fraction(5, 2), 3), (Index(2), 2)]
    for size, room in sizes:
        queue = Queue[int](size)
        for number in range(room):
            assert not queue.full()
            queue.put_nowait(number)
        assert queue.full()
    for size in (float("inf"), -1.5, 0.0):
        queue = Queue(size)  # type: ignore[arg-type]
        for number in range(100):
            queue.put_nowait(number)

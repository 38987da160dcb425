"""Waits whose condition comes true after it was tested, and before the task waits.

A wait tests the state, makes a future, and puts it in the queue of the waiters. Making the future
allocates memory, so that the garbage collector may run, and a finalizer may put an item, set an
event or release a lock. The tests have the loop call such a function whenever it makes a future.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import runtime
from runtime.sync.barrier import Barrier
from runtime.sync.channels import BrokenChannel, ClosedChannel, EndOfChannel, open_channel
from runtime.sync.limiter import CapacityLimiter
from runtime.sync.locks import BoundedSemaphore, Event, Lock, Semaphore
from runtime.sync.queues import Queue
from runtime.testing import wait_all_tasks_blocked

Case = tuple[Coroutine[Any, Any, object], Callable[[], object]]


class InterruptedLoop(runtime.Loop):
    """A loop that calls ``finalizer`` once, when the next future is made."""

    finalizer: Callable[[], object] | None = None

    def is_interrupted_later(self) -> bool:
        return self.finalizer is not None

    def create_future(self) -> runtime.Future[Any]:  # type: ignore[override]
        finalizer, self.finalizer = self.finalizer, None
        if finalizer is not None:
            finalizer()
        return super().create_future()


async def a_lock() -> Case:
    lock = Lock()
    await lock.acquire()
    return lock.acquire(), lock.release


async def a_block_with_a_lock() -> Case:
    lock = Lock()
    await lock.acquire()

    async def block() -> None:
        async with lock:
            assert lock.locked()
        assert not lock.locked()

    return block(), lock.release


async def a_semaphore() -> Case:
    semaphore = Semaphore(0)
    return semaphore.acquire(), semaphore.release


async def a_bounded_semaphore() -> Case:
    semaphore = BoundedSemaphore(1)
    await semaphore.acquire()
    return semaphore.acquire(), semaphore.release


async def an_event() -> Case:
    event = Event()
    return event.wait(), event.set


async def an_item() -> Case:
    queue = Queue[int]()
    return queue.get(), functools.partial(queue.put_nowait, 1)


async def an_item_of_a_queue_that_is_shut_down() -> Case:
    queue = Queue[int]()
    return refused(queue.get(), runtime.QueueShutDown), queue.shutdown


async def room() -> Case:
    queue = Queue[int](1)
    queue.put_nowait(1)
    return queue.put(2), queue.get_nowait


async def room_in_a_queue_that_is_shut_down() -> Case:
    queue = Queue[int](1)
    queue.put_nowait(1)
    return refused(queue.put(2), runtime.QueueShutDown), queue.shutdown


async def the_end_of_the_work() -> Case:
    queue = Queue[int]()
    queue.put_nowait(1)
    queue.get_nowait()
    return queue.join(), queue.task_done


async def a_token() -> Case:
    limiter = CapacityLimiter(1)
    await limiter.acquire("other")
    return limiter.acquire("own"), functools.partial(limiter.release, "other")


async def a_new_token() -> Case:
    limiter = CapacityLimiter(0)
    return limiter.acquire("own"), lambda: setattr(limiter, "total", 1)


async def a_sent_item() -> Case:
    send, receive = open_channel[int](1)
    return receive.receive(), functools.partial(send.send_nowait, 1)


async def the_end_of_a_channel() -> Case:
    send, receive = open_channel[int](1)
    return refused(receive.receive(), EndOfChannel), send.close


async def an_item_of_an_end_that_is_closed() -> Case:
    _send, receive = open_channel[int](1)
    return refused(receive.receive(), ClosedChannel), receive.close


async def room_in_a_channel() -> Case:
    send, receive = open_channel[int](1)
    send.send_nowait(1)
    return send.send(2), receive.receive_nowait


async def a_broken_channel() -> Case:
    send, receive = open_channel[int](0)
    return refused(send.send(1), BrokenChannel), receive.close


async def room_in_an_end_that_is_closed() -> Case:
    send, _receive = open_channel[int](0)
    return refused(send.send(1), ClosedChannel), send.close


async def a_barrier_that_is_aborted() -> Case:
    barrier = Barrier(2)
    abort = functools.partial(run_through, barrier.abort)
    return refused(barrier.wait(), runtime.BrokenBarrierError), abort


async def a_barrier_that_is_reset() -> Case:
    barrier = Barrier(2)
    reset = functools.partial(run_through, barrier.reset)
    return refused(barrier.wait(), runtime.BrokenBarrierError), reset


async def refused(wait: Awaitable[object], error: type[Exception]) -> None:
    with pytest.raises(error):
        await wait


def run_through(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that never suspends."""
    with pytest.raises(StopIteration):
        function().send(None)


@pytest.mark.parametrize(
    "make",
    [
        a_lock,
        a_block_with_a_lock,
        a_semaphore,
        a_bounded_semaphore,
        an_event,
        an_item,
        an_item_of_a_queue_that_is_shut_down,
        room,
        room_in_a_queue_that_is_shut_down,
        the_end_of_the_work,
        a_token,
        a_new_token,
        a_sent_item,
        the_end_of_a_channel,
        an_item_of_an_end_that_is_closed,
        room_in_a_channel,
        a_broken_channel,
        room_in_an_end_that_is_closed,
        a_barrier_that_is_aborted,
        a_barrier_that_is_reset,
    ],
)
def test_a_finalizer_that_runs_before_the_task_waits(make: Callable[[], Awaitable[Case]]) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        assert isinstance(loop, InterruptedLoop)
        wait, finalizer = await make()
        task = runtime.create_task(wait)
        loop.finalizer = finalizer
        await runtime.sleep(0)
        assert not loop.is_interrupted_later()
        await wait_all_tasks_blocked()
        if not task.done():
            task.cancel()
            pytest.fail(f"{task!r} waits for ever")
        await task

    runtime.run(main(), loop_factory=InterruptedLoop)


def test_a_permit_that_is_released_early_is_given_once() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        assert isinstance(loop, InterruptedLoop)
        semaphore = Semaphore(0)
        tasks = [runtime.create_task(semaphore.acquire()) for _ in range(3)]
        loop.finalizer = semaphore.release
        await runtime.sleep(0)
        assert not loop.is_interrupted_later()
        await wait_all_tasks_blocked()
        assert [task.done() for task in tasks] == [True, False, False]
        assert semaphore.locked()
        semaphore.release()
        semaphore.release()
        await runtime.gather(*tasks)
        assert semaphore.locked()
        semaphore.release()
        assert "value:1" in repr(semaphore)

    runtime.run(main(), loop_factory=InterruptedLoop)


class PutsWhenCollected:
    """An object in a reference cycle, whose finalizer puts an item."""

    def __init__(self, queue: Queue[int]) -> None:
        self.queue = queue
        self.cycle = self

    def __del__(self) -> None:
        self.queue.put_nowait(1)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="needs the collector of CPython")
def test_an_item_that_the_garbage_collector_puts() -> None:
    class CollectingLoop(runtime.Loop):
        def create_future(self) -> runtime.Future[Any]:  # type: ignore[override]
            gc.collect()
            return super().create_future()

    async def main() -> int:
        queue = Queue[int]()
        PutsWhenCollected(queue)
        task = runtime.create_task(queue.get())
        await runtime.sleep(0)
        await wait_all_tasks_blocked()
        assert task.done()
        return await task

    assert runtime.run(main(), loop_factory=CollectingLoop) == 1

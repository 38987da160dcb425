from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime
from runtime.sync.barrier import Barrier
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import assert_cancelled


async def test_no_task_passes_before_all_have_arrived() -> None:
    barrier = Barrier(3)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    tasks = [runtime.create_task(barrier.wait()) for _ in range(2)]
    await wait_all_tasks_blocked()
    assert barrier.n_waiting == 2
    assert "[filling, waiters:2/3]" in repr(barrier)
    assert not any(task.done() for task in tasks)
    assert await barrier.wait() == 2
    assert barrier.n_waiting == 0
    assert [await task for task in tasks] == [0, 1]
    assert "[filling, waiters:0/3]" in repr(barrier)


async def test_one_party_never_waits() -> None:
    barrier = Barrier(1)
    for _ in range(3):
        async with barrier as index:
            assert index == 0


@pytest.mark.parametrize("parties", [0, -1])
def test_there_must_be_a_party(parties: int) -> None:
    with pytest.raises(ValueError, match=f"got {parties}"):
        Barrier(parties)


async def test_it_can_be_used_again_and_again() -> None:
    barrier = Barrier(3)
    rounds: list[list[int]] = [[] for _ in range(4)]

    async def work() -> None:
        for indices in rounds:
            async with barrier as index:
                indices.append(index)

    await runtime.gather(*[work() for _ in range(3)])
    assert [sorted(indices) for indices in rounds] == [[0, 1, 2]] * 4


async def test_more_tasks_than_parties_go_in_groups() -> None:
    barrier = Barrier(2)
    indices = await runtime.gather(*[barrier.wait() for _ in range(6)])
    assert sorted(indices) == [0, 0, 0, 1, 1, 1]


async def test_a_cancelled_task_has_not_come_and_its_index_is_given_again() -> None:
    barrier = Barrier(3)
    first, second = (runtime.create_task(barrier.wait()) for _ in range(2))
    await wait_all_tasks_blocked()
    first.cancel()
    await assert_cancelled(first)
    assert barrier.n_waiting == 1
    third = runtime.create_task(barrier.wait())
    await wait_all_tasks_blocked()
    assert not second.done()
    last = await barrier.wait()
    assert sorted([await second, await third, last]) == [0, 1, 2]


async def test_reset_breaks_waiting_tasks_and_starts_again() -> None:
    barrier = Barrier(2)
    task = runtime.create_task(barrier.wait())
    await wait_all_tasks_blocked()
    await barrier.reset()
    assert barrier.n_waiting == 0
    assert "resetting" in repr(barrier)
    waiting = runtime.create_task(barrier.wait())  # It waits outside until the other task has left.
    with pytest.raises(runtime.BrokenBarrierError, match="aborted or reset"):
        await task
    assert not barrier.broken
    assert await barrier.wait() in (0, 1)
    assert await waiting in (0, 1)


async def test_reset_of_an_empty_barrier() -> None:
    barrier = Barrier(2)
    await barrier.reset()
    assert (barrier.n_waiting, barrier.broken) == (0, False)


async def test_abort_breaks_waiting_and_arriving_tasks() -> None:
    barrier = Barrier(2)
    task = runtime.create_task(barrier.wait())
    await wait_all_tasks_blocked()
    await barrier.abort()
    assert barrier.broken
    assert "[broken]" in repr(barrier)
    with pytest.raises(runtime.BrokenBarrierError, match="aborted"):
        await barrier.wait()
    with pytest.raises(runtime.BrokenBarrierError):
        await task
    with pytest.raises(runtime.BrokenBarrierError):
        async with barrier:
            raise AssertionError("unreachable")
    await barrier.reset()
    assert "broken" not in repr(barrier)
    assert sorted(await runtime.gather(barrier.wait(), barrier.wait())) == [0, 1]


@pytest.mark.parametrize("end", [Barrier.abort, Barrier.reset])
async def test_tasks_that_have_not_left_yet_are_broken_too(
    end: Callable[[Barrier], Coroutine[Any, Any, None]],
) -> None:
    barrier = Barrier(2)
    task = runtime.create_task(barrier.wait())
    await wait_all_tasks_blocked()
    assert await barrier.wait() == 1
    await end(barrier)
    with pytest.raises(runtime.BrokenBarrierError):
        await task
    await barrier.reset()
    assert sorted(await runtime.gather(barrier.wait(), barrier.wait())) == [0, 1]


async def test_abort_reaches_tasks_that_wait_outside() -> None:
    barrier = Barrier(2)
    inside = runtime.create_task(barrier.wait())
    await wait_all_tasks_blocked()
    await barrier.wait()
    assert "draining" in repr(barrier)
    outside = barrier.wait()
    assert outside.send(None) is not None
    await barrier.abort()
    with pytest.raises(runtime.BrokenBarrierError, match="was aborted"):
        outside.send(None)
    with pytest.raises(runtime.BrokenBarrierError):
        await inside


@pytest.mark.parametrize("parties", [2.5, 2.0, float("inf"), "2", None])
def test_parties_are_a_whole_number(parties: Any) -> None:
    with pytest.raises(TypeError, match="parties must be a whole number, got "):
        Barrier(parties)

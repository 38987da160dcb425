"""Chains and cycles of tasks that wait for one another: they can be cancelled and reported."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
import runtime.testing
from runtime.kernel.task import cancel_all
from runtime.testing import wait_all_tasks_blocked

# Long chains take long, and are alike in all builds of the same modules.
pytestmark = pytest.mark.variation

LONG = 3 * sys.getrecursionlimit() // 2

Wait = Callable[[Any], Awaitable[Any]]
"""Waits for another task."""


async def plainly(other: Any) -> Any:
    return await other


async def in_a_gathering(other: Any) -> Any:
    return await runtime.gather(other, runtime.sleep(0))


async def in_several_gatherings(other: Any) -> Any:
    for _ in range(3):
        other = runtime.gather(other)
    return await other


async def in_a_gathering_of_asyncio(other: Any) -> Any:
    return await asyncio.gather(other)


async def with_a_limit(other: Any) -> Any:
    return await runtime.wait_for(other, None)


async def as_an_iterator(other: Any) -> Any:
    # This is the way of plain generators and Cython's coroutines.
    return await AwaitableOf(other)


class AwaitableOf:
    def __init__(self, other: Any) -> None:
        self._other = other

    def __await__(self) -> Any:
        return (yield from self._other.__await__())


VARIATIONS: list[Wait] = [in_a_gathering, in_a_gathering_of_asyncio, with_a_limit, as_an_iterator]
WAITS = [
    plainly,
    in_several_gatherings,
    *(pytest.param(wait, marks=pytest.mark.variation) for wait in VARIATIONS),
]


class Waiters:
    """Tasks, each of which waits for the next, and records its cancellation and its clean-up."""

    def __init__(self, wait: Wait, number: int, last: Awaitable[Any] | None = None) -> None:
        self.cleaned_up: list[int] = []
        self.cancelled: list[int] = []
        self.tasks: list[runtime.Task[Any]] = []
        loop = runtime.get_running_loop()
        # The last task waits for the first unless another future is given.
        self._last = last
        for index in range(number):
            self.tasks.append(loop.create_task(self._run(wait, index), name=str(index)))

    async def _run(self, wait: Wait, index: int) -> None:
        if index + 1 < len(self.tasks):
            other: Any = self.tasks[index + 1]
        else:
            other = self._last if self._last is not None else self.tasks[0]
        try:
            await wait(other)
        except runtime.CancelledError:
            self.cancelled.append(index)
            raise
        finally:
            await runtime.sleep(0)
            self.cleaned_up.append(index)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(
    "first", [0, pytest.param(LONG // 2, marks=pytest.mark.variation), LONG - 1]
)
async def test_a_long_chain_is_cancelled_at_any_place(wait: Wait, first: int) -> None:
    chain = Waiters(wait, LONG, runtime.get_running_loop().create_future())
    await wait_all_tasks_blocked()
    assert chain.tasks[first].cancel()
    await runtime.wait(chain.tasks)
    assert sorted(chain.cancelled) == [*range(LONG)] == sorted(chain.cleaned_up)
    assert chain.cancelled == [*range(LONG - 1, -1, -1)]
    assert [task.cancelling() for task in chain.tasks[:first]] == [0] * first
    assert {task.cancelling() for task in chain.tasks[first:]} == {1}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("number", [1, 2, 3, LONG])
async def test_a_cycle_is_cancelled_at_any_place(wait: Wait, number: int) -> None:
    if number == 1 and wait not in (in_a_gathering, in_several_gatherings):
        pytest.skip("a task that waits for itself is refused")
    for first in sorted({0, number // 2, number - 1}):
        cycle = Waiters(wait, number)
        await wait_all_tasks_blocked()
        assert cycle.tasks[first].cancel()
        await runtime.wait(cycle.tasks)
        assert sorted(cycle.cancelled) == [*range(number)] == sorted(cycle.cleaned_up)
        # A simulated run refuses very many steps without a moment of time.
        await runtime.sleep(0.001)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("number", [2, LONG])
@pytest.mark.parametrize("is_cycle", [True, False])
def test_the_end_of_a_run_cleans_up(wait: Wait, number: int, is_cycle: bool) -> None:
    async def main() -> Waiters:
        last = None if is_cycle else runtime.get_running_loop().create_future()
        waiters = Waiters(wait, number, last)
        await wait_all_tasks_blocked()
        return waiters

    waiters = runtime.run(main())
    assert sorted(waiters.cancelled) == [*range(number)] == sorted(waiters.cleaned_up)


def run_in_debug_mode(main: Any) -> None:
    runtime.run(main, debug=True)


def run_until_idle(main: Any) -> None:
    runtime.run(main, until="idle")


@pytest.mark.parametrize("wait", WAITS[:3])
@pytest.mark.parametrize("number", [2, LONG // 2])
@pytest.mark.parametrize("is_cycle", [True, False])
@pytest.mark.parametrize("run", [runtime.testing.run, run_in_debug_mode, run_until_idle])
def test_a_deadlock_is_reported(
    run: Callable[[Any], None], wait: Wait, number: int, is_cycle: bool
) -> None:
    started: list[Waiters] = []

    async def main() -> None:
        last = None if is_cycle else runtime.get_running_loop().create_future()
        started.append(Waiters(wait, number, last))
        await started[0].tasks[0]

    with pytest.raises(runtime.DeadlockError) as caught:
        run(main())
    assert len(caught.value.tasks) >= number
    assert sorted(started[0].cleaned_up) == [*range(number)]


async def test_a_task_of_a_cycle_may_refuse_and_be_asked_again() -> None:
    refusals = 0

    async def refuse(other: Any) -> None:
        nonlocal refusals
        try:
            await other()
        except runtime.CancelledError:
            refusals += 1
            if refusals > 2:
                raise
            await refuse(other)

    one: runtime.Task[None] = runtime.create_task(refuse(lambda: two))
    two: runtime.Task[None] = runtime.create_task(refuse(lambda: one))
    await wait_all_tasks_blocked()
    for _ in range(3):
        one.cancel()
        await wait_all_tasks_blocked()
    assert one.cancelled()
    assert two.done()


async def test_a_cycle_ends_by_a_timeout() -> None:
    async def wait_for_other() -> None:
        await other

    async def main() -> str:
        try:
            async with runtime.timeout(0):
                await inner
        except TimeoutError:
            return "timed out"
        return "ended"

    other: runtime.Task[str] = runtime.create_task(main())
    inner = runtime.create_task(wait_for_other())
    assert await other == "timed out"
    await inner


async def test_gatherings_of_gatherings_are_cancelled() -> None:
    future = runtime.get_running_loop().create_future()
    gathering: Any = runtime.gather(future)
    for _ in range(LONG):
        gathering = runtime.gather(gathering, return_exceptions=True)
    assert gathering.cancel()
    await wait_all_tasks_blocked()
    assert future.cancelled()
    assert not gathering.cancel()
    with pytest.raises(runtime.CancelledError):
        await gathering


async def test_a_cancel_method_of_the_programs_own_is_called() -> None:
    asked: list[object] = []

    class Odd(runtime.Task[None]):
        def cancel(self, msg: object = None) -> bool:
            asked.append(msg)
            return super().cancel(msg)

    inner = Odd(runtime.sleep(3600), loop=runtime.get_running_loop())
    outer = runtime.create_task(plainly(runtime.gather(plainly(inner))))
    await wait_all_tasks_blocked()
    outer.cancel("stop")
    await wait_all_tasks_blocked()
    assert asked == ["stop"]
    assert inner.cancelled()
    assert outer.cancelled()


async def test_an_exception_of_a_cancel_method_leaves_later_requests_working() -> None:
    class Odd(runtime.Task[None]):
        def cancel(self, msg: object = None) -> bool:
            super().cancel(msg)
            raise ZeroDivisionError

    inner = Odd(runtime.sleep(3600), loop=runtime.get_running_loop())
    outer = runtime.create_task(plainly(runtime.create_task(plainly(inner))))
    await wait_all_tasks_blocked()
    with pytest.raises(ZeroDivisionError):
        outer.cancel()
    other = runtime.create_task(runtime.sleep(3600))
    await wait_all_tasks_blocked()
    other.cancel()
    await wait_all_tasks_blocked()
    assert other.cancelled()
    assert inner.cancelled()
    assert outer.cancelled()


async def test_a_cancel_method_that_raises_keeps_no_other_task_from_being_cancelled() -> None:
    class Odd(runtime.Task[None]):
        def cancel(self, msg: object = None) -> bool:
            super().cancel(msg)
            raise ZeroDivisionError

    loop = runtime.get_running_loop()
    tasks = [Odd(runtime.sleep(3600), loop=loop) for _ in range(3)]
    others = [runtime.create_task(plainly(task)) for task in tasks]
    await wait_all_tasks_blocked()
    with pytest.raises(ZeroDivisionError):
        cancel_all(loop, [others[0], *tasks[:2], *others[1:]], runtime.CancelReason("end"))
    await wait_all_tasks_blocked()
    assert all(task.cancelled() for task in [*tasks, *others])


async def test_many_paths_to_a_task_are_walked_once() -> None:
    future = runtime.get_running_loop().create_future()
    layer = [runtime.create_task(plainly(future)) for _ in range(2)]
    layers = [layer]
    for _ in range(40):  # there are two to the power of forty paths
        layer = [runtime.create_task(plainly(runtime.gather(*layer))) for _ in range(2)]
        layers.append(layer)
    await wait_all_tasks_blocked()
    layer[0].cancel()
    layer[1].cancel()
    await wait_all_tasks_blocked()
    assert all(task.cancelled() for layer in layers for task in layer)


async def test_all_of_a_chain_may_be_cancelled_at_once() -> None:
    chain = Waiters(plainly, LONG, runtime.get_running_loop().create_future())
    await wait_all_tasks_blocked()
    cancel_all(runtime.get_running_loop(), chain.tasks, runtime.CancelReason("end"))
    # One request comes from the test, and one from the task that waits for this task.
    assert max(task.cancelling() for task in chain.tasks) <= 2
    await runtime.wait(chain.tasks)
    assert sorted(chain.cancelled) == [*range(LONG)]


async def test_a_long_chain_has_a_call_graph() -> None:
    number = sys.getrecursionlimit() + 100
    future = runtime.get_running_loop().create_future()
    chain = Waiters(plainly, number, future)
    await wait_all_tasks_blocked()
    graph = runtime.capture_call_graph(future)
    assert "FutureCallGraph of <Future pending" in repr(graph)
    length = 0
    while graph is not None and graph.awaited_by:
        length += 1
        [graph] = graph.awaited_by
    assert length == number
    assert runtime.format_call_graph(future, limit=0).count("* Task") == number
    chain.tasks[-1].cancel()
    await runtime.wait(chain.tasks)


async def test_a_call_graph_of_exponentially_many_ways_is_bounded() -> None:
    future = runtime.get_running_loop().create_future()

    async def wait(below: list[Any]) -> None:
        await runtime.wait(below)

    layers = [[future]]
    for number in range(100):
        layers.append([runtime.create_task(wait(layers[-1]), name=f"{number}") for _ in range(2)])
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    graph = runtime.capture_call_graph(future)
    ways = 1
    while graph is not None and graph.awaited_by:
        ways *= len(graph.awaited_by)
        graph = graph.awaited_by[0]
    assert ways == 2**100
    text = runtime.format_call_graph(future)
    assert text.count("* Task") < 1000
    for number in range(100):
        assert f"name='{number}'" in text
    assert "(shown above)" in text
    future.set_result(None)
    await runtime.wait(layers[-1])


async def test_a_small_call_graph_shows_a_task_that_waits_twice_in_both_places() -> None:
    future = runtime.get_running_loop().create_future()

    async def wait() -> None:
        await future

    async def wait_for_both() -> None:
        await runtime.gather(wait(), wait())

    task = runtime.create_task(wait_for_both(), name="top")
    await wait_all_tasks_blocked()
    assert runtime.format_call_graph(future).count("name='top'") == 2
    future.set_result(None)
    await task


async def test_callbacks_that_link_futures_in_a_row_or_a_cycle_end_a_call_graph() -> None:
    futures = [runtime.get_running_loop().create_future() for _ in range(LONG)]
    for one, other in zip(futures, [*futures[1:], futures[0]], strict=True):
        one.add_done_callback(functools.partial(asyncio.isfuture, other))
    graph = runtime.capture_call_graph(futures[0])
    assert graph is not None
    assert graph.awaited_by == ()


def test_exceptions_whose_contexts_are_a_cycle_pass_a_timeout() -> None:
    async def main() -> None:
        one, other = KeyError(1), KeyError(2)
        one.__context__, other.__context__ = other, one
        async with runtime.timeout(0):
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                raise one from other
            finally:
                one.__context__ = other

    with pytest.raises(KeyError):
        runtime.run(main())

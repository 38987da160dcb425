"""Partial-order reduction: every outcome is found, in fewer runs, and independence is proved."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

import runtime
from runtime import simulation
from runtime.simulation import reducing
from runtime.simulation.choices import Strategy
from runtime.simulation.current import Order, Settings
from runtime.simulation.executing import execute
from runtime.simulation.reducing import ReducedSearch
from runtime.simulation.strategies import exhaustive
from tests.simulation.programs import distributed, flow, locking, updates
from tests.simulation.programs.catalogue import PROGRAMS, Program

ALL = (distributed, flow, locking, updates)
"""The modules that fill the catalogue."""

Main = Callable[[], Awaitable[object]]


def outcomes(main: Main, order: Order, *, reduce: bool, most: int = 3000) -> tuple[int, set[str]]:
    """Return the number of runs of a complete search, and the outcomes that it has seen."""
    search = ReducedSearch(reduce=reduce)
    seen: set[str] = set()
    runs = 0
    while (strategy := search.next_run()) is not None:
        assert runs < most
        runs += 1
        seen.add(outcome_with(main, order, strategy, search))
    assert search.complete
    return runs, seen


def outcome_with(main: Main, order: Order, strategy: Strategy, search: ReducedSearch) -> str:
    outcome = execute(main, Settings(order=order), strategy, 0)
    search.learn(outcome.choices)
    return repr(outcome.value) if outcome.error is None else type(outcome.error).__name__


async def separate() -> object:
    """Two tasks that have nothing in common."""

    async def work() -> tuple[int, ...]:
        own: list[int] = []
        for number in range(2):
            own.append(number)
            await runtime.sleep(0)
        return tuple(own)

    return await asyncio.gather(work(), work())


async def common() -> object:
    """Two tasks that append to one list."""
    log: list[str] = []

    async def work(name: str) -> None:
        for _ in range(2):
            log.append(name)
            await runtime.sleep(0)

    await asyncio.gather(work("a"), work("b"))
    return log


async def counter() -> object:
    """Two tasks that assign to a variable of the function around them."""
    number = 0

    async def work(more: int) -> None:
        nonlocal number
        before = number
        await runtime.sleep(0)
        number = before + more

    await asyncio.gather(work(1), work(2))
    return number


total = 0


async def global_counter() -> object:
    """Let two tasks assign to a global variable."""
    global total  # noqa: PLW0603 - the subject of the test
    total = 0

    async def work(more: int) -> None:
        global total  # noqa: PLW0603 - the subject of the test
        before = total
        await runtime.sleep(0)
        total = before + more

    await asyncio.gather(work(1), work(2))
    return total


class Box:
    content = 0


async def attribute_of_a_class() -> object:
    """Two tasks that share an attribute of a class, which no local variable names."""
    Box.content = 0

    async def work(more: int) -> None:
        before = Box.content
        await runtime.sleep(0)
        Box.content = before + more

    await asyncio.gather(work(1), work(2))
    return Box.content


async def result_of_a_future() -> object:
    """One task sees by a future whether another one was faster."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def offer(number: int) -> None:
        await runtime.sleep(0)
        if not future.done():
            future.set_result(number)

    await asyncio.gather(offer(1), offer(2))
    return future.result()


async def cancellation() -> object:
    """Cancel a task while what it awaits may be done."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await future

    waiting = asyncio.ensure_future(wait())

    async def cancel() -> None:
        await runtime.sleep(0)
        waiting.cancel()

    async def answer() -> str:
        await runtime.sleep(0)
        if future.cancelled():
            return "too late"
        future.set_result(1)
        return "answered"

    _, said = await asyncio.gather(cancel(), answer())
    return said, (await asyncio.gather(waiting, return_exceptions=True))[0] == 1


async def random_numbers() -> object:
    """Two tasks that share the state of the random module."""

    async def work() -> int:
        await runtime.sleep(0)
        return random.randrange(1000)

    return await asyncio.gather(work(), work())


tag: ContextVar[list[int]] = ContextVar("tag")


async def context_variable() -> object:
    """Let two tasks share a list that a context variable holds."""
    tag.set([])

    async def work(name: int) -> None:
        await runtime.sleep(0)
        tag.get().append(name)

    await asyncio.gather(work(1), work(2))
    return tag.get()


async def queue_and_lock() -> object:
    queue: runtime.Queue[int] = runtime.Queue(1)
    lock = runtime.Lock()
    log: list[int] = []

    async def put(number: int) -> None:
        await queue.put(number)

    async def get() -> None:
        number = await queue.get()
        async with lock:
            log.append(number)

    await asyncio.gather(put(1), put(2), get(), get())
    return log


async def two_calls() -> object:
    """Two calls in executors, of which each takes any time."""
    log: list[str] = []

    async def call(name: str) -> None:
        await runtime.to_thread(int)
        log.append(name)
        await runtime.to_thread(int)

    await asyncio.gather(call("a"), call("b"))
    return log


_LISTS: list[list[str]] = [[] for _ in range(5000)]


async def _append(log: list[str], name: str) -> None:
    await runtime.sleep(0)
    log.append(name)


async def another_object_in_each_run() -> object:
    """Three tasks append to one list, which has another address in each run.

    They have nothing else in common: not even a future or a task that waits for all of them.
    """
    log = _LISTS.pop()
    tasks = [asyncio.ensure_future(_append(log, name)) for name in "abc"]
    await runtime.sleep(1)
    assert all(task.done() for task in tasks)
    return log


MAINS = [
    separate,
    common,
    another_object_in_each_run,
    counter,
    global_counter,
    attribute_of_a_class,
    result_of_a_future,
    cancellation,
    context_variable,
    random_numbers,
    two_calls,
]


@pytest.mark.parametrize("order", ["tasks", "events"])
@pytest.mark.parametrize("main", MAINS)
def test_all_outcomes_are_found_in_fewer_runs(main: Main, order: Order) -> None:
    runs, seen = outcomes(main, order, reduce=True)
    all_runs, all_seen = outcomes(main, order, reduce=False)
    assert seen == all_seen
    assert runs <= all_runs


@pytest.mark.parametrize("main", [counter, result_of_a_future, cancellation, two_calls])
@pytest.mark.parametrize("order", ["tasks", "events"])
def test_the_outcomes_are_those_of_an_exhaustive_search(main: Main, order: Order) -> None:
    _, seen = outcomes(main, order, reduce=True)
    search = exhaustive(2).search(0)
    while (strategy := search.next()) is not None and search.runs < 3000:
        outcome = execute(main, Settings(order=order), strategy, 0)
        search.learn(outcome.choices)
        assert outcome.error is None
        assert repr(outcome.value) in seen


def test_tasks_with_nothing_in_common_need_few_runs() -> None:
    runs, _ = outcomes(separate, "tasks", reduce=True)
    all_runs, _ = outcomes(separate, "tasks", reduce=False)
    assert runs < all_runs


def test_queues_and_locks_need_fewer_runs() -> None:
    search = simulation.explore(queue_and_lock, runs=3000, strategy="reduced", order="tasks")
    assert search.complete


@pytest.mark.parametrize(
    "program",
    PROGRAMS,
    ids=[each.name for each in PROGRAMS],
)
def test_the_faults_of_the_programs_are_found(program: Program) -> None:
    found = simulation.explore(
        program.main(correct=False), runs=1000, strategy="reduced", check=False
    )
    assert found.failure is not None
    with pytest.raises(type(found.failure.error)):
        simulation.replay(program.main(correct=False), found.failure.token)


def test_a_failed_task_that_is_not_awaited_is_still_reported() -> None:
    async def fails() -> None:
        raise LookupError("lost")

    async def main() -> None:
        task: asyncio.Task[None] | None = asyncio.ensure_future(fails())
        await runtime.sleep(0)
        assert task is not None
        task = None
        await runtime.sleep(0)

    with pytest.raises(simulation.UnretrievedError, match="lost"):
        simulation.explore(main, strategy="reduced")


def test_an_invariant_sees_every_order() -> None:
    async def main() -> None:
        first, second = [0], [0]
        simulation.invariant(lambda: first[0] <= second[0], "the second one comes first")

        async def work(box: list[int], turns: int) -> None:
            for _ in range(turns):
                await runtime.sleep(0)
            box[0] = 1

        await asyncio.gather(work(second, 1), work(first, 2))

    with pytest.raises(simulation.InvariantError):
        simulation.explore(main, strategy="reduced", order="tasks", runs=500)


@pytest.mark.parametrize("main", [common, cancellation, two_calls])
def test_all_outcomes_are_found_branch_after_branch_too(
    main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen = outcomes(main, "tasks", reduce=True)
    monkeypatch.setattr(reducing, "_MOST_BROAD", 3)
    _, seen_in_depth = outcomes(main, "tasks", reduce=True)
    assert seen_in_depth == seen


def test_the_seed_decides_the_order_of_the_runs() -> None:
    async def main() -> None:
        places.append([simulation.integer(5, str(place)) for place in range(5)])

    orders = []
    for seed in (1, 1, 2):
        places: list[list[int]] = []
        simulation.explore(main, runs=30, strategy="reduced", seed=seed)
        orders.append(places)
    assert orders[0] == orders[1] != orders[2]
    # First the usual choices, and then all runs with one that differs.
    assert orders[0][0] == [0] * 5
    assert all(sum(map(bool, each)) == 1 for each in orders[0][1:21])
    assert all(sum(map(bool, each)) == 2 for each in orders[0][21:])


def test_a_program_that_does_not_repeat_itself_is_not_tried_for_ever() -> None:
    counts = iter([3, *[2] * 100])

    async def main() -> None:
        simulation.integer(next(counts))

    found = simulation.explore(main, runs=50, strategy="reduced")
    assert found.complete
    assert found.runs == 3

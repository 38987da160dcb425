"""Queues compared with a model, for any sequence of operations, waits and cancellations.

The model is the list of items, and the waiting calls in order. It predicts which waiting calls end,
and with which outcome, once the loop has come to rest.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime
from runtime.sync.queues import LifoQueue, PriorityQueue, Queue
from runtime.testing import wait_all_tasks_blocked
from tests.support.examples import examples
from tests.sync.tools import turns


def take_first(items: list[int]) -> int:
    return items.pop(0)


def take_last(items: list[int]) -> int:
    return items.pop()


def take_smallest(items: list[int]) -> int:
    heapq.heapify(items)
    return heapq.heappop(items)


KINDS: list[tuple[type[Queue[int]], Callable[[list[int]], int]]] = [
    (Queue, take_first),
    (LifoQueue, take_last),
    (PriorityQueue, take_smallest),
]


@dataclasses.dataclass
class Model:
    """Expected behaviour of a queue that comes to rest after every operation."""

    maxsize: int
    take: Callable[[list[int]], int]
    items: list[int] = dataclasses.field(default_factory=list)
    getters: list[int] = dataclasses.field(default_factory=list)
    putters: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    unfinished: int = 0
    is_shutdown: bool = False
    outcomes: dict[int, object] = dataclasses.field(default_factory=dict)

    def full(self) -> bool:
        return 0 < self.maxsize <= len(self.items)

    def put(self, call: int, item: int, waits: bool) -> None:
        if self.is_shutdown:
            self.outcomes[call] = runtime.QueueShutDown
        elif not self.full():
            self.add(item)
            self.outcomes[call] = None
        elif waits:
            self.putters.append((call, item))
        else:
            self.outcomes[call] = runtime.QueueFull
        self.settle()

    def get(self, call: int, waits: bool) -> None:
        if self.items:
            self.outcomes[call] = self.take(self.items)
        elif self.is_shutdown:
            self.outcomes[call] = runtime.QueueShutDown
        elif waits:
            self.getters.append(call)
        else:
            self.outcomes[call] = runtime.QueueEmpty
        self.settle()

    def add(self, item: int) -> None:
        self.items.append(item)
        self.unfinished += 1

    def settle(self) -> None:
        while True:
            if self.getters and self.items:
                self.outcomes[self.getters.pop(0)] = self.take(self.items)
            elif self.putters and not self.full():
                call, item = self.putters.pop(0)
                self.add(item)
                self.outcomes[call] = None
            else:
                return

    def cancel(self, call: int) -> None:
        if call in self.outcomes:
            return
        self.getters = [getter for getter in self.getters if getter != call]
        self.putters = [putter for putter in self.putters if putter[0] != call]
        self.outcomes[call] = runtime.CancelledError
        self.settle()

    def task_done(self, call: int) -> None:
        self.outcomes[call] = None if self.unfinished > 0 else ValueError
        self.unfinished = max(0, self.unfinished - 1)

    def shutdown(self, immediate: bool) -> None:
        self.is_shutdown = True
        if immediate:
            self.unfinished = max(0, self.unfinished - len(self.items))
            self.items.clear()
        for call in [*self.getters, *[call for call, _ in self.putters]]:
            self.outcomes[call] = runtime.QueueShutDown
        self.getters.clear()
        self.putters.clear()


OPERATIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 9)),
    st.tuples(st.just("put_nowait"), st.integers(0, 9)),
    st.tuples(st.just("get"), st.just(0)),
    st.tuples(st.just("get_nowait"), st.just(0)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("task_done"), st.just(0)),
)
SEQUENCES = st.lists(OPERATIONS, max_size=30)
ENDINGS = st.sampled_from([None, "shutdown", "shutdown immediately"])


def outcome_of(operation: Callable[[], object]) -> object:
    try:
        return operation()
    except (runtime.QueueEmpty, runtime.QueueFull, runtime.QueueShutDown, ValueError) as error:
        return type(error)


def outcome_of_task(task: runtime.Task[Any]) -> object:
    if task.cancelled():
        return runtime.CancelledError
    return outcome_of(task.result)


@pytest.mark.parametrize(("kind", "take"), KINDS)
@settings(deadline=None, max_examples=examples(150))
@given(
    maxsize=st.integers(0, 3),
    before=SEQUENCES,
    ending=ENDINGS,
    after=st.lists(OPERATIONS, max_size=6),
)
async def test_a_queue_behaves_as_the_model(
    kind: type[Queue[int]],
    take: Callable[[list[int]], int],
    maxsize: int,
    before: list[tuple[str, int]],
    ending: str | None,
    after: list[tuple[str, int]],
) -> None:
    queue, model = kind(maxsize), Model(maxsize, take)
    tasks: dict[int, runtime.Task[Any]] = {}
    results: dict[int, object] = {}
    script = [*before, *([(ending, 0)] if ending is not None else []), *after]
    for call, (operation, argument) in enumerate(script):
        match operation:
            case "put":
                tasks[call] = runtime.create_task(queue.put(argument))
                model.put(call, argument, waits=True)
            case "put_nowait":
                results[call] = outcome_of(lambda item=argument: queue.put_nowait(item))  # type: ignore[misc]
                model.put(call, argument, waits=False)
            case "get":
                tasks[call] = runtime.create_task(queue.get())
                model.get(call, waits=True)
            case "get_nowait":
                results[call] = outcome_of(queue.get_nowait)
                model.get(call, waits=False)
            case "task_done":
                results[call] = outcome_of(queue.task_done)
                model.task_done(call)
            case "cancel":
                if argument in tasks:
                    tasks[argument].cancel()
                    model.cancel(argument)
            case _:
                queue.shutdown(immediate=operation == "shutdown immediately")
                model.shutdown(immediate=operation == "shutdown immediately")
        await wait_all_tasks_blocked()
        ended = {key: outcome_of_task(task) for key, task in tasks.items() if task.done()}
        assert ended | results == model.outcomes
        assert queue.qsize() == len(model.items)
        assert (queue.empty(), queue.full()) == (not model.items, model.full())
        joining = runtime.create_task(queue.join())
        await wait_all_tasks_blocked()
        assert joining.done() == (model.unfinished == 0)
        joining.cancel()
        await wait_all_tasks_blocked()
    for task in tasks.values():
        task.cancel()
    await wait_all_tasks_blocked()
    rest = list(model.items)
    assert [queue.get_nowait() for _ in model.items] == [take(rest) for _ in model.items]


@settings(deadline=None, max_examples=examples(100))
@given(
    maxsize=st.integers(0, 2),
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "cancel", "turn"]), st.integers(0, 40)),
        max_size=60,
    ),
)
async def test_no_item_is_lost_or_duplicated_by_any_cancellation(
    maxsize: int, steps: list[tuple[str, int]]
) -> None:
    """There is no rest between the operations, so that they interleave with pending wake-ups."""
    queue: Queue[int] = Queue(maxsize)
    putters: list[tuple[int, runtime.Task[None]]] = []
    getters: list[runtime.Task[int]] = []
    for number, (operation, index) in enumerate(steps):
        match operation:
            case "put":
                putters.append((number, runtime.create_task(queue.put(number))))
            case "get":
                getters.append(runtime.create_task(queue.get()))
            case "turn":
                await turns(1)
            case _:
                tasks: list[Any] = [*getters, *[task for _, task in putters]]
                if index < len(tasks):
                    tasks[index].cancel()
    await wait_all_tasks_blocked()
    waiting_getters = [task for task in getters if not task.done()]
    waiting_putters = [task for _, task in putters if not task.done()]
    # No task waits for an available item.
    assert not waiting_getters or queue.empty()
    assert not waiting_putters or queue.full()
    for getter in waiting_getters:
        getter.cancel()
    for putter in waiting_putters:
        putter.cancel()
    await wait_all_tasks_blocked()
    put = [number for number, task in putters if not task.cancelled()]
    taken = [task.result() for task in getters if not task.cancelled()]
    left = [queue.get_nowait() for _ in range(queue.qsize())]
    assert sorted(taken + left) == sorted(put)
    assert left == sorted(left) or maxsize > 0

"""Channels: delivery, waiting, closing and cancellation, also compared with a model."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from fractions import Fraction
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime
from runtime.sync import channels
from runtime.testing import wait_all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere
from tests.support.examples import examples
from tests.sync.tools import Log, assert_cancelled, turns


async def test_items_arrive_in_order() -> None:
    send, receive = runtime.open_channel[int](2)

    async def produce() -> None:
        async with send:
            for number in range(10):
                await send.send(number)

    async with runtime.TaskGroup() as group:
        group.create_task(produce())
        with receive:
            assert [number async for number in receive] == [*range(10)]


@pytest.mark.parametrize("capacity", [0, 1, 5, math.inf])
async def test_several_senders_and_receivers(capacity: float) -> None:
    send, receive = runtime.open_channel[int](capacity)
    received: list[int] = []

    async def produce(end: runtime.SendChannel[int], first: int) -> None:
        with end:
            for number in range(first, first + 20):
                await end.send(number)
                if number % 3 == 0:
                    await runtime.sleep(0)

    async def consume(end: runtime.ReceiveChannel[int]) -> None:
        with end:
            async for number in end:
                received.append(number)
                if number % 4 == 0:
                    await runtime.sleep(0)

    async with runtime.TaskGroup() as group:
        with send, receive:
            for first in (0, 20, 40):
                group.create_task(produce(send.clone(), first))
                group.create_task(consume(receive.clone()))
    assert sorted(received) == [*range(60)]
    assert send.statistics() == (0, send.statistics().capacity, 0, 0, 0, 0)


async def test_without_capacity_a_sender_waits_for_the_receiver() -> None:
    send, receive = runtime.open_channel[str](0)
    log = Log()

    async def produce() -> None:
        await send.send("item")
        log.add("sent")

    task = runtime.create_task(produce())
    await wait_all_tasks_blocked()
    assert log == []
    assert send.statistics().waiting_senders == 1
    assert await receive.receive() == "item"
    await task
    assert log == ["sent"]


async def test_without_waiting() -> None:
    send, receive = runtime.open_channel[int](1)
    with pytest.raises(runtime.QueueEmpty, match="'await receive"):
        receive.receive_nowait()
    send.send_nowait(1)
    with pytest.raises(runtime.QueueFull, match="'await send"):
        send.send_nowait(2)
    assert receive.receive_nowait() == 1
    waiting = runtime.create_task(receive.receive())
    await wait_all_tasks_blocked()
    send.send_nowait(3)
    send.send_nowait(4)
    assert await waiting == 3
    assert receive.receive_nowait() == 4


async def test_receivers_are_served_in_order() -> None:
    send, receive = runtime.open_channel[int](0)
    tasks = [runtime.create_task(receive.receive()) for _ in range(3)]
    await wait_all_tasks_blocked()
    for number in range(3):
        send.send_nowait(number)
    assert await runtime.gather(*tasks) == [0, 1, 2]


async def test_the_last_sender_closes() -> None:
    send, receive = runtime.open_channel[int](5)
    other = send.clone()
    waiting = runtime.create_task(receive.clone().receive())
    await wait_all_tasks_blocked()
    send.close()
    send.close()
    assert not waiting.done()
    other.close()
    with pytest.raises(runtime.EndOfChannel, match="all sending ends of the channel are closed"):
        await waiting
    with pytest.raises(runtime.EndOfChannel):
        receive.receive_nowait()
    with pytest.raises(runtime.EndOfChannel):
        await receive.receive()


async def test_items_that_are_left_are_received_before_the_end() -> None:
    send, receive = runtime.open_channel[int](5)
    send.send_nowait(1)
    send.send_nowait(2)
    send.close()
    assert [number async for number in receive] == [1, 2]


async def test_the_last_receiver_closes() -> None:
    send, receive = runtime.open_channel[int](0)
    waiting = runtime.create_task(send.send(1))
    await wait_all_tasks_blocked()
    receive.close()
    with pytest.raises(runtime.BrokenChannel, match="all receiving ends of the channel are closed"):
        await waiting
    with pytest.raises(runtime.BrokenChannel):
        await send.send(2)
    with pytest.raises(runtime.BrokenChannel):
        send.send_nowait(2)


async def test_an_end_that_is_closed_itself() -> None:
    send, receive = runtime.open_channel[int](0)
    with send.clone(), receive.clone():
        sending = runtime.create_task(send.send(1))
        await wait_all_tasks_blocked()
        send.close()
        with pytest.raises(runtime.ClosedChannel, match="was closed meanwhile"):
            await sending
        receiving = runtime.create_task(receive.receive())
        await wait_all_tasks_blocked()
        receive.close()
        with pytest.raises(runtime.ClosedChannel, match="was closed meanwhile"):
            await receiving
        for operation in (send.send(1), receive.receive()):
            with pytest.raises(runtime.ClosedChannel, match="was closed"):
                await operation
        for function in (receive.receive_nowait, receive.clone, send.clone):
            with pytest.raises(runtime.ClosedChannel, match="was closed"):
                function()
        with pytest.raises(runtime.ClosedChannel):
            send.send_nowait(1)


async def test_it_is_shown() -> None:
    send, receive = runtime.open_channel[int](3)
    send.send_nowait(1)
    assert repr(send) == "<SendChannel items=1 senders=1 receivers=1>"
    receive.close()
    assert repr(receive) == "<ReceiveChannel closed items=0 senders=1 receivers=0>"
    assert send.statistics() == (0, 3, 1, 0, 0, 0)
    assert runtime.open_channel[int](math.inf)[0].statistics().capacity == sys.maxsize


async def test_capacities() -> None:
    assert runtime.open_channel[int](1.0)[0].statistics().capacity == 1
    assert runtime.open_channel[int](10**400)[0].statistics().capacity == 10**400
    assert runtime.open_channel[int](Fraction(10**400))[0].statistics().capacity == sys.maxsize
    wrong: Any
    for wrong in (-1, -math.inf, math.nan, -(10**5000), -Fraction(10**400)):
        with pytest.raises(ValueError, match="capacity"):
            runtime.open_channel[int](wrong)
    for wrong in ("1", None, []):
        with pytest.raises(TypeError, match="capacity must be a number"):
            runtime.open_channel[int](wrong)


async def test_a_receiver_that_is_cancelled_when_the_item_arrives_returns_it() -> None:
    send, receive = runtime.open_channel[int](0)
    log = Log()

    async def consume() -> None:
        log.add(await receive.receive())
        await runtime.sleep(0)
        log.add("not reached")

    task = runtime.create_task(consume())
    await wait_all_tasks_blocked()
    send.send_nowait(7)
    task.cancel()
    await assert_cancelled(task)
    assert log == ["7"]


async def test_a_sender_that_is_cancelled_when_the_item_is_taken() -> None:
    send, receive = runtime.open_channel[int](0)
    log = Log()

    async def produce() -> None:
        await send.send(7)
        log.add("sent")
        await runtime.sleep(0)
        log.add("not reached")

    task = runtime.create_task(produce())
    await wait_all_tasks_blocked()
    assert receive.receive_nowait() == 7
    task.cancel()
    await assert_cancelled(task)
    assert log == ["sent"]


async def test_a_receiver_that_is_closed_gives_its_item_back() -> None:
    send, receive = runtime.open_channel[int](0)
    coro = receive.receive()
    future = coro.send(None)
    assert future is not None
    send.send_nowait(7)
    coro.close()
    assert receive.receive_nowait() == 7


async def test_a_scope_that_is_cancelled_when_the_item_arrives_loses_nothing() -> None:
    send, receive = runtime.open_channel[int](0)
    scope = runtime.CancelScope()

    async def consume() -> int | None:
        with scope:
            return await receive.receive()
        return None

    task = runtime.create_task(consume())
    await wait_all_tasks_blocked()
    send.send_nowait(7)
    scope.cancel()
    assert await task == 7


@pytest.mark.parametrize("cancelled", ["sender", "receiver"])
@pytest.mark.parametrize("capacity", [0, 1])
def test_cancelled_anywhere(cancelled: str, capacity: int) -> None:
    async def scenario(point: CancelPoint) -> None:
        send, receive = runtime.open_channel[int](capacity)
        sent = 0
        received: list[int] = []

        async def produce() -> None:
            nonlocal sent
            with send:
                for number in range(3):
                    await send.send(number)
                    sent += 1

        async def consume() -> None:
            with receive.clone() as end:
                while len(received) < 3:
                    await runtime.sleep(0)
                    received.append(await end.receive())

        starts = {"sender": runtime.create_task, "receiver": runtime.create_task}
        starts[cancelled] = point.start  # type: ignore[assignment]
        tasks = [starts["receiver"](consume()), starts["sender"](produce())]
        while True:
            await runtime.sleep(0)
            if tasks[1].done() or tasks[0].done():
                break
        if tasks[0].done():
            received += [number async for number in receive]
        await runtime.wait(tasks)
        received += [number async for number in receive]
        for task in tasks:
            assert task.cancelled() or isinstance(
                task.exception(), (runtime.EndOfChannel, type(None))
            )
        assert received == [*range(sent)]

    assert cancel_everywhere(scenario) >= 2


# -- Many waiting tasks ----------------------------------------------------------------------------


async def effort(number: int, end_it: Callable[[list[Any], list[runtime.Task[Any]]], None]) -> int:
    """Let tasks wait to send and to receive, and end that; return how much was done for it.

    The lines of the module that were executed are counted, and the comparisons of waiters.
    """
    count = 0

    class Waiter(channels._Waiter):
        def __eq__(self, other: object) -> bool:
            nonlocal count
            count += 1
            return self is other

        __hash__ = object.__hash__

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == channels.__file__ else None

    before = sys.gettrace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "_Waiter", Waiter)
        full, _kept = runtime.open_channel[int](0)
        _also_kept, empty = runtime.open_channel[int](0)
        ends: list[Any] = []
        tasks = []
        for _ in range(number):
            send, receive = full.clone(), empty.clone()
            ends += [send, receive]
            tasks += [runtime.create_task(send.send(1)), runtime.create_task(receive.receive())]
        await wait_all_tasks_blocked()
        count = 0
        sys.settrace(trace)
        try:
            end_it(ends, tasks)
            await turns()
        finally:
            sys.settrace(before)
        assert all(task.done() for task in tasks)
        for task in tasks:
            with pytest.raises((runtime.CancelledError, runtime.ClosedChannel)):
                task.result()
    return count


def cancel_the_last_one_first(_ends: list[Any], tasks: list[runtime.Task[Any]]) -> None:
    for task in reversed(tasks):
        task.cancel()


def close_the_ends(ends: list[Any], _tasks: list[runtime.Task[Any]]) -> None:
    for end in reversed(ends):
        end.close()


@pytest.mark.parametrize("end_it", [cancel_the_last_one_first, close_the_ends])
async def test_the_effort_for_a_waiting_task_does_not_depend_on_the_number_of_others(
    end_it: Callable[[list[Any], list[runtime.Task[Any]]], None],
) -> None:
    assert await effort(200, end_it) < 2.5 * await effort(100, end_it)


async def test_closing_an_end_in_which_no_task_waits_looks_at_no_waiting_task() -> None:
    def close_others(ends: list[Any], tasks: list[runtime.Task[Any]]) -> None:
        others = [end.clone() for end in ends]
        for end in others:
            end.close()
        cancel_the_last_one_first(ends, tasks)

    assert await effort(200, close_others) < 2.5 * await effort(100, close_others)


# -- The model -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Model:
    """Expected behaviour of a channel with one end of each kind, at rest after each operation."""

    capacity: int
    items: list[int] = dataclasses.field(default_factory=list)
    sending: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    receiving: list[int] = dataclasses.field(default_factory=list)
    outcomes: dict[int, object] = dataclasses.field(default_factory=dict)
    send_closed: bool = False
    receive_closed: bool = False

    def send(self, call: int, item: int, waits: bool) -> None:
        if self.send_closed:
            self.outcomes[call] = runtime.ClosedChannel
        elif self.receive_closed:
            self.outcomes[call] = runtime.BrokenChannel
        elif self.receiving:
            self.outcomes[self.receiving.pop(0)] = item
            self.outcomes[call] = None
        elif len(self.items) < self.capacity:
            self.items.append(item)
            self.outcomes[call] = None
        elif waits:
            self.sending.append((call, item))
        else:
            self.outcomes[call] = runtime.QueueFull

    def receive(self, call: int, waits: bool) -> None:
        if self.receive_closed:
            self.outcomes[call] = runtime.ClosedChannel
        elif self.items or self.sending:
            self.items += [item for _, item in self.sending[:1]]
            for sender, _ in self.sending[:1]:
                self.outcomes[sender] = None
            del self.sending[:1]
            self.outcomes[call] = self.items.pop(0)
        elif self.send_closed:
            self.outcomes[call] = runtime.EndOfChannel
        elif waits:
            self.receiving.append(call)
        else:
            self.outcomes[call] = runtime.QueueEmpty

    def cancel(self, call: int) -> None:
        if call not in self.outcomes:
            self.receiving = [each for each in self.receiving if each != call]
            self.sending = [each for each in self.sending if each[0] != call]
            self.outcomes[call] = runtime.CancelledError

    def close_send(self) -> None:
        self.send_closed = True
        for call, _ in self.sending:
            self.outcomes[call] = runtime.ClosedChannel
        for call in self.receiving:
            self.outcomes[call] = runtime.EndOfChannel
        self.sending, self.receiving = [], []

    def close_receive(self) -> None:
        self.receive_closed = True
        for call in self.receiving:
            self.outcomes[call] = runtime.ClosedChannel
        for call, _ in self.sending:
            self.outcomes[call] = runtime.BrokenChannel
        self.items, self.sending, self.receiving = [], [], []


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "send_nowait"]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["receive", "receive_nowait"]), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.sampled_from(["close_send", "close_receive"]), st.just(0)),
    ),
    max_size=25,
)
ERRORS = (
    runtime.QueueEmpty,
    runtime.QueueFull,
    runtime.EndOfChannel,
    runtime.BrokenChannel,
    runtime.ClosedChannel,
)


def outcome_of(operation: Any) -> object:
    try:
        return operation()
    except ERRORS as error:
        return type(error)


@settings(deadline=None, max_examples=examples(200))
@given(capacity=st.integers(0, 3), script=OPERATIONS)
async def test_a_channel_behaves_as_the_model(capacity: int, script: list[tuple[str, int]]) -> None:
    send, receive = runtime.open_channel[int](capacity)
    model = Model(capacity)
    tasks: dict[int, runtime.Task[Any]] = {}
    results: dict[int, object] = {}
    for call, (operation, argument) in enumerate(script):
        match operation:
            case "send":
                tasks[call] = runtime.create_task(send.send(argument))
                model.send(call, argument, waits=True)
            case "send_nowait":
                results[call] = outcome_of(lambda item=argument: send.send_nowait(item))
                model.send(call, argument, waits=False)
            case "receive":
                tasks[call] = runtime.create_task(receive.receive())
                model.receive(call, waits=True)
            case "receive_nowait":
                results[call] = outcome_of(receive.receive_nowait)
                model.receive(call, waits=False)
            case "cancel":
                if argument in tasks:
                    tasks[argument].cancel()
                    model.cancel(argument)
            case "close_send":
                send.close()
                model.close_send()
            case _:
                receive.close()
                model.close_receive()
        await wait_all_tasks_blocked()
        ended = {
            key: runtime.CancelledError if task.cancelled() else outcome_of(task.result)
            for key, task in tasks.items()
            if task.done()
        }
        assert ended | results == model.outcomes
        state = send.statistics()
        assert state.items == len(model.items)
        assert state.waiting_senders == len(model.sending)
        assert state.waiting_receivers == len(model.receiving)
    for task in tasks.values():
        task.cancel()
    await wait_all_tasks_blocked()

"""Linearizability of recorded histories."""

from __future__ import annotations

import itertools
import random

import pytest

import runtime
from runtime import simulation
from runtime.simulation import FifoQueue, History, KeyValue, Model, Mutex, Operation, Register


def history(*events: str) -> History:
    """Return a history of lines ``client begin name args`` and ``client end result``."""
    made = History()
    running: dict[str, Operation] = {}
    for event in events:
        client, kind, *rest = event.split()
        values = [int(each) if each.isdigit() else each for each in rest]
        if kind == "begin":
            running[client] = made.begin(client, str(values[0]), *values[1:])
        else:
            result = values[0] if values else None
            made.end(running[client], {"True": True, "False": False}.get(str(result), result))
    return made


OVERLAP = ("a begin write 1", "b begin read", "a end", "b end {}")


@pytest.mark.parametrize(("value", "holds"), [(0, True), (1, True), (2, False)])
def test_a_read_during_a_write_sees_either_value(value: int, holds: bool) -> None:
    verdict = simulation.linearizable(
        history(*(line.format(value) for line in OVERLAP)), Register(0)
    )
    assert bool(verdict) is holds


def test_a_read_after_a_write_sees_its_value() -> None:
    lines = ("a begin write 1", "a end", "b begin read", "b end {}")
    good, stale = (history(*(line.format(value) for line in lines)) for value in (1, 0))
    assert simulation.linearizable(good, Register(0))
    verdict = simulation.linearizable(stale, Register(0))
    assert not verdict
    assert "b: read() -> 0" in str(verdict)


def test_a_state_that_is_not_hashable_is_refused() -> None:
    made = History()
    made.end(made.begin("a", "put", "x", [1]))
    with pytest.raises(TypeError, match=r"states of KeyValue must be hashable, got \[1\]: record"):
        simulation.linearizable(made, KeyValue())
    with pytest.raises(TypeError, match=r"states of Register must be hashable, got \[\]: record"):
        simulation.linearizable(history("a begin read", "a end"), Register([]))  # type: ignore[arg-type]


def test_a_value_does_not_come_back() -> None:
    lines = (
        "a begin write 1",
        "b begin read",
        "b end 1",
        "b begin read",
        "b end 0",
        "a end",
    )
    assert not simulation.linearizable(history(*lines), Register(0))


def test_an_operation_without_an_end_may_have_its_effect_or_not() -> None:
    for value in (0, 1):
        lines = ("a begin write 1", "b begin read", f"b end {value}")
        assert simulation.linearizable(history(*lines), Register(0))


def test_compare_and_set() -> None:
    lines = ("a begin compare_and_set 0 1", "b begin compare_and_set 0 2", "a end {}", "b end {}")
    for first, second in itertools.product((True, False), repeat=2):
        made = history(*lines[:2], f"a end {first}", f"b end {second}")
        assert bool(simulation.linearizable(made, Register(0))) is (first is not second)


def test_keys_are_checked_apart() -> None:
    made = history(
        "a begin put x 1",
        "b begin put y 2",
        "a end",
        "b end",
        "a begin get y",
        "a end 2",
        "a begin delete x",
        "a end",
    )
    assert simulation.linearizable(made, KeyValue())
    stale = history("a begin put x 1", "a end", "a begin get x", "a end 2")
    assert not simulation.linearizable(stale, KeyValue())


def test_a_queue_keeps_the_order() -> None:
    lines = ("a begin put 1", "a end", "a begin put 2", "a end", "b begin get", "b end {}")
    for value in (1, 2):
        made = history(*(line.format(value) for line in lines))
        assert bool(simulation.linearizable(made, FifoQueue())) is (value == 1)


def test_a_lock_has_one_holder() -> None:
    taken = ("a begin acquire", "a end", "b begin acquire", "b end")
    assert not simulation.linearizable(history(*taken), Mutex())
    given_back = (*taken[:2], "a begin release", "a end", *taken[2:])
    assert simulation.linearizable(history(*given_back), Mutex())


@pytest.mark.parametrize("model", [Register(), KeyValue(), FifoQueue(), Mutex()])
def test_an_unknown_operation_is_an_error(model: Model) -> None:
    with pytest.raises(ValueError, match="explode"):
        simulation.linearizable(history("a begin explode 1", "a end"), model)


def by_all_orders(made: History, model: Model) -> bool:
    """Decide by trying every order."""
    for order in itertools.permutations(made.operations):
        places = {id(each): place for place, each in enumerate(order)}
        if any(
            one.end < other.begin and places[id(one)] > places[id(other)]
            for one in order
            for other in order
        ):
            continue
        states = [model.initial]
        for operation in order:
            states = [
                after
                for state in states
                for after, result in model.apply(state, operation)
                if result == operation.result
            ]
        if states:
            return True
    return False


def test_it_agrees_with_trying_all_orders() -> None:
    numbers = random.Random(7)
    verdicts = set()
    for _ in range(300):
        made = History()
        running: list[Operation] = []
        while len(made.operations) < 5 or running:
            if len(made.operations) < 5 and (not running or numbers.random() < 0.5):
                args = () if (name := numbers.choice(["read", "write"])) == "read" else (1,)
                running.append(made.begin(len(made.operations), name, *args))
            else:
                ended = running.pop(numbers.randrange(len(running)))
                made.end(ended, numbers.randrange(2) if ended.name == "read" else None)
        expected = by_all_orders(made, Register(0))
        assert bool(simulation.linearizable(made, Register(0))) is expected
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_a_history_of_a_run_is_recorded() -> None:
    async def main() -> None:
        value = 0
        made = History()

        async def write(new: int) -> None:
            nonlocal value
            await runtime.sleep(0)
            value = new
            await runtime.sleep(0)

        async def read() -> int:
            found = value
            await runtime.sleep(0)
            return found

        async def client(number: int) -> None:
            await made.call(number, write(number), "write", number)
            await made.call(number, read(), "read")

        await runtime.gather(client(1), client(2))
        assert len(made.operations) == 4
        assert simulation.linearizable(made, Register(0))

    simulation.explore(main, runs=100)


def test_a_cached_read_is_not_linearizable() -> None:
    async def main() -> None:
        value = 0
        cached = 0
        made = History()

        async def write(new: int) -> None:
            nonlocal value
            await runtime.sleep(0)
            value = new

        async def refresh() -> None:
            nonlocal cached
            for _ in range(4):
                await runtime.sleep(0)
                cached = value

        async def read() -> int:
            return cached

        async def client() -> None:
            await made.call("a", write(1), "write", 1)
            await runtime.sleep(0)
            await runtime.sleep(0)
            await made.call("a", read(), "read")

        await runtime.gather(client(), refresh())
        assert simulation.linearizable(made, Register(0))

    with pytest.raises(AssertionError, match="not linearizable"):
        simulation.explore(main, order="tasks", runs=200)

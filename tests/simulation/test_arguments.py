"""Wrong arguments and attributes: refused at the call, with their name and value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime import simulation
from runtime.simulation import Conditions, Latency, Operation, Register, World


async def fine() -> None:
    await runtime.sleep(1)


@pytest.mark.parametrize(
    "options",
    [
        {"leftovers": "yes"},
        {"leftovers": 1},
        {"leftovers": None},
        {"lateness": True},
        {"lateness": None},
        {"steps": True},
        {"steps": 1e6},
        {"starvation": False},
        {"network": {"loss": 0.5}},
        {"order": None},
        {"environment": True},
        {"outside": True},
        {"strategy": None},
        {"check": "x"},
        {"check": 0},
        {"runs": True},
        {"seed": False},
        {"shrink": 1.0},
        {"keep": True},
    ],
    ids=str,
)
def test_options_of_an_exploration(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    match = rf"^{name} must be .*, got {re.escape(repr(value))}"
    with pytest.raises((TypeError, ValueError), match=match):
        simulation.explore(fine, **options)
    with pytest.raises((TypeError, ValueError), match=match):
        simulation.simulated(**options)
    if name not in ("runs", "shrink", "keep", "check"):
        with pytest.raises((TypeError, ValueError), match=match):
            simulation.run(fine, **options)


@pytest.mark.parametrize("lateness", [float("nan"), float("inf"), 10**400, -0.5])
def test_a_lateness_that_is_not_finite(lateness: float) -> None:
    with pytest.raises(ValueError, match="^lateness must be a finite number of seconds, 0 or more"):
        simulation.run(fine, lateness=lateness)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulation.random_walk(True), "rate must be a number greater than 0"),
        (lambda: simulation.delays(True), "depth must be a whole number"),
        (lambda: simulation.StrategyName(["pct"]), "kind must be one of"),  # type: ignore[arg-type]
        (lambda: simulation.StrategyName("random", "2"), "depth must be"),  # type: ignore[arg-type]
        (lambda: Conditions(loss=True), "loss must be a number from 0 to 1, got True"),
        (lambda: Conditions(bandwidth=True), "bandwidth must be positive bytes"),
        (lambda: Conditions(latency=True), "latency must be seconds, .*, got True"),
        (lambda: Conditions(latency=-1), "latency must be a finite number of seconds, 0 or more"),
        (lambda: Conditions(latency=(1, -1)), r"latency is \(1, -1\): high must be a finite"),
        (lambda: Latency(low=False), "low must be a finite number of seconds"),
        (lambda: Latency(tail=True), "tail must be a number from 0 to 1, got True"),
        (lambda: simulation.cancel_anywhere(times=True), "times must be a whole number"),
        (lambda: simulation.linearizable([], Register), r"expected a model"),  # type: ignore[arg-type]
        (lambda: simulation.linearizable([3], Register()), "got 3"),  # type: ignore[list-item]
    ],
)
def test_arguments_outside_of_a_run(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


async def check() -> bool:
    return False


CALLS: list[tuple[Callable[[World], object], str]] = [
    (lambda _: simulation.chance(True), "probability must be a number from 0 to 1, got True"),
    (lambda _: simulation.choice(""), "at least one option, got ''"),
    (lambda _: simulation.sometimes(True, 3), "label must be"),  # type: ignore[arg-type]
    (lambda _: simulation.always(True, "two\nlines"), "label must be a printable text"),
    (lambda _: simulation.always(check, "label"), "condition must be a value, got the function"),
    (lambda _: simulation.always(check(), "label"), "condition must be a value, .*: await it"),
    (lambda _: simulation.invariant(bool, 3), "name must be a printable text"),  # type: ignore[arg-type]
    (lambda world: world.host(3), "name must be a printable text"),  # type: ignore[arg-type]
    (lambda world: world.host([]), "name must be a printable text"),  # type: ignore[arg-type]
    (lambda world: world.host(""), "name must be the name of a host"),
    (lambda world: world.host("a\nb"), "name must be a printable text"),
    (lambda world: world.after(True, print), "delay must be a finite number of seconds"),
    (lambda world: world.after("1", print), "delay must be"),  # type: ignore[arg-type]
    (lambda world: world.after(-1, print), "delay must be a finite number of seconds, 0 or more"),
    (lambda world: world.after(1, None), "function must be a function that is"),  # type: ignore[arg-type]
    (lambda world: world.after(1, check), "function must be a function that is not async"),
    (lambda world: world.host("a").start(check()), "start.. calls the function"),  # type: ignore[arg-type]
    (lambda world: world.host("a").start(3), "start.. expected a coroutine function"),  # type: ignore[arg-type]
    (lambda world: world.network.set(0.5), "conditions must be simulation.Conditions"),  # type: ignore[arg-type]
    (lambda world: world.network.set(Conditions(), within=1), "within must be"),  # type: ignore[arg-type]
    (lambda world: world.network.set_link("main", "main", {}), "conditions must be"),  # type: ignore[arg-type]
    (lambda world: world.network.partition(3, "main"), "hosts must be a host"),  # type: ignore[arg-type]
    (lambda world: world.network.partition([3], "main"), "name must be a printable"),  # type: ignore[list-item]
    (
        lambda world: world.network.partition("main", "main", one_way="no"),  # type: ignore[arg-type]
        "one_way must be True or False, got 'no'",
    ),
    (lambda world: world.names.set("db", "10.0.0.2"), "addresses must be"),  # type: ignore[arg-type]
    (lambda world: world.names.set("db", [1]), "address must be"),  # type: ignore[list-item]
    (lambda world: world.names.set(b"db", []), "name must be"),  # type: ignore[arg-type]
    (lambda world: world.names.fail("db", ValueError()), "error must be an OSError"),  # type: ignore[arg-type]
    (lambda world: world.names.slow("db", True), "delay must be seconds"),
    (lambda world: world.disk.open(b"a"), "name must be a text"),  # type: ignore[arg-type]
    (lambda world: world.disk.open("a", 3), "mode must be a text"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_arguments_within_a_run(call: Callable[[World], object], message: str) -> None:
    async def main() -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            call(simulation.current_world())

    simulation.run(main)


@pytest.mark.parametrize(
    ("owner", "name", "values", "good"),
    [
        ("host", "clock_offset", ["1", True, float("nan"), float("inf"), None], -2),
        ("host", "descriptor_limit", ["1", True, -1, 1.5], None),
        ("host", "descriptor_failures", [2, True, None], 0.5),
        ("disk", "capacity", [-1, "1", True], None),
        ("disk", "failures", [-0.5, "1", True], 1),
        ("names", "delay", [-1, "1", True, None], (0.0, 1.0)),
        ("names", "failures", [1.5, None], 0.5),
        ("names", "wrong", [1.5, None], 0.5),
        ("network", "retransmission_limit", [-1, "1", True, float("nan")], float("inf")),
        ("network", "connect_timeout", [-1, None], 5),
    ],
)
def test_attributes(owner: str, name: str, values: list[Any], good: Any) -> None:
    async def main() -> None:
        world = simulation.current_world()
        changed = {"host": world.host("a"), "disk": world.disk}.get(owner) or getattr(world, owner)
        before = getattr(changed, name)
        for wrong in values:
            with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*, got "):
                setattr(changed, name, wrong)
            assert getattr(changed, name) == before
        setattr(changed, name, good)
        assert getattr(changed, name) == good

    simulation.run(main)


def test_a_future_is_not_a_task_to_cancel() -> None:
    async def main() -> None:
        future = runtime.get_running_loop().create_future()
        with pytest.raises(TypeError, match=r"cancel_anywhere\(\) expected a task, got <"):
            simulation.cancel_anywhere(future)

    simulation.run(main)


def test_outside_of_all_tasks_there_is_no_task_to_cancel() -> None:
    with pytest.raises(RuntimeError, match="pass the one that may be cancelled"):
        simulation.run(fine, setup=lambda _: simulation.cancel_anywhere())


def test_operations_are_checked() -> None:
    assert simulation.linearizable([Operation("a", "read", (), 1, 2, 0)], Register(0))

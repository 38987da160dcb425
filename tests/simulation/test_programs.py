"""The set of programs with known faults: each is found, and its correction is not blamed.

RUNTIME_TESTS_SIMULATED_RUNS is the number of runs of each correction, by default 150::

    RUNTIME_TESTS_SIMULATED_RUNS=10000 python -m pytest -m slow tests/simulation/test_programs.py
"""

from __future__ import annotations

import os

import pytest

from runtime import simulation
from runtime.simulation.current import Order
from tests.simulation.programs import distributed, flow, locking, updates
from tests.simulation.programs.catalogue import PROGRAMS, Main, Program

RUNS = int(os.environ.get("RUNTIME_TESTS_SIMULATED_RUNS", "0")) or 150

ALL = (distributed, flow, locking, updates)
NAMES = [program.name for program in PROGRAMS]


def test_there_are_enough_programs() -> None:
    assert len(ALL) == 4
    assert len(set(NAMES)) == len(PROGRAMS) >= 30


ORDERS: list[Order] = ["events", "tasks"]
"""With "events" the pauses of the programs are requests, and with "tasks" turns of the loop."""


def mains(program: Program, order: Order) -> tuple[Main, Main]:
    """Return the program with its fault, and its correction."""
    requests = order == "events"
    return (
        program.main(correct=False, requests=requests),
        program.main(correct=True, requests=requests),
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_fault_is_found_and_shrunk(program: Program, order: Order) -> None:
    main, _ = mains(program, order)
    found = simulation.explore(main, runs=program.runs, order=order, check=False)
    assert found.failure is not None
    assert found.failure.deviations <= 3
    with pytest.raises(type(found.failure.error)):
        simulation.replay(main, found.failure.token)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_correction_is_not_blamed(program: Program, order: Order) -> None:
    _, main = mains(program, order)
    found = simulation.explore(main, runs=30, order=order)
    assert found.runs == 30


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_correction_is_not_blamed_in_many_runs(program: Program, order: Order) -> None:
    _, main = mains(program, order)
    found = simulation.explore(main, runs=RUNS, order=order)
    assert found.runs == RUNS

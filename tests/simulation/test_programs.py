"""The set of programs with known faults: each is found, and its correction is not blamed.

RUNTIME_TESTS_SIMULATED_RUNS is the number of runs of each correction, by default 300::

    RUNTIME_TESTS_SIMULATED_RUNS=10000 python -m pytest -m slow tests/simulation/test_programs.py
"""

from __future__ import annotations

import os

import pytest

from runtime import simulation
from tests.simulation.programs import distributed, flow, locking, updates
from tests.simulation.programs.catalogue import PROGRAMS, Program

RUNS = int(os.environ.get("RUNTIME_TESTS_SIMULATED_RUNS", "0")) or 300

ALL = (distributed, flow, locking, updates)
NAMES = [program.name for program in PROGRAMS]


def test_there_are_enough_programs() -> None:
    assert len(ALL) == 4
    assert len(set(NAMES)) == len(PROGRAMS) >= 30


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_fault_is_found_and_shrunk(program: Program) -> None:
    found = simulation.explore(program.main(correct=False), runs=program.runs, check=False)
    assert found.failure is not None
    assert found.failure.deviations <= 3
    with pytest.raises(type(found.failure.error)):
        simulation.replay(program.main(correct=False), found.failure.token)


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_correction_is_not_blamed(program: Program) -> None:
    found = simulation.explore(program.main(correct=True), runs=30)
    assert found.runs == 30


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_the_correction_is_not_blamed_in_many_runs(program: Program) -> None:
    found = simulation.explore(program.main(correct=True), runs=RUNS)
    assert found.runs == RUNS

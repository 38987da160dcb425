"""Comparison with other simulators: ``python -m tests.simulation.compare`` prints two tables.

The first one has the number of steps a second, of ten tasks that call ``sleep(0)``; the second one
has the runs and the seconds in which each program's fault is found, with shrinking where there is
any. The others are detangle, simloop and seedloop, which have to be installed separately; without
them their columns are empty. frontrun schedules the workers that it is given, and not the tasks
that a program makes itself, so that it cannot run these programs.
"""

from __future__ import annotations

import asyncio
import importlib
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import runtime
from runtime import simulation, testing
from tests.simulation.programs import distributed, flow, locking, updates
from tests.simulation.programs.catalogue import PROGRAMS, Program

MODULES = (distributed, flow, locking, updates)
"""The modules that fill the catalogue."""

TURNS = 10_000
TASKS = 10
RUNS = 2000
SIMLOOP_RUNS = 200
REPETITIONS = 5


def imported(name: str) -> Any:
    """Return a module that may be missing, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


detangle = imported("detangle")
simloop = imported("simloop")
seedloop = imported("seedloop")


async def spin() -> None:
    """Run ten tasks that give way to one another."""

    async def one() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(TASKS)))


def rate(run: Callable[[], object]) -> float:
    """Return the steps a second, of CPU time, in the best of several repetitions."""
    times = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return TURNS * TASKS / min(times)


def print_rates() -> None:
    """Print the first table."""
    budget = 100 * TURNS * TASKS
    rows: dict[str, Callable[[], object]] = {
        "runtime.testing.run, without choices": lambda: testing.run(spin()),
        "simulation.run, usual order": lambda: simulation.run(spin, steps=budget),
    }
    for name in ("random", "delays", "pct"):
        rows[f"simulation.run, {name}"] = lambda name=name: simulation.run(  # type: ignore[misc]
            spin, seed=1, strategy=name, order="tasks", steps=budget
        )
    if detangle is not None:
        rows["detangle.run, random"] = lambda: detangle.run(spin, seed=1, max_steps=budget)
    print(f"steps a second ({'compiled' if runtime.compiled else 'interpreted'} build)\n")
    print("| run | steps a second |\n| --- | ---: |")
    for name, run in rows.items():
        print(f"| {name} | {rate(run):,.0f} |")


def cells_of(search: Callable[[Program], tuple[object, object]], program: Program) -> list[str]:
    """Return the runs that a search takes, the seconds, and the deviations."""
    start = time.process_time()
    runs, deviations = search(program)
    seconds = f"{time.process_time() - start:.3f}"
    return ["-" if each is None else str(each) for each in (runs, seconds, deviations)]


def find(program: Program) -> tuple[object, object]:
    """Search a fault with this package, where pauses are calls in executors."""
    found = simulation.explore(program.main(correct=False), runs=RUNS, check=False).failure
    return (None, None) if found is None else (found.run, found.deviations)


def find_in_any_order(program: Program) -> tuple[object, object]:
    """Search a fault with this package, where pauses are turns, and tasks run in any order."""
    main = program.main(correct=False, requests=False)
    found = simulation.explore(main, runs=RUNS, order="tasks", check=False).failure
    return (None, None) if found is None else (found.run, found.deviations)


def find_with_detangle(program: Program) -> tuple[object, object]:
    """Search a fault with detangle; timers may be as late as here."""
    if detangle is None:
        return None, None

    def main() -> Awaitable[None]:
        return program.function(False)

    try:
        detangle.explore(
            main, runs=RUNS, seed=0, timer_jitter=0.01, max_steps=20_000, database=False
        )
    except detangle.BugFound as bug:
        return bug.report.runs, bug.report.deviations
    return None, None


def find_with_simloop(program: Program) -> tuple[object, object]:
    """Search a fault with simloop, which shrinks it too."""
    if simloop is None:
        return None, None

    async def main() -> None:
        await program.function(False)

    report = simloop.explore(main, range(SIMLOOP_RUNS), shrink=True)
    return (None, None) if report is None else (report.seeds_passed + 1, None)


def find_with_seedloop(program: Program) -> tuple[object, object]:
    """Search a fault with seedloop, which does not shrink it."""
    if seedloop is None:
        return None, None

    async def scenario(_world: object) -> None:
        await program.function(False)

    result = seedloop.check(scenario, seeds=RUNS, on_failure="return")
    return (None, None) if result.error is None else (result.failing_seed + 1, None)


SEARCHES = {
    "default order": find,
    "any order": find_in_any_order,
    "detangle": find_with_detangle,
    "simloop": find_with_simloop,
    "seedloop": find_with_seedloop,
}


def print_faults() -> None:
    """Print the second table."""
    print(f"\nfaults, within {RUNS} runs, simloop within {SIMLOOP_RUNS}\n")
    print("Each cell has the runs, the seconds, and the deviations that were left.\n")
    print(f"| fault | {' | '.join(SEARCHES)} |")
    print(f"| --- |{' ---: |' * len(SEARCHES)}")
    for program in PROGRAMS:
        cells: list[str] = [program.name.replace("_", " ")]
        cells += [", ".join(cells_of(search, program)) for search in SEARCHES.values()]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print_rates()
    print_faults()

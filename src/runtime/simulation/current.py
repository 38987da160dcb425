"""The current run: its choices, its clock, and what the program has asked it to look for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.simulation.checks import (
    check_flag,
    check_number,
    check_number_or_none,
    check_seconds,
    check_setup,
)
from runtime.simulation.choices import Choices
from runtime.simulation.clock import SimulatedClock
from runtime.simulation.conditions import Conditions
from runtime.simulation.schedule import Schedule

Order = Literal["tasks", "events"]
Environment = Literal["control", "report", "leave"]
Outside = Literal["refuse", "allow"]


@dataclass(frozen=True)
class Settings:
    """The settings of a run, which ``runtime.simulation.run`` describes."""

    order: Order = "events"
    lateness: float = 0.01
    steps: int = 1_000_000
    environment: Environment = "control"
    outside: Outside = "refuse"
    leftovers: bool = False
    starvation: int | None = None
    network: Conditions | None = None
    # Called with the world, which is above this module.
    setup: Callable[[Any], object] | None = None

    def __post_init__(self) -> None:
        if self.order not in ("tasks", "events"):
            raise ValueError(f'order must be "tasks" or "events", got {self.order!r}')
        check_seconds("lateness", self.lateness)
        check_number("steps", self.steps, 1)
        if self.environment not in ("control", "report", "leave"):
            raise ValueError(
                f'environment must be "control", "report" or "leave", got {self.environment!r}'
            )
        if self.outside not in ("refuse", "allow"):
            raise ValueError(f'outside must be "refuse" or "allow", got {self.outside!r}')
        check_flag("leftovers", self.leftovers)
        check_number_or_none("starvation", self.starvation, 1)
        if self.network is not None and not isinstance(self.network, Conditions):
            raise TypeError(f"network must be simulation.Conditions or None, got {self.network!r}")
        check_setup(self.setup)


@dataclass
class Victim:
    """A task that may be cancelled at an await, ``left`` times, by calling ``cancel``."""

    task: Any
    cancel: Callable[[], object]
    label: str
    left: int = 1


@dataclass
class CurrentRun:
    """A run that has not ended."""

    settings: Settings
    choices: Choices
    clock: SimulatedClock
    schedule: Schedule
    seed: int
    loop: Any = None
    world: Any = None
    # Checks to be called after every step, with the names under which they are reported.
    invariants: list[tuple[Callable[[], object], str]] = field(default_factory=list)
    victims: list[Victim] = field(default_factory=list)
    # Labels of ``sometimes``, and whether the condition was ever true.
    reached: dict[str, bool] = field(default_factory=dict)
    # Uses of what a simulation does not control, with the line of each.
    outside: list[str] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    # Seconds that the call in an executor, which is running, has slept; None outside of one.
    slept: float | None = None
    locks: Any = None


_stack: list[CurrentRun] = []


def enter(run: CurrentRun) -> None:
    """Make ``run`` the current one."""
    _stack.append(run)


def leave() -> None:
    """End the current run."""
    _stack.pop()


def current_run() -> CurrentRun | None:
    """Return the current run; None outside of a simulation."""
    return _stack[-1] if _stack else None


def needed_run(function: str) -> CurrentRun:
    """Return the current run, for a function of that name. Raises RuntimeError without one."""
    run = current_run()
    if run is None:
        raise RuntimeError(
            f"simulation.{function}() can only be called in a simulated run: see "
            "runtime.simulation.run()"
        )
    return run

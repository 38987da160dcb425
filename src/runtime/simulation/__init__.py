"""Deterministic simulation: the production loop under every schedule, each replayed from a token.

Here belong the choices of a run, the strategies that make them, the loop that runs the entries of
its ready queue in the chosen order, the simulated world, and what a run is examined for. Tools for
tests that need no schedules belong in ``testing``.
"""

from __future__ import annotations

from runtime.simulation.conditions import Conditions, Latency
from runtime.simulation.disk import Disk, DiskFile
from runtime.simulation.errors import (
    DivergenceError,
    InvariantError,
    LeftoverError,
    LivelockError,
    OutsideError,
    StarvationError,
    UnretrievedError,
)
from runtime.simulation.exploring import Exploration, Failure, explore, replay, run, simulated
from runtime.simulation.hosts import Host, HostCrashedError
from runtime.simulation.linearizability import (
    FifoQueue,
    History,
    KeyValue,
    Model,
    Mutex,
    Operation,
    Register,
    Verdict,
    linearizable,
)
from runtime.simulation.network.faults import Network
from runtime.simulation.network.names import Names
from runtime.simulation.properties import (
    always,
    cancel_anywhere,
    chance,
    choice,
    integer,
    invariant,
    maybe_timeout,
    sometimes,
)
from runtime.simulation.reports import Report
from runtime.simulation.strategies import (
    StrategyName,
    delays,
    exhaustive,
    pct,
    portfolio,
    random_walk,
    reduced,
    usual,
)
from runtime.simulation.world import World, current_world

__all__ = [
    "Conditions",
    "Disk",
    "DiskFile",
    "DivergenceError",
    "Exploration",
    "Failure",
    "FifoQueue",
    "History",
    "Host",
    "HostCrashedError",
    "InvariantError",
    "KeyValue",
    "Latency",
    "LeftoverError",
    "LivelockError",
    "Model",
    "Mutex",
    "Names",
    "Network",
    "Operation",
    "OutsideError",
    "Register",
    "Report",
    "StarvationError",
    "StrategyName",
    "UnretrievedError",
    "Verdict",
    "World",
    "always",
    "cancel_anywhere",
    "chance",
    "choice",
    "current_world",
    "delays",
    "exhaustive",
    "explore",
    "integer",
    "invariant",
    "linearizable",
    "maybe_timeout",
    "pct",
    "portfolio",
    "random_walk",
    "reduced",
    "replay",
    "run",
    "simulated",
    "sometimes",
    "usual",
]

"""Probes: a probe measures one contender in one case, once per call."""

from __future__ import annotations

import abc
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench import machine, native
from bench.cases.memory import MemoryCase
from bench.cases.scheduler import SchedulerCase
from bench.cases.serving import LOOPBACK
from bench.contenders import Entry
from bench.lines import Usage
from bench.postgresql import PostgreSQL
from bench.process import Process, ProcessError


@dataclass(frozen=True)
class Sample:
    """Measurements of one run."""

    cost: float
    """Cost of one operation, in the unit of the case. Less is better."""

    used: Usage | None = None
    """Usage per operation in the contender's process."""

    more: dict[str, float] = field(default_factory=dict)
    """Further measurements by name, in seconds or bytes."""


class Probe(abc.ABC):
    """Measures one contender in one case; a context manager that ends the processes it holds."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def hold(self, process: Process) -> Process:
        """Make the probe end ``process`` when it is closed."""
        return self._held.enter_context(process)

    def close(self) -> None:
        """End the processes."""
        self._held.close()

    @abc.abstractmethod
    def warm_up(self, seconds: float) -> None:
        """Prepare for runs that take about ``seconds`` each."""

    @abc.abstractmethod
    def measure(self, seconds: float) -> Sample:
        """Run once, for about ``seconds``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class CountProbe(Probe):
    """Runs an operation in a process that stays alive for all rounds."""

    _process: Process

    def __init__(self, grain: int) -> None:
        super().__init__()
        self._grain = self._count = grain

    def warm_up(self, seconds: float) -> None:
        """Find the count that takes ``seconds``; the runs needed for it warm the interpreter up."""
        count = grain = self._grain
        while True:
            measured = self._process.ask(str(count))
            cost = float(measured["seconds"] + measured.get("waited", 0.0))
            self._count = max(grain, int(seconds / cost) // grain * grain)
            if self._count <= 4 * count:
                return
            count = min(self._count, 10 * count)

    def measure(self, seconds: float) -> Sample:
        """Run the case for about ``seconds``, with the same count each time."""
        measured = self._process.ask(str(self._count))
        seconds = measured.pop("seconds")
        return Sample(seconds, None if "waited" in measured else Usage(**measured))


class SchedulerProbe(CountProbe):
    """Runs a scheduler case."""

    def __init__(self, entry: Entry, case: SchedulerCase) -> None:
        super().__init__(case.grain)
        self._process = self.hold(entry.start("case", case.name))


class QueryProbe(CountProbe):
    """Queries a PostgreSQL server, which runs on the core of the load until the probe is closed."""

    GRAIN = 100

    def __init__(self, entry: Entry) -> None:
        super().__init__(self.GRAIN)
        try:
            server = self._held.enter_context(PostgreSQL())
            self._process = self.hold(entry.start("queries", str(server.folder)))
        except BaseException:
            self.close()
            raise


class MemoryProbe(Probe):
    """Measures the memory of one object, each time in a fresh process."""

    def __init__(self, entry: Entry, case: MemoryCase) -> None:
        super().__init__()
        self._entry = entry
        self._case = case

    def warm_up(self, seconds: float) -> None:
        """Find out whether the contender supports the case; nothing else outlasts a run."""
        self._weigh("resident")

    def measure(self, seconds: float) -> Sample:
        """Measure the resident set in one process and the allocations in another."""
        # A contender that keeps free objects may need nothing for another one; no ratio has 0.
        resident = max(self._weigh("resident"), 1.0)
        return Sample(resident, more={"allocated": self._weigh("traced")})

    def _weigh(self, scales: str) -> float:
        with contextlib.ExitStack() as stack:
            child = stack.enter_context(self._entry.start("memory", self._case.name, scales))
            if self._case.peer == "server":
                server = stack.enter_context(bare_server(1024))
                child.tell(str(server.hear()["port"]))
            while "bytes" not in (message := child.hear()):
                address = (LOOPBACK, int(message["port"]))
                for _ in range(message["connect"]):
                    stack.enter_context(socket.create_connection(address))
            return float(message["bytes"])


def bare_server(size: int, *options: str) -> Process:
    """Start the server in C for messages of ``size`` bytes."""
    return Process("the server in C", [str(native.built("server")), str(size), *options])


class StartProbe(Probe):
    """Starts processes that import a contender's package, or run a coroutine that does nothing."""

    SCRIPT = Path(__file__).with_name("startup.py")

    def __init__(self, entry: Entry, what: str) -> None:
        super().__init__()
        self._entry = entry
        self._what = what

    def warm_up(self, seconds: float) -> None:
        """Bring the files of the package into the page cache."""
        self._start()

    def measure(self, seconds: float) -> Sample:
        """Start processes for about ``seconds``, at least three; return the median time."""
        end = time.monotonic() + seconds
        costs = [self._start() for _ in range(3)]
        while time.monotonic() < end:
            costs.append(self._start())
        return Sample(statistics.median(costs))

    def _start(self) -> float:
        command = [sys.executable, str(self.SCRIPT), self._what, self._entry.contender.api]
        started = time.perf_counter()
        with subprocess.Popen(
            command, env=self._entry.environment, stdout=subprocess.PIPE, text=True
        ) as process:
            machine.pin(process.pid)
            said, _ = process.communicate()
        elapsed = time.perf_counter() - started
        if process.returncode:
            raise ProcessError(f"{self._entry.name} ended with status {process.returncode}.")
        return float(said) if said else elapsed

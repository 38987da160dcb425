"""Probes: each measures one contender in one case, as often as it is asked to."""

from __future__ import annotations

import abc
import contextlib
import socket
from dataclasses import dataclass, field
from typing import Self

from bench import native
from bench.cases.memory import MemoryCase
from bench.cases.scheduler import GRAIN
from bench.contenders import LIMIT, Entry
from bench.process import Process

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Sample:
    """What one run measured."""

    cost: float
    """For one operation, in the unit of the case. Less is better."""

    user: float | None = None
    """CPU seconds for one operation."""

    kernel: float | None = None
    """CPU seconds that the operating system took for it, on the same core."""

    more: dict[str, float] = field(default_factory=dict)
    """What else was measured, by its name, in seconds or bytes."""


class Probe(abc.ABC):
    """Measures. A context manager that ends the processes it holds."""

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()

    def hold(self, process: Process) -> Process:
        """Have a process end with this probe."""
        return self._held.enter_context(process)

    def close(self) -> None:
        """End the processes."""
        self._held.close()

    @abc.abstractmethod
    def warm_up(self, seconds: float) -> None:
        """Get ready for runs that take about ``seconds`` each."""

    @abc.abstractmethod
    def measure(self, seconds: float) -> Sample:
        """Run once, for about ``seconds``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SchedulerProbe(Probe):
    """Runs a case of the scheduler in a process that stays for all rounds."""

    def __init__(self, entry: Entry, case: str) -> None:
        super().__init__()
        self._process = self.hold(entry.start("case", case))
        self._count = GRAIN

    def warm_up(self, seconds: float) -> None:
        """Find the count that takes ``seconds``; the runs on the way warm the interpreter up."""
        count = GRAIN
        while True:
            cost = float(self._process.ask(str(count))["seconds"])
            self._count = max(GRAIN, int(seconds / cost) // GRAIN * GRAIN)
            if self._count <= 4 * count:
                return
            count = min(self._count, 10 * count)

    def measure(self, seconds: float) -> Sample:
        """Run the case as often as takes ``seconds``: the same count each time."""
        measured = self._process.ask(str(self._count))
        return Sample(measured["seconds"], measured["user"], measured["kernel"])


class EchoProbe(Probe):
    """Loads an echo server, which stays for all rounds, from another core."""

    def __init__(self, entry: Entry, kind: str, size: int, connections: int) -> None:
        super().__init__()
        if entry.contender is LIMIT:
            self._server = self.hold(_bare_server(size))
        else:
            self._server = self.hold(entry.start(kind, str(size)))
        try:
            self._port = int(self._server.hear()["port"])
        except BaseException:
            self.close()
            raise
        self._size = size
        self._connections = connections

    def warm_up(self, seconds: float) -> None:
        """Serve for a third of the time."""
        self.measure(seconds / 3)

    def measure(self, seconds: float) -> Sample:
        """Load the server for ``seconds``; connecting is not counted."""
        arguments = (self._port, self._connections, self._size, seconds)
        command = [str(native.built("load")), *map(str, arguments)]
        with Process("the load generator", command, on_load_core=True) as load:
            load.hear()
            user, kernel = self._server.cpu_seconds()
            counted = load.ask("begin")
            user_after, kernel_after = self._server.cpu_seconds()
        return Sample(
            counted["seconds"] / counted["requests"],
            (user_after - user) / counted["all"],
            (kernel_after - kernel) / counted["all"],
            {"p50": counted["p50"], "p99": counted["p99"]},
        )


class MemoryProbe(Probe):
    """Weighs one object, each time in a fresh process."""

    def __init__(self, entry: Entry, case: MemoryCase) -> None:
        super().__init__()
        self._entry = entry
        self._case = case

    def warm_up(self, seconds: float) -> None:
        """Find out whether it can be done at all; every run begins from nothing."""
        self._weigh("resident")

    def measure(self, seconds: float) -> Sample:
        """Weigh the resident set in one process and the allocations in another."""
        resident = self._weigh("resident")
        return Sample(resident, more={"allocated": self._weigh("traced")})

    def _weigh(self, scales: str) -> float:
        with contextlib.ExitStack() as stack:
            child = stack.enter_context(self._entry.start("memory", self._case.name, scales))
            if self._case.peer == "server":
                server = stack.enter_context(_bare_server(1024))
                child.tell(str(server.hear()["port"]))
            while "bytes" not in (message := child.hear()):
                address = (LOOPBACK, int(message["port"]))
                for _ in range(message["connect"]):
                    stack.enter_context(socket.create_connection(address))
            return float(message["bytes"])


def _bare_server(size: int) -> Process:
    return Process("the server in C", [str(native.built("server")), str(size)])

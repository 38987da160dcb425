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
from bench.cases.serving import AS_STARTED, FREED, LOOPBACK
from bench.contenders import LIMIT, Entry
from bench.lines import Usage
from bench.process import Process


@dataclass(frozen=True)
class Sample:
    """What one run measured."""

    cost: float
    """For one operation, in the unit of the case. Less is better."""

    used: Usage | None = None
    """By one operation, in the contender's process."""

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
        return Sample(measured.pop("seconds"), Usage(**measured))


@dataclass(frozen=True)
class Load:
    """An echo server, and how it is loaded."""

    server: str
    """One of ``bench.cases.servers``."""

    size: int
    """Of a message, in bytes."""

    connections: int

    line: int = 0
    """How many bytes a line has, when messages are made of lines."""

    short_lived: bool = False
    """Whether every message has a connection of its own.

    The clients then have more to do than a fast server: what counts is the server's CPU time.
    """

    freed: bool = False
    """Whether the server's process has freed a large block before."""

    @property
    def is_tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.server == "tls"

    @property
    def is_datagrams(self) -> bool:
        """Whether messages are datagrams."""
        return self.server == "datagrams"

    def start_server(self, entry: Entry) -> Process:
        """Start a contender's server."""
        if entry.contender is LIMIT:
            return _bare_server(self.size, *(["datagrams"] if self.is_datagrams else []))
        state = FREED if self.freed else AS_STARTED
        return entry.start("serve", self.server, str(self.size), state)

    def start_clients(self, port: int, seconds: float) -> Process:
        """Start the load generator, on another core than the server's."""
        options = ["-s"] if self.short_lived else []
        options += ["-u"] if self.is_datagrams else []
        options += ["-l", str(self.line)] if self.line else []
        numbers = map(str, (port, self.connections, self.size, seconds))
        program = native.built("load_tls" if self.is_tls else "load")
        return Process("the load generator", [str(program), *options, *numbers], on_load_core=True)


class EchoProbe(Probe):
    """Loads an echo server, which stays for all rounds, from another core."""

    def __init__(self, entry: Entry, load: Load) -> None:
        super().__init__()
        self._load = load
        self._server = self.hold(load.start_server(entry))
        try:
            self._port = int(self._server.hear()["port"])
        except BaseException:
            self.close()
            raise

    def warm_up(self, seconds: float) -> None:
        """Serve for a third of the time."""
        self.measure(seconds / 3)

    def measure(self, seconds: float) -> Sample:
        """Load the server for ``seconds``; connecting is not counted."""
        with self._load.start_clients(self._port, seconds) as clients:
            clients.hear()
            before = self._server.usage()
            counted = clients.ask("begin")
            used = self._server.usage().since(before, counted["all"])
        elapsed = counted["seconds"] / counted["requests"]
        more = {"p50": counted["p50"], "p99": counted["p99"]}
        if self._load.short_lived:
            return Sample(used.user + used.kernel, used, {"elapsed": elapsed, **more})
        return Sample(elapsed, used, more)


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


def _bare_server(size: int, *options: str) -> Process:
    return Process("the server in C", [str(native.built("server")), str(size), *options])

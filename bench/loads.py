"""Servers under load, and what is measured of them."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

from bench import native
from bench.cases.serving import AS_STARTED, FREED
from bench.contenders import LIMIT, Entry
from bench.lines import Usage
from bench.probes import Probe, Sample, bare_server
from bench.process import Process

QUANTILES = ("p50", "p75", "p90", "p99", "p99.9", "p99.99", "max")
"""What the load generators say of the latencies, from the fastest on."""

HTTP_SERVERS = ("aiohttp", "uvicorn_h11", "uvicorn_httptools")
LIMIT_SERVES = ("streams", "lines", "protocol", "buffered", "sockets", "datagrams", "unix")
"""What the server in C stands for."""


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

    rate: int = 0
    """How many messages begin in a second, whether the server keeps up or not; 0 for as many as the
    clients can ask. What counts is the latency then."""

    @property
    def is_tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.server == "tls"

    @property
    def is_http(self) -> bool:
        """Whether messages are requests of HTTP."""
        return self.server in HTTP_SERVERS

    @property
    def has_limit(self) -> bool:
        """Whether the server in C can serve it."""
        return self.server in LIMIT_SERVES

    def start_server(self, entry: Entry, folder: str) -> Process:
        """Start a contender's server. The folder is for what it may need there."""
        if entry.contender is LIMIT:
            if self.server == "unix":
                return bare_server(self.size, f"{folder}/echo")
            return bare_server(self.size, *(["datagrams"] if self.server == "datagrams" else []))
        state = FREED if self.freed else AS_STARTED
        return entry.start("serve", self.server, str(self.size), state)

    def start_clients(self, address: str, seconds: float) -> Process:
        """Start the load generator, on another core than the server's, and have it connect."""
        name = "load_tls" if self.is_tls else "http" if self.is_http else "load"
        options = ["-s"] if self.short_lived else []
        options += ["-u"] if self.server == "datagrams" else []
        options += ["-l", str(self.line)] if self.line else []
        options += ["-r", str(self.rate)] if self.rate else []
        sizes = [] if self.is_http else [str(self.size)]
        command = [native.built(name), *options, address, self.connections, *sizes, seconds]
        clients = Process("the load generator", [*map(str, command)], on_load_core=True)
        try:
            clients.hear()
        except BaseException:
            clients.end()
            raise
        return clients


class Serving:
    """A contender's server, and the load on it."""

    def __init__(self, probe: Probe, entry: Entry, load: Load, folder: str) -> None:
        self._load = load
        self._process = probe.hold(load.start_server(entry, folder))
        self._address = str(self._process.hear()["port"])

    def load(self, seconds: float) -> tuple[dict[str, float], Usage]:
        """Load the server; return what the clients counted, and what a message took.

        Connecting is not counted.
        """
        with self._load.start_clients(self._address, seconds) as clients:
            before = self._process.usage()
            counted = clients.ask("begin")
            return counted, self._process.usage().since(before, counted["all"])

    def rest(self, seconds: float) -> Usage:
        """Leave the clients connected and silent for so long; return what was used."""
        with self._load.start_clients(self._address, 0.001) as clients:
            before = self._process.usage()
            time.sleep(seconds)
            used = self._process.usage().since(before, 1)
            clients.ask("begin")  # it ends after a moment of load only
            return used


class ServerProbe(Probe):
    """Measures servers that stay for all rounds."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = self._held.enter_context(tempfile.TemporaryDirectory())

    def serve(self, entry: Entry, load: Load) -> Serving:
        """Start a server that ends with this probe; end all of them when it doesn't start."""
        try:
            return Serving(self, entry, load, self._folder)
        except BaseException:
            self.close()
            raise


class EchoProbe(ServerProbe):
    """Loads a server from another core."""

    LEAST = 150e-6
    """Seconds of a run for each connection, so that each has some ten messages in it.

    With very many, a shorter run measures how each is touched for the first time.
    """

    def __init__(self, entry: Entry, load: Load) -> None:
        super().__init__()
        self._load = load
        self._serving = self.serve(entry, load)

    def warm_up(self, seconds: float) -> None:
        """Serve for a third of the time."""
        self.measure(seconds / 3)

    def measure(self, seconds: float) -> Sample:
        """Load the server for ``seconds``; longer when there are very many connections."""
        counted, used = self._serving.load(max(seconds, self.LEAST * self._load.connections))
        more = {"p50": counted["p50"], "p99": counted["p99"]}
        if self._load.rate:
            return Sample(counted["p99"], used, {name: counted[name] for name in QUANTILES})
        elapsed = counted["seconds"] / counted["requests"]
        if self._load.short_lived:
            return Sample(used.user + used.kernel, used, {"elapsed": elapsed, **more})
        return Sample(elapsed, used, more)


class IdleProbe(ServerProbe):
    """Tells what a server uses whose clients are silent."""

    LEAST = 1.0
    """Seconds of a run: what is measured is next to nothing."""

    def __init__(self, entry: Entry, load: Load) -> None:
        super().__init__()
        self._serving = self.serve(entry, load)

    def warm_up(self, seconds: float) -> None:
        """Have every connection opened once."""
        self._serving.rest(0)

    def measure(self, seconds: float) -> Sample:
        """Return the CPU time of a second."""
        rest = max(seconds, self.LEAST)
        used = self._serving.rest(rest)
        each = Usage(used.user / rest, used.kernel / rest, used.faults / rest)
        return Sample(max(each.user + each.kernel, 1e-9), each)


class WatchProbe(ServerProbe):
    """Tells what watching for slow callbacks costs: one server is watched, another is not.

    Both are loaded in every round, one after the other, first the one, then the other.
    """

    def __init__(self, entry: Entry, load: Load, watched: Load) -> None:
        super().__init__()
        self._both = [self.serve(entry, load), self.serve(entry, watched)]
        self._rounds = 0

    def warm_up(self, seconds: float) -> None:
        """Serve for a third of the time, each."""
        self.measure(seconds / 3)

    def measure(self, seconds: float) -> Sample:
        """Return the CPU time of a message on the watched server, and on the other."""
        self._rounds += 1
        order = (0, 1) if self._rounds % 2 else (1, 0)
        used = {number: self._both[number].load(seconds)[1] for number in order}
        plain, watched = (used[number].user + used[number].kernel for number in (0, 1))
        return Sample(watched, used[1], {"unwatched": plain})

"""Servers under load, and the measurements taken of them."""

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
"""Quantiles of the latency that the load generators report, in ascending order."""

HTTP_SERVERS = ("aiohttp", "uvicorn_h11", "uvicorn_httptools")
MIXED = ("computing", "sleepers", "mixed")
"""Servers of streams whose loop has other work."""

LIMIT_SERVES = ("streams", "lines", "protocol", "buffered", "sockets", "datagrams", "unix")
"""Servers that the server in C is a lower bound for."""


@dataclass(frozen=True)
class Load:
    """An echo server, and the load on it."""

    server: str
    """A name in ``bench.cases.servers``."""

    size: int
    """Size of a message, in bytes."""

    connections: int

    line: int = 0
    """Length of a line in bytes, if messages consist of lines; 0 otherwise."""

    short_lived: bool = False
    """Whether every message has a connection of its own.

    The clients then have more work than a fast server, so that the cost is the server's CPU time.
    """

    freed: bool = False
    """Whether the server's process has freed a large block before."""

    rate: int = 0
    """Messages begun per second, whether or not the server keeps up; 0 for no fixed rate.

    With a fixed rate, the cost is the latency. Without one, each client asks as fast as it can.
    """

    slow_readers: int = 0
    """Further connections whose clients send much and read little; only with a fixed rate."""

    floods: int = 0
    """Further connections that send and read as fast as they can; only with a fixed rate."""

    burst: int = 0
    """Further connections that open and close at once, ten times a second; with a fixed rate."""

    @property
    def is_tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.server == "tls"

    @property
    def is_http(self) -> bool:
        """Whether messages are HTTP requests."""
        return self.server in HTTP_SERVERS

    @property
    def has_limit(self) -> bool:
        """Whether the server in C can serve this load."""
        return self.server in LIMIT_SERVES

    def start_server(self, entry: Entry, folder: str) -> Process:
        """Start a contender's server. The server may keep files in ``folder``."""
        if entry.contender is LIMIT:
            if self.server == "unix":
                return bare_server(self.size, f"{folder}/echo")
            return bare_server(self.size, *(["datagrams"] if self.server == "datagrams" else []))
        state = FREED if self.freed else AS_STARTED
        return entry.start("serve", self.server, str(self.size), state)

    def start_clients(self, address: str, seconds: float) -> Process:
        """Start the load generator on another core than the server's, and have it connect."""
        name = "load_tls" if self.is_tls else "http" if self.is_http else "load"
        options = ["-s"] if self.short_lived else []
        options += ["-u"] if self.server == "datagrams" else []
        options += ["-l", str(self.line)] if self.line else []
        options += ["-r", str(self.rate)] if self.rate else []
        others = {"-w": self.slow_readers, "-f": self.floods, "-b": self.burst}
        options += [word for option, n in others.items() if n for word in (option, str(n))]
        sizes = [] if self.is_http else [str(self.size)]
        command = [native.built(name), *options, address, self.connections, *sizes, seconds]
        words = [*map(str, command)]
        clients = Process("the load generator", words, on_load_core=True, is_quiet=True)
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
        """Load the server; return the clients' figures, and the server's usage per message.

        Connecting is not counted.
        """
        with self._load.start_clients(self._address, seconds) as clients:
            before = self._process.usage()
            counted = clients.ask("begin")
            return counted, self._process.usage().since(before, counted["all"])

    def rest(self, seconds: float) -> Usage:
        """Keep the clients connected and silent for ``seconds``; return the server's usage."""
        with self._load.start_clients(self._address, 0.001) as clients:
            before = self._process.usage()
            time.sleep(seconds)
            used = self._process.usage().since(before, 1)
            clients.ask("begin")  # the load lasts for a moment only
            return used


class ServerProbe(Probe):
    """Measures servers that stay alive for all rounds."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = self._held.enter_context(tempfile.TemporaryDirectory())

    def serve(self, entry: Entry, load: Load) -> Serving:
        """Start a server that ends with this probe; end all servers if it does not start."""
        try:
            return Serving(self, entry, load, self._folder)
        except BaseException:
            self.close()
            raise


class EchoProbe(ServerProbe):
    """Loads a server from another core."""

    LEAST = 150e-6
    """Least length of a run in seconds per connection: about ten messages on each connection.

    With very many connections, a shorter run would measure the first use of each connection.
    """

    LEAST_REQUESTS = 5000
    """Least number of requests of a run at a fixed rate: five of them are above p99.9."""

    def __init__(self, entry: Entry, load: Load) -> None:
        super().__init__()
        self._load = load
        self._serving = self.serve(entry, load)

    def warm_up(self, seconds: float) -> None:
        """Load the server for a third of ``seconds``."""
        self._serving.load(max(seconds / 3, self.LEAST * self._load.connections))

    def measure(self, seconds: float) -> Sample:
        """Load the server for ``seconds``, or longer if that makes too few requests."""
        least = self.LEAST * self._load.connections
        if self._load.rate:
            seconds = max(seconds, self.LEAST_REQUESTS / self._load.rate)
        counted, used = self._serving.load(max(seconds, least))
        more = {"p50": counted["p50"], "p99": counted["p99"]}
        if self._load.rate:
            names = (*QUANTILES, "late")
            return Sample(counted["p99"], used, {name: counted[name] for name in names})
        elapsed = counted["seconds"] / counted["requests"]
        if self._load.short_lived:
            return Sample(used.user + used.kernel, used, {"elapsed": elapsed, **more})
        return Sample(elapsed, used, more)


class IdleProbe(ServerProbe):
    """Measures the CPU time of a server whose clients are silent."""

    LEAST = 1.0
    """Least length of a run in seconds: the figure is close to zero."""

    def __init__(self, entry: Entry, load: Load) -> None:
        super().__init__()
        self._serving = self.serve(entry, load)

    def warm_up(self, seconds: float) -> None:
        """Open every connection once."""
        self._serving.rest(0)

    def measure(self, seconds: float) -> Sample:
        """Return the CPU time per second."""
        rest = max(seconds, self.LEAST)
        used = self._serving.rest(rest)
        each = Usage(used.user / rest, used.kernel / rest, used.faults / rest)
        return Sample(max(each.user + each.kernel, 1e-9), each)


class WatchProbe(ServerProbe):
    """Measures the cost of watching for slow callbacks, with a watched and an unwatched server.

    Both servers are loaded in every round, one after the other, in alternating order.
    """

    def __init__(self, entry: Entry, load: Load, watched: Load) -> None:
        super().__init__()
        self._both = [self.serve(entry, load), self.serve(entry, watched)]
        self._rounds = 0

    def warm_up(self, seconds: float) -> None:
        """Load each server for a third of ``seconds``."""
        self.measure(seconds / 3)

    def measure(self, seconds: float) -> Sample:
        """Return the CPU time of a message on the watched server and on the other one."""
        self._rounds += 1
        order = (0, 1) if self._rounds % 2 else (1, 0)
        used = {number: self._both[number].load(seconds)[1] for number in order}
        plain, watched = (used[number].user + used[number].kernel for number in (0, 1))
        return Sample(watched, used[1], {"unwatched": plain})

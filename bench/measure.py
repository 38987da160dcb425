"""Measuring: interleaved rounds, each contender once a round, in an order that rotates."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import native
from bench.cases import CASES
from bench.contenders import Child

BASELINE = "uvloop"

ECHO_CASES = {
    "echo_1k": ("a 1 KiB message is echoed, 10 connections", 1024, 10),
    "echo_1m": ("a 1 MiB message is echoed, 4 connections", 1 << 20, 4),
}
MEMORY_CASES = {
    "memory_task": ("bytes for each task in sleep(3600)", "task"),
    "memory_stream": ("bytes for each accepted connection whose handler waits in read()", "stream"),
}


@dataclass
class Series:
    """What one contender did in one case: a value for each round."""

    contender: str
    build: str
    values: list[float] = field(default_factory=list)
    user: list[float] = field(default_factory=list)
    kernel: list[float] = field(default_factory=list)


@dataclass
class Result:
    """A case: what one operation is, the unit of its values, and a series for each contender."""

    case: str
    operation: str
    unit: str
    series: dict[str, Series]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


Progress = Callable[[str], None]


def rotated(items: Sequence[str], by: int) -> list[str]:
    """Return the items, beginning ``by`` places later."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


def measure_case(
    name: str, contenders: Sequence[str], rounds: int, seconds: float, progress: Progress
) -> Result:
    """Measure a case of the scheduler: seconds for one operation."""
    with contextlib.ExitStack() as stack:
        children = {
            contender: stack.enter_context(Child(contender, "case", name))
            for contender in contenders
        }
        series = {
            contender: Series(contender, str(child.hello["build"]))
            for contender, child in children.items()
        }
        counts: dict[str, int] = {}
        for contender, child in children.items():
            # The first run warms the interpreter up.
            child.tell("1000")
            child.hear()
            child.tell("10000")
            first = child.hear()
            counts[contender] = max(1000, int(seconds / first["seconds"]) // 1000 * 1000)
        for number in range(rounds):
            for contender in rotated(contenders, number):
                progress(f"{name}: round {number + 1} of {rounds}, {contender}")
                child = children[contender]
                child.tell(str(counts[contender]))
                measured = child.hear()
                series[contender].values.append(measured["seconds"])
                series[contender].user.append(measured["user"])
                series[contender].kernel.append(measured["kernel"])
    return Result(name, CASES[name].operation, "s", series)


def measure_echo(
    name: str, contenders: Sequence[str], rounds: int, seconds: float, progress: Progress
) -> Result:
    """Measure an echo service: seconds for one message, there and back."""
    operation, size, connections = ECHO_CASES[name]
    with contextlib.ExitStack() as stack:
        servers: dict[str, Child | native.BareServer] = {
            contender: stack.enter_context(Child(contender, "server", str(size)))
            for contender in contenders
        }
        servers["C"] = stack.enter_context(native.BareServer(size))
        ports = {contender: int(server.hear()["port"]) for contender, server in servers.items()}
        series = {
            contender: Series(contender, str(server.hello["build"]))
            for contender, server in servers.items()
        }
        for port in ports.values():
            native.load(port, connections, size, 0.1)
        for number in range(rounds):
            for contender in rotated(list(servers), number):
                progress(f"{name}: round {number + 1} of {rounds}, {contender}")
                before = servers[contender].cpu()
                counted = native.load(ports[contender], connections, size, seconds)
                after = servers[contender].cpu()
                requests = counted["requests"]
                series[contender].values.append(counted["seconds"] / requests)
                series[contender].user.append((after[0] - before[0]) / requests)
                series[contender].kernel.append((after[1] - before[1]) / requests)
    return Result(name, operation, "s", series)


def measure_memory(
    name: str, contenders: Sequence[str], rounds: int, seconds: float, progress: Progress
) -> Result:
    """Measure memory: bytes for one object, each round in a fresh process."""
    operation, kind = MEMORY_CASES[name]
    series: dict[str, Series] = {}
    for number in range(min(rounds, 3)):
        for contender in rotated(contenders, number):
            progress(f"{name}: round {number + 1}, {contender}")
            with Child(contender, "memory", kind) as child:
                line = series.setdefault(contender, Series(contender, str(child.hello["build"])))
                if kind == "stream":
                    line.values.append(_with_clients(child))
                else:
                    line.values.append(float(child.hear()["bytes"]))
    return Result(name, operation, "bytes", series)


def _with_clients(child: Child) -> float:
    """Connect as many clients as the child expects, and return what it measured."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2000 if hard == resource.RLIM_INFINITY else min(2000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    child.tell("connect")
    port = int(child.hear()["port"])
    with contextlib.ExitStack() as stack:

        def connect(count: int) -> None:
            for _ in range(count):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))

        connect(10)
        assert child.hear()["ready"]
        connect(1000)
        return float(child.hear()["bytes"])


def machine() -> dict[str, Any]:
    """Return what the figures were made on."""
    model = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":")[1].strip() for line in info if "model name" in line), "")
    system = os.uname()
    return {
        "system": f"{system.sysname} {system.release} {system.machine}",
        "processor": model,
        "cores": os.cpu_count(),
    }

"""Latency of a service with a large heap, with and without ``Loop.collect_when_idle``.

``python -m bench collections``: a server keeps many objects, as a cache does. Each request adds
some to them, which are dropped after two to three seconds, all those of a second at once. A client
in another process sends requests at a fixed rate, and measures each from the moment at which it was
due, so that requests that wait for a slow one count as well. The phases alternate, each in a new
process of the server.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import runtime
from bench.process import ROOT

_PHASES: Final = ("automatic", "when idle")

_ADDED: Final = 100
"""Objects that a request adds: each is a dict with a list."""


async def serve(objects: int, collects_when_idle: bool) -> None:
    """Be the service: print the port, answer until stdin ends, print the pauses."""
    loop = runtime.get_running_loop()
    heap: list[dict[str, Any]] = [{"number": each, "lines": [each]} for each in range(objects)]
    recent: collections.deque[list[dict[str, Any]]] = collections.deque([[]], maxlen=3)
    until = loop.time() + 1.0

    async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        nonlocal until
        while line := await reader.readline():
            found = json.loads(line)
            if loop.time() >= until:
                recent.append([])
                until = loop.time() + 1.0
            recent[-1].extend({"number": each, "lines": [line]} for each in range(_ADDED))
            writer.write(json.dumps({"length": len(heap), **found}).encode() + b"\n")
            await writer.drain()
        writer.close()

    if collects_when_idle:
        loop.collect_when_idle(freeze=True)
    server = await runtime.start_server(answer, "127.0.0.1", 0)
    before = loop.metrics().collector
    print(server.sockets[0].getsockname()[1], flush=True)
    await runtime.to_thread(sys.stdin.readline)
    pauses = loop.metrics().collector.since(before)
    longest = max((each.longest for each in pauses.pauses), default=0.0)
    print(sum(pauses.collections), f"{pauses.seconds:.6f}", f"{longest:.6f}", flush=True)
    server.close()


def requests(port: int, rate: float, seconds: float) -> list[float]:
    """Return the latency of each request, in seconds."""
    found = []
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as answers:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = start + number / rate
            while (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            sock.sendall(json.dumps({"number": number}).encode() + b"\n")
            answers.readline()
            found.append(time.perf_counter() - due)
    return found


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ``ordered`` values that the share of all do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def main(arguments: Sequence[str]) -> int:
    """Run both phases some times; print the quantiles of the latencies."""
    usage = argparse.ArgumentParser(prog="python -m bench collections")
    usage.add_argument("--objects", type=int, default=500_000, help="containers: twice as many")
    usage.add_argument("--rate", type=float, default=500.0, help="requests in a second")
    usage.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    usage.add_argument("--rounds", type=int, default=3)
    usage.add_argument("--serve", choices=_PHASES, help=argparse.SUPPRESS)
    options = usage.parse_args(arguments)
    if options.serve is not None:
        runtime.run(serve(options.objects, options.serve == _PHASES[1]))
        return 0
    latencies: dict[str, list[float]] = {phase: [] for phase in _PHASES}
    pauses: dict[str, list[tuple[float, ...]]] = {phase: [] for phase in _PHASES}
    for phase in _PHASES * options.rounds:
        command = [sys.executable, "-m", "bench", "collections", *arguments, "--serve", phase]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as service:
            assert service.stdin is not None
            assert service.stdout is not None
            port = int(service.stdout.readline())
            latencies[phase] += requests(port, options.rate, options.seconds)
            service.stdin.write("\n")
            service.stdin.flush()
            pauses[phase].append(tuple(map(float, service.stdout.readline().split())))
            service.stdin.close()
    for phase in _PHASES:
        ordered = sorted(latencies[phase])
        shown = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        words = ", ".join(
            f"{name} {quantile(ordered, share) * 1e3:.2f} ms" for name, share in shown.items()
        )
        print(f"{phase}: {len(ordered)} requests, {words}")
        counts, seconds, longest = zip(*pauses[phase], strict=True)
        print(
            f"  {sum(counts):.0f} collections, {sum(seconds):.3f} s in all, "
            f"the longest {max(longest) * 1e3:.1f} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

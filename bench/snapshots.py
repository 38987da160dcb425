"""Delays of a loop while another process takes snapshots of it: ``python -m bench snapshots``.

A program with many tasks and connections has a timer that is due every millisecond, and notes how
late it runs. Phases alternate in which the program is left alone, and in which this process asks it
for everything that the console shows, again and again. So both have the same disturbances by other
processes. The heap is that of the tasks and connections; ``--collect-when-idle`` keeps the pauses
of the garbage collector out of the delays.

At the end the program itself makes such an answer, in a thread, and measures the CPU time from each
moment at which the thread releases the interpreter to the next one. This does not depend on other
processes: the longest of these times is the longest that a snapshot can delay the loop.
"""

from __future__ import annotations

import argparse
import gc
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from unittest import mock

import runtime
from bench.process import ROOT
from runtime.observe import listen, listening
from runtime.observe.client import ask

_TICK: Final = 0.001
_PHASE: Final = 3.0
_PHASES: Final = ("alone", "observed")


async def _hold(lock: runtime.Lock) -> None:
    async with lock:
        await runtime.sleep_forever()


async def _read(reader: runtime.StreamReader) -> None:
    await reader.read()


class _Ticks:
    """A timer that is due every millisecond; ``late`` are its delays in seconds."""

    def __init__(self, loop: runtime.Loop) -> None:
        self._loop = loop
        self._due = loop.time() + _TICK
        self.late: list[float] = []
        loop.call_at(self._due, self._run)

    def _run(self) -> None:
        now = self._loop.time()
        self.late.append(now - self._due)
        self._due = now + _TICK
        self._loop.call_at(self._due, self._run)


async def observed(tasks: int, connections: int, collect_when_idle: bool) -> None:
    """Be the observed program: answer each line of stdin by the delays since the line before."""
    loop = runtime.get_running_loop()
    lock = runtime.Lock()
    held: list[object] = []
    reading = [runtime.create_task(_hold(lock)) for _ in range(tasks - connections)]
    for _ in range(connections):
        ours, theirs = socket.socketpair()
        reader, writer = await runtime.open_connection(sock=ours)
        held += [theirs, writer]
        reading.append(runtime.create_task(_read(reader)))
    await runtime.sleep(0.5)
    gc.collect()  # Otherwise the objects made so far would soon cause a full collection.
    if collect_when_idle:
        loop.collect_when_idle(freeze=True)
    listen()
    ticks = _Ticks(loop)
    print("ready", flush=True)
    while await runtime.to_thread(sys.stdin.readline):
        late, ticks.late = ticks.late, []
        print(*(f"{delay:.6f}" for delay in late), flush=True)
    holds = sorted(await runtime.to_thread(_holds), reverse=True)
    print(*(f"{hold:.6f}" for hold in holds[:3]), flush=True)
    for task in reading:
        task.cancel()
    await runtime.wait(reading)
    for each in held:
        each.close()  # type: ignore[attr-defined]


class _Releases:
    """Stands for the module ``time`` and for a connection: measures the work between its calls."""

    def __init__(self) -> None:
        self.holds: list[float] = []
        self._since = time.thread_time()

    def sleep(self, seconds: float) -> None:
        self.holds.append(time.thread_time() - self._since)
        time.sleep(seconds)
        self._since = time.thread_time()

    def sendall(self, data: bytes) -> None:
        self.sleep(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _holds() -> list[float]:
    """Return the CPU times for which the thread that answers keeps the interpreter."""
    releases: Any = _Releases()
    with mock.patch.object(listening, "time", releases):
        listening.send(releases, listening.answer_to({"command": "top"}, []))
    found: list[float] = releases.holds
    return found


def _quantile(sorted_delays: Sequence[float], share: float) -> float:
    return sorted_delays[min(len(sorted_delays) - 1, int(share * len(sorted_delays)))]


def main(arguments: Sequence[str]) -> int:
    """Run the program and observe it; print the delays of both phases."""
    usage = argparse.ArgumentParser(prog="python -m bench snapshots")
    usage.add_argument("--tasks", type=int, default=10_000)
    usage.add_argument("--connections", type=int, default=0, help="tasks that read from one")
    usage.add_argument("--command", default="top", help="what to ask for: top, ps, metrics, ...")
    usage.add_argument("--collect-when-idle", action="store_true")
    usage.add_argument("--rounds", type=int, default=5)
    usage.add_argument("--observed", action="store_true", help=argparse.SUPPRESS)
    options = usage.parse_args(arguments)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.observed:
        runtime.run(observed(options.tasks, options.connections, options.collect_when_idle))
        return 0
    command = [sys.executable, "-m", "bench", "snapshots", "--observed", *arguments]
    delays: dict[str, list[float]] = {phase: [] for phase in _PHASES}
    snapshots: list[float] = []
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdout.readline()
        for phase in _PHASES * options.rounds:
            _exchange(program)  # The delays until now belong to no phase.
            end = time.monotonic() + _PHASE
            while (now := time.monotonic()) < end:
                if phase == "alone":
                    time.sleep(end - now)
                else:
                    ask(program.pid, {"command": options.command})
                    snapshots.append(time.monotonic() - now)
            delays[phase] += _exchange(program)
        program.stdin.close()
        holds = program.stdout.readline().split()
    for phase, found in delays.items():
        found.sort()
        shown = {name: _quantile(found, share) for name, share in _SHOWN.items()}
        words = ", ".join(f"{name} {value * 1e3:.2f} ms" for name, value in shown.items())
        print(f"{phase}: {len(found)} ticks, late by {words}")
    print(f"{len(snapshots)} snapshots, of {sum(snapshots) / len(snapshots):.2f} s each")
    words = ", ".join(f"{float(hold) * 1e3:.2f} ms" for hold in holds)
    print(f"longest times for which a snapshot keeps the interpreter: {words}")
    return 0


_SHOWN: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def _exchange(program: subprocess.Popen[str]) -> list[float]:
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    return [float(delay) for delay in program.stdout.readline().split()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

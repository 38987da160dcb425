"""The machine: what it is, which of its cores are used, and who else uses them."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from pathlib import Path

CPU_TIMES = Path("/proc/stat")
DESCRIPTORS = 65536
"""As many as are asked for: a process that serves 10,000 connections needs more than the usual."""


def cores() -> tuple[int, int] | None:
    """Return a core for what is measured and one for its load; None where there are no two."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[-1]) if len(available) > 1 else None


def pin(pid: int, *, to_load_core: bool = False) -> None:
    """Keep a process on the core of what is measured, or of its load, where there are two."""
    if (both := cores()) is not None:
        os.sched_setaffinity(pid, {both[to_load_core]})


def allow_descriptors() -> None:
    """Let this process, and those that it starts, open as many descriptors as they need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_descriptors()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_descriptors() -> int:
    """Return how many descriptors a process may have when ``allow_descriptors`` is done."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)


def describe() -> dict[str, str | int]:
    """Return what the figures were made on."""
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":")[1].strip() for line in info if "model name" in line), model)
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "cores": os.cpu_count() or 1,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _busy_seconds() -> float | None:
    """Return the CPU seconds that everything on the machine has used; None where unknown."""
    try:
        fields = CPU_TIMES.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal: all but the two idle ones. What was
    # stolen by other guests of the host counts as used by others.
    busy = [int(field) for number, field in enumerate(fields[:8]) if number not in {3, 4}]
    return sum(busy) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the CPU seconds of this process and of the processes it started that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class BackgroundLoad:
    """How much of the machine others used, from now until ``share`` is asked for.

    Processes that this one starts must begin and end in between, or they count as others.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def share(self) -> float:
        """Return the part of a core that others used on average; 0 where it cannot be told."""
        busy, elapsed = _busy_seconds(), time.monotonic() - self._started
        if self._busy is None or busy is None or elapsed <= 0:
            return 0.0
        return max(0.0, (busy - self._busy - (_own_seconds() - self._own)) / elapsed)

"""The machine: its description, the cores in use, and the load of other processes."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from pathlib import Path

CPU_TIMES = Path("/proc/stat")
DESCRIPTORS = 65536
"""Number of descriptors asked for: serving 10,000 connections takes more than the usual limit."""


def cores() -> tuple[int, int] | None:
    """Return a core for the contender and one for the load, or None without two cores."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[-1]) if len(available) > 1 else None


def pin(pid: int, *, to_load_core: bool = False) -> None:
    """Pin a process to the contender's core or to the core of the load, if there are two."""
    if (both := cores()) is not None:
        os.sched_setaffinity(pid, {both[to_load_core]})


def allow_descriptors() -> None:
    """Raise the limit of open descriptors for this process and the processes it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_descriptors()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_descriptors() -> int:
    """Return the number of descriptors available to a process after ``allow_descriptors``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)


def describe() -> dict[str, str | int]:
    """Return a description of the machine on which the figures were measured."""
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
    """Return the CPU seconds used by the whole machine, or None if unknown."""
    try:
        fields = CPU_TIMES.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    # The fields are user, nice, system, idle, iowait, irq, softirq and steal; all but the two idle
    # fields are added. Time stolen by other guests of the host counts as used by others.
    busy = [int(field) for number, field in enumerate(fields[:8]) if number not in {3, 4}]
    return sum(busy) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the CPU seconds of this process and of its child processes that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class BackgroundLoad:
    """Load of other processes on the machine, from its creation until ``share`` is read.

    Processes started by this one must begin and end in between; otherwise they count as others.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def share(self) -> float:
        """Return the share of a core that others used on average; 0 if it is unknown."""
        busy, elapsed = _busy_seconds(), time.monotonic() - self._started
        if self._busy is None or busy is None or elapsed <= 0:
            return 0.0
        return max(0.0, (busy - self._busy - (_own_seconds() - self._own)) / elapsed)

"""What the processes of a contender say: JSON, a line at a time, on standard output."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """What a process has used, or what an operation of its took."""

    user: float
    """CPU seconds."""

    kernel: float
    """CPU seconds of the operating system for it."""

    faults: float
    """Pages that it touched first, so that the operating system had to provide them."""

    def since(self, earlier: Usage, operations: int) -> Usage:
        """Return what each of so many operations took since then."""
        return Usage(
            (self.user - earlier.user) / operations,
            (self.kernel - earlier.kernel) / operations,
            (self.faults - earlier.faults) / operations,
        )


def say(message: dict[str, Any]) -> None:
    """Say something."""
    print(json.dumps(message), flush=True)


def usage() -> Usage:
    """Return what this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime, used.ru_stime, used.ru_minflt)


def say_usage() -> None:
    """Say what this process has used."""
    say(asdict(usage()))

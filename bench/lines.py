"""Messages between the processes: JSON, one line each, on standard output."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Resources that a process has used, or that one operation used."""

    user: float
    """CPU seconds in user mode."""

    kernel: float
    """CPU seconds in the kernel."""

    faults: float
    """Page faults: pages touched for the first time, which the operating system had to provide."""

    def since(self, earlier: Usage, operations: int) -> Usage:
        """Return the usage per operation since ``earlier``."""
        return Usage(
            (self.user - earlier.user) / operations,
            (self.kernel - earlier.kernel) / operations,
            (self.faults - earlier.faults) / operations,
        )


def say(message: dict[str, Any]) -> None:
    """Print a message."""
    print(json.dumps(message), flush=True)


def usage() -> Usage:
    """Return the usage of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime, used.ru_stime, used.ru_minflt)


def say_usage() -> None:
    """Print the usage of this process."""
    say(asdict(usage()))

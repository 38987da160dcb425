"""What the processes of a contender say: JSON, a line at a time, on standard output."""

from __future__ import annotations

import json
import resource
from typing import Any


def say(message: dict[str, Any]) -> None:
    """Say something."""
    print(json.dumps(message), flush=True)


def usage() -> tuple[float, float]:
    """Return the user and kernel CPU seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


def say_usage() -> None:
    """Say how much CPU time this process has used."""
    user, kernel = usage()
    say({"user": user, "kernel": kernel})

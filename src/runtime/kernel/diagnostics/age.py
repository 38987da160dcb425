"""Ages of tasks in reports: when a task was created, failed, or began to wait."""

from __future__ import annotations

import time
from typing import Any, Final

_WAITING_SINCE: Final = "_waiting_since"
"""The attribute that debug mode sets to the time at the end of each step of a task."""


def note_wait(task: Any) -> None:
    """Note that a step of a task has ended, for reports about it. Debug mode calls this."""
    setattr(task, _WAITING_SINCE, time.monotonic())


def age_of(task: Any) -> str:
    """Return when a pending task was created and, in debug mode, since when it waits; or ""."""
    created = getattr(task, "_created", None)
    if created is None:
        return ""
    return describe_age(
        task.get_loop(), created=created, waiting=getattr(task, _WAITING_SINCE, None)
    )


def describe_age(loop: Any, **times: float | None) -> str:
    """Return words about times of ``time.monotonic``, such as "created 2.10 s ago".

    Returns "" for a loop with another clock, such as a simulated one: its reports are the same in
    each run.
    """
    if loop.time is not time.monotonic:
        return ""
    now = time.monotonic()
    words = []
    for name, when in times.items():
        if when is not None:
            seconds = f"{max(0.0, now - when):.2f} s"
            words.append(f"waiting for {seconds}" if name == "waiting" else f"{name} {seconds} ago")
    return ", ".join(words)

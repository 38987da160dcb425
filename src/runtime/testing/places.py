"""Places in the program under test: what a report shows of a task or an exception.

Whoever reads that a test failed looks for a line of their own. How the loop, the library and this
package came there is left out, unless there is nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from runtime.kernel.diagnostics.deadlock import DeadlockError, deadlock_of
from runtime.kernel.diagnostics.describe import await_frames

_LIBRARIES = ("runtime.", "asyncio.")
_OURS = "runtime.testing."


def from_the_program(
    traceback: TracebackType | None, *, only: bool = False
) -> TracebackType | None:
    """Return a traceback from the first place in the program on.

    With ``only``, libraries that the program called are left out as well. A traceback that is in
    libraries alone is returned as it is.
    """
    entries: list[TracebackType] = []
    entry = traceback
    while entry is not None:
        if not _is_of(_LIBRARIES, entry.tb_frame) or (entries and not only):
            entries.append(entry)
        entry = entry.tb_next
    found: TracebackType | None = None
    for entry in reversed(entries):
        found = TracebackType(found, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return found or traceback


def place_of_wait(task: Any) -> TracebackType | None:
    """Return a traceback that leads to where a suspended task waits."""
    found: TracebackType | None = None
    for frame in reversed(await_frames(task.get_coro())):
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno)
    return found


def without_our_tasks(error: DeadlockError) -> DeadlockError:
    """Return a report of a deadlock without the tasks by which fixtures are set up and torn down.

    A fixture that waits for the end of its test is among these, one that waits itself is not.
    """
    tasks = _of_the_program(error.tasks)
    return deadlock_of(tasks) if tasks else error


def _of_the_program(tasks: Iterable[Any]) -> list[Any]:
    found = []
    for task in tasks:
        frames = await_frames(task.get_coro())
        is_ours = bool(frames) and _is_of((_OURS,), frames[0])
        if not is_ours or not all(_is_of(_LIBRARIES, frame) for frame in frames):
            found.append(task)
    return found


def _is_of(packages: tuple[str, ...], frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(packages)

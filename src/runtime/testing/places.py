"""Tracebacks of the program under test, without the frames of the loop and of libraries.

The reader of a failed test looks for a line of their own code. The frames of the loop, of asyncio
and of this package are left out, unless there are no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from runtime.kernel.diagnostics.deadlock import DeadlockError, deadlock_error
from runtime.kernel.diagnostics.describe import await_frames

_LIBRARIES = ("runtime.", "asyncio.")
_OURS = "runtime.testing."


def program_traceback(
    traceback: TracebackType | None, *, only: bool = False
) -> TracebackType | None:
    """Return a traceback that begins at its first frame in the program.

    With ``only``, later frames in libraries that the program called are left out as well. A
    traceback without a frame in the program is returned as it is.
    """
    entries: list[TracebackType] = []
    entry = traceback
    while entry is not None:
        if not _is_in(_LIBRARIES, entry.tb_frame) or (entries and not only):
            entries.append(entry)
        entry = entry.tb_next
    found: TracebackType | None = None
    for entry in reversed(entries):
        found = TracebackType(found, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return found or traceback


def place_of_wait(task: Any) -> TracebackType | None:
    """Return a traceback that leads to the place where a suspended task waits."""
    found: TracebackType | None = None
    for frame in reversed(await_frames(task.get_coro())):
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno)
    return found


def without_plugin_tasks(error: DeadlockError) -> DeadlockError:
    """Return a deadlock report without the tasks that the plugin runs fixtures in.

    The task of a fixture that waits at its ``yield`` for the end of the test is left out; the task
    of a fixture that waits in its own code is not.
    """
    tasks = _program_tasks(error.tasks)
    return deadlock_error(tasks) if tasks else error


def _program_tasks(tasks: Iterable[Any]) -> list[Any]:
    found = []
    for task in tasks:
        frames = await_frames(task.get_coro())
        is_ours = bool(frames) and _is_in((_OURS,), frames[0])
        if not is_ours or not all(_is_in(_LIBRARIES, frame) for frame in frames):
            found.append(task)
    return found


def _is_in(packages: tuple[str, ...], frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(packages)

"""Stack of a task, for ``Task.get_stack`` and ``Task.print_stack``."""

from __future__ import annotations

import linecache
import sys
import traceback
from types import FrameType, TracebackType
from typing import Any, TextIO

from runtime.kernel.arguments.sizes import Size, limit_of
from runtime.kernel.diagnostics.describe import coroutine_frame


def task_stack(coro: object, error: BaseException | None, limit: Size | None) -> list[FrameType]:
    """Return the frames of a task: of its coroutine, or else of the exception it ended with."""
    most = None if limit is None else limit_of(limit, "limit")
    return _coroutine_stack(coro, most) or _exception_stack(error, most)


def _coroutine_stack(coro: object, limit: int | None) -> list[FrameType]:
    """Return the newest ``limit`` frames of an unfinished coroutine, oldest first."""
    frames: list[FrameType] = []
    frame = coroutine_frame(coro)
    while frame is not None and (limit is None or len(frames) < limit):
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return frames


def _exception_stack(error: BaseException | None, limit: int | None) -> list[FrameType]:
    """Return the oldest ``limit`` frames of an exception's traceback, oldest first."""
    frames: list[FrameType] = []
    entry: TracebackType | None = error.__traceback__ if error is not None else None
    while entry is not None and (limit is None or len(frames) < limit):
        frames.append(entry.tb_frame)
        entry = entry.tb_next
    return frames


def print_task_stack(
    task: Any, error: BaseException | None, limit: Size | None, file: TextIO | None
) -> None:
    """Print the stack of ``task`` in the form of a traceback, to ``file`` or to stderr."""
    out = file if file is not None else sys.stderr
    summary: list[tuple[str, int, str, str]] = []
    for frame in task.get_stack(limit=limit):
        code = frame.f_code
        linecache.checkcache(code.co_filename)
        line = linecache.getline(code.co_filename, frame.f_lineno, frame.f_globals)
        summary.append((code.co_filename, frame.f_lineno, code.co_name, line))
    if error is not None:
        print(f"Traceback for {task!r} (most recent call last):", file=out)
    elif summary:
        print(f"Stack for {task!r} (most recent call last):", file=out)
    else:
        print(f"No stack for {task!r}", file=out)
    traceback.print_list(traceback.StackSummary.from_list(summary), file=out)
    if error is not None:
        for text in traceback.format_exception_only(type(error), error):
            print(text, file=out, end="")

"""Call graph of a task: its stack, and the tasks that wait for it, with their stacks.

The standard library has these functions from Python 3.14; they work for our tasks as well. The
functions here give the same results on every Python, and also end if tasks wait for one another in
a cycle.

Source: "Call graph introspection" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final, TextIO

from runtime.kernel.compat.registry import current_task
from runtime.kernel.diagnostics.awaited_by import waiters_of
from runtime.kernel.diagnostics.describe import format_repr, short_repr, unwrap_awaitable

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_KINDS = (
    (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE, "async "),
    (inspect.CO_ASYNC_GENERATOR, "async generator "),
    (inspect.CO_GENERATOR, "generator "),
)


_MOST_SHOWN_TWICE: Final = 200
"""Number of futures in a text from which on the waiters of a future are shown only once.

The number of paths that lead to a future may be exponential.
"""


@dataclass(frozen=True, slots=True)
class FrameCallGraphEntry:
    """A frame in the stack of a task."""

    frame: FrameType


@dataclass(frozen=True, slots=True, repr=False)
class FutureCallGraph:
    """A future or a task, its stack (innermost frame first), and the graphs of its waiters."""

    future: asyncio.Future[Any]
    call_stack: tuple[FrameCallGraphEntry, ...]
    awaited_by: tuple[FutureCallGraph, ...]

    def __repr__(self) -> str:
        return format_repr(type(self).__name__, self._describe, self._describe_briefly)

    def _describe(self) -> list[str]:
        return [f"of {self.future!r}", f"awaited_by={short_repr(self.awaited_by)}"]

    def _describe_briefly(self) -> list[str]:
        return [f"of {self.future!r}"]


def capture_call_graph(
    future: Any = None, /, *, depth: int = 1, limit: int | None = None
) -> FutureCallGraph | None:
    """Return the call graph of a future or a task, by default of the running task.

    ``depth`` is the number of frames to skip at the top of the running task's stack. A positive
    ``limit`` keeps that number of the outermost frames of each stack, a negative one that number of
    the innermost frames, and 0 none. Returns None if no future is given and no task is running.
    Raises RuntimeError if no future is given and no loop is running, and TypeError if ``future`` is
    not a future.
    """
    loop = asyncio._get_running_loop()
    running: Any = current_task(loop) if loop is not None else None
    if future is None:
        if loop is None:
            raise RuntimeError(
                "capture_call_graph() was called without a future outside of a running event loop"
            )
        if running is None:
            return None
        future = running
    if not asyncio.isfuture(future):
        raise TypeError(f"capture_call_graph() expected a future or a task, got {future!r}")
    if future is not running:
        return _graph_of(future, _suspended_stack(future, limit), limit)
    return _graph_of(future, _running_stack(depth + 1) if limit != 0 else [], limit)


def format_call_graph(future: Any = None, /, *, depth: int = 1, limit: int | None = None) -> str:
    """Return the call graph as text, a line for each frame.

    The arguments are those of ``capture_call_graph``.
    """
    graph = capture_call_graph(future, depth=depth + 1, limit=limit)
    return "" if graph is None else "\n".join(_lines(graph))


def print_call_graph(
    future: Any = None,
    /,
    *,
    file: TextIO | None = None,
    depth: int = 1,
    limit: int | None = None,
) -> None:
    """Print the call graph to ``file``, by default stdout.

    The other arguments are those of ``capture_call_graph``.
    """
    print(format_call_graph(future, depth=depth + 1, limit=limit), file=file)


class _Unfinished:
    """A future whose graph is not complete, because its waiters' graphs are made first."""

    __slots__ = ("awaited_by", "future", "stack", "waiters")

    def __init__(self, future: Any, stack: list[FrameType]) -> None:
        self.future = future
        self.stack = stack
        self.waiters = iter(waiters_of(future))
        self.awaited_by: list[FutureCallGraph] = []


def _graph_of(future: Any, stack: list[FrameType], limit: int | None) -> FutureCallGraph:
    """Return the graph of a future whose stack is ``stack``.

    A future that several paths lead to has one graph, which they share: the number of paths may be
    exponential.
    """
    path = [_Unfinished(future, stack)]
    on_path = {id(future)}
    graphs: dict[int, FutureCallGraph] = {}
    while True:
        last = path[-1]
        waiter = next(last.waiters, None)
        if waiter is None:
            path.pop()
            on_path.discard(id(last.future))
            frames = _shortened(last.stack, limit)
            graph = FutureCallGraph(last.future, frames, tuple(last.awaited_by))
            if not path:
                return graph
            graphs[id(last.future)] = graph
            path[-1].awaited_by.append(graph)
        elif id(waiter) in graphs:
            last.awaited_by.append(graphs[id(waiter)])
        elif id(waiter) not in on_path:
            path.append(_Unfinished(waiter, _suspended_stack(waiter, limit)))
            on_path.add(id(waiter))


def _suspended_stack(future: Any, limit: int | None) -> list[FrameType]:
    """Return the frames of a suspended task, innermost first; an empty list for a plain future."""
    coro = future.get_coro() if limit != 0 and hasattr(future, "get_coro") else None
    frames: list[FrameType] = []
    while coro is not None:
        coro = unwrap_awaitable(coro)
        for frame_name, next_name in (("cr_frame", "cr_await"), ("ag_frame", "ag_await")):
            if hasattr(coro, next_name):
                frame = getattr(coro, frame_name, None)
                if frame is not None:
                    frames.append(frame)
                coro = getattr(coro, next_name)
                break
        else:
            break
    frames.reverse()
    return frames


def _running_stack(depth: int) -> list[FrameType]:
    """Return the frames of the caller that belong to the running task, innermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        frames.append(frame)
        is_async = frame.f_code.co_flags & _ASYNC
        frame = frame.f_back
        if is_async and (frame is None or not _is_suspendable(frame.f_code)):
            break  # This frame is that of the task's own coroutine.
    return frames


def _is_suspendable(code: CodeType) -> bool:
    return any(code.co_flags & flags for flags, _ in _KINDS)


def _shortened(frames: list[FrameType], limit: int | None) -> tuple[FrameCallGraphEntry, ...]:
    if limit is not None:
        frames = frames[-limit:] if limit > 0 else frames[:-limit] if limit < 0 else []
    return tuple(map(FrameCallGraphEntry, frames))


def _lines(graph: FutureCallGraph) -> list[str]:
    lines: list[str] = []
    pending = [(graph, "")]
    shown_before: set[int] = set()
    count = 0
    while pending:
        each, indent = pending.pop()
        lines += _lines_of(each, indent)
        count += 1
        if each.awaited_by and count > _MOST_SHOWN_TWICE and id(each) in shown_before:
            lines.append(f"{indent}    (shown above)")
            continue
        shown_before.add(id(each))
        pending += [(waiter, indent + "    ") for waiter in reversed(each.awaited_by)]
    return lines


def _lines_of(graph: FutureCallGraph, indent: str) -> list[str]:
    """Return the lines of one future, without its waiters."""
    future: Any = graph.future
    name = f"name={future.get_name()!r}, " if hasattr(future, "get_name") else ""
    kind = "Task" if name else "Future"
    lines = [f"{indent}* {kind}({name}id={id(future):#x})"]
    if graph.call_stack:
        lines.append(f"{indent}  + Call stack:")
    for entry in graph.call_stack:
        frame = entry.frame
        code = frame.f_code
        tag = next((word for flags, word in _KINDS if code.co_flags & flags), "")
        lines.append(
            f"{indent}  |   File {code.co_filename!r}, line {frame.f_lineno}, "
            f"in {tag}{code.co_qualname}()"
        )
    if graph.awaited_by:
        lines.append(f"{indent}  + Awaited by:")
    return lines

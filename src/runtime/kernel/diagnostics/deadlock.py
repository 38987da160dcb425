"""Deadlock report: the waiting tasks, when nothing is left that could wake any of them."""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType
from typing import Any, NamedTuple

from runtime.kernel.diagnostics.describe import await_frames, describe_coroutine, safe_repr

_LONGEST = 1000
"""Maximum number of characters of the description of an awaited object."""

_LIBRARIES = ("runtime.", "asyncio.")
_SUBJECTS = ("self", "resume", "countdown")
"""Local variables of a library's coroutine that hold the awaited object.

They are the object of a method, the ``Resume`` object of ``suspend()``, and the futures of
``wait()``.
"""

_SITUATION = (
    "Nothing is ready, no timer, descriptor or signal is watched, no other thread is alive."
)
_ADVICE = (
    "If the loop can be woken from outside Python, for example by a thread of a C library, "
    "turn this report off: loop.set_deadlock_reports(False)."
)


class DeadlockError(RuntimeError):
    """No task can ever run again. ``tasks`` are the waiting tasks, which the message describes."""

    def __init__(self, message: str, tasks: Iterable[Any]) -> None:
        super().__init__(message)
        self.tasks = tuple(tasks)


def deadlock_error(tasks: Iterable[Any], situation: str | None = None) -> DeadlockError:
    """Return the exception that lists ``tasks``, with the place and the object of each wait.

    ``situation`` says why nothing can wake them; by default it is that of a loop with real I/O.
    """
    waiting = sorted(tasks, key=lambda task: str(task.get_name()))
    lines = ["Deadlock: no task can ever run again.", situation or _SITUATION]
    for task in waiting:
        lines += [f"  {line}" for line in describe_wait(task)]
    if situation is None:
        lines.append(_ADVICE)
    return DeadlockError("\n".join(lines), waiting)


class Wait(NamedTuple):
    """The place at which a task is suspended, and the object that it waits for."""

    running: str
    """The coroutine, with the line at which it is suspended."""

    frames: tuple[FrameType, ...]
    """The frames of the program, outermost first, without the library functions that it called."""

    subject: object
    """The object that the task waits for, such as a lock; None if the task is not waiting."""

    function: str
    """The name of the library function that waits; empty if the program awaits the object itself.
    """

    def describe_subject(self) -> str:
        """Return the rest of a sentence that begins with "waits for"."""
        if self.subject is None:
            return "its turn"
        shown = safe_repr(self.subject, _LONGEST)
        return f"{shown}, in {self.function}()" if self.function else shown


def wait_of(task: Any) -> Wait:
    """Return the place and the object of the wait of ``task``, which may be asyncio's."""
    frames = await_frames(task.get_coro())
    called: list[FrameType] = []
    while frames and _is_library_frame(frames[-1]):
        called.append(frames.pop())
    running = describe_coroutine(task.get_coro())
    if frames and _is_library_frame(frames[0]):
        # The task's own coroutine is a library's, and runs a part of the program, such as a
        # fixture: describe the task by that part.
        while _is_library_frame(frames[0]):
            frames.pop(0)
        running = f"{frames[0].f_code.co_name}() running at {_place_of(frames[0])}"
    awaited = (
        task._waits_for() if hasattr(task, "_waits_for") else getattr(task, "_fut_waiter", None)
    )
    if awaited is None or not called:
        return Wait(running, tuple(frames), awaited, "")
    subjects = [_subject_of(frame) for frame in called]
    subject = next((each for each in subjects if each is not None), None)
    # The innermost library function that has the subject: wait_for() calls others in turn.
    function = [
        frame.f_code.co_qualname
        for frame, each in zip(called, subjects, strict=True)
        if each is subject
    ][-1]
    return Wait(running, tuple(frames), awaited if subject is None else subject, function)


def describe_wait(task: Any) -> list[str]:
    """Return lines that describe ``task``, the places where it is suspended, and its wait.

    The places are lines of the program, not of the library functions that it called.
    """
    wait = wait_of(task)
    lines = [f"{task.get_name()}: {wait.running}"]
    lines += [f"  in {frame.f_code.co_qualname}() at {_place_of(frame)}" for frame in wait.frames]
    reason = task._why_cancelled() if hasattr(task, "_why_cancelled") else None
    if reason is not None:
        lines.append(f"  is being cancelled: {reason}")
    return [*lines, f"  waits for {wait.describe_subject()}"]


def _is_library_frame(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_LIBRARIES)


def _place_of(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _subject_of(frame: FrameType) -> object:
    """Return the object that a library's coroutine waits for, if a variable holds it, or None."""
    for name in _SUBJECTS:
        if name in frame.f_locals:
            subject: object = frame.f_locals[name]
            return subject
    return None

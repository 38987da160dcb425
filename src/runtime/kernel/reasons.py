"""Reasons of cancellations: who cancelled a task, why, and from which line.

A request to cancel passes on from a task to the future that it waits for, and so along the whole
chain of awaits, with a message. The runtime's own requests have a ``CancelReason`` as message. The
CancelledError that ends the chain then has no arguments, as asyncio's, and the reason is its
attribute ``cancel_reason``. A request without a message has no reason, and costs nothing more.

This module is interpreted: its code runs only when something is cancelled.
"""

from __future__ import annotations

import itertools
import sys
from types import CodeType, FrameType
from typing import Any, Final, Literal, NoReturn

from runtime.kernel.diagnostics.describe import is_library_frame, safe_repr
from runtime.kernel.errors import CancelledError

Kind = Literal["call", "deadline", "sibling", "end", "interrupt"]

_BEGINNINGS: Final[dict[str, str]] = {
    "call": "cancelled",
    "deadline": "the deadline has passed",
    "sibling": "another task of the group failed",
    "end": "the run has ended",
    "interrupt": "Ctrl-C was pressed",
}
_LONGEST_SOURCE: Final = 200
_CALLERS: Final = ("runtime.kernel.core", "runtime.kernel.handles", "runtime.runner")
"""Modules whose functions run the loop and its callbacks."""


class CancelReason:
    """Why a task was cancelled: the attribute ``cancel_reason`` of a CancelledError.

    ``kind`` is ``"call"`` (of ``cancel()``), ``"deadline"``, ``"sibling"`` (another task of the
    group has failed), ``"end"`` (of the run), or ``"interrupt"`` (Ctrl-C). ``text`` is the reason
    that the program gave, or an empty string. ``place`` is the line of the call, or the line that
    set the deadline, as ``file:line in function``; for a sibling it is the line that raised
    ``source``, the exception. ``task`` is the name of the task that made the call. Entries that are
    not known are None. ``str()`` gives a sentence with all of them.
    """

    # Not a dataclass, whose module would take longer to import than this whole package.
    __slots__ = ("kind", "place", "source", "task", "text")

    kind: Kind
    text: str
    place: str | None
    source: BaseException | None
    task: str | None

    def __init__(
        self,
        kind: Kind,
        text: str = "",
        place: str | None = None,
        source: BaseException | None = None,
        task: str | None = None,
    ) -> None:
        if kind not in _BEGINNINGS:
            raise ValueError(f"kind must be one of {', '.join(_BEGINNINGS)}, got {kind!r}")
        for name, value in zip(
            ("kind", "text", "place", "source", "task"),
            (kind, text, place, source, task),
            strict=True,
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a CancelReason cannot be changed: {name!r} is read-only")

    def __repr__(self) -> str:
        return f"<CancelReason {self}>"

    def __str__(self) -> str:
        words = _BEGINNINGS[self.kind]
        if self.task is not None:
            words += f" by {self.task}"
        if self.place is not None:
            words += f", set at {self.place}" if self.kind == "deadline" else f" at {self.place}"
        if self.source is not None:
            words += f" with {safe_repr(self.source, _LONGEST_SOURCE)}"
        return f"{words}: {self.text}" if self.text else words


def cancel_reason(error: BaseException) -> CancelReason | None:
    """Return why a task was cancelled, from the CancelledError that it raised; None if not known.

    The CancelledError of the runtime has the reason as an attribute of the same name; this function
    is for type checkers, which do not know the attribute, and also for errors without it. Requests
    without a message or a reason, such as ``task.cancel()``, are not known.

    >>> import runtime
    >>> async def main():
    ...     with runtime.CancelScope() as scope:
    ...         scope.cancel("enough")
    ...         try:
    ...             await runtime.sleep(1)
    ...         except runtime.CancelledError as error:
    ...             return runtime.cancel_reason(error).text
    >>> runtime.run(main())
    'enough'
    """
    found = getattr(error, "cancel_reason", None)
    if isinstance(found, CancelReason):
        return found
    if isinstance(error, CancelledError) and error.args and isinstance(error.args[0], str):
        return CancelReason("call", error.args[0])
    return None


def given_reason(
    kind: Kind, reason: Any, caller: str, task: Any, place: str | None
) -> CancelReason:
    """Return the reason that a program gave to ``caller``: a text, a ``CancelReason``, or None.

    ``task`` is the running task, or None. Raises TypeError for any other reason.
    """
    if isinstance(reason, CancelReason):
        return reason
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"{caller} expected a text or a CancelReason as reason, got {reason!r}")
    name = None if task is None else str(task.get_name())
    return CancelReason(kind, reason or "", place, None, name)


def failure_reason(source: BaseException) -> CancelReason:
    """Return the reason for cancelling the siblings of a task that has failed with ``source``."""
    entry = source.__traceback__
    place = None
    while entry is not None:
        if not is_library_frame(entry.tb_frame):
            place = _place(entry.tb_frame.f_code, entry.tb_lineno)
        entry = entry.tb_next
    return CancelReason("sibling", "", place, source)


def reason_to_cancel_others(error: BaseException) -> CancelReason | None:
    """Return the reason for cancelling the tasks that a block which ended with ``error`` owns."""
    if isinstance(error, CancelledError):
        return cancel_reason(error)
    return failure_reason(error)


def make_cancelled_error(message: Any, debug: bool) -> CancelledError:
    """Return a CancelledError for a request to cancel with a message or a reason.

    In debug mode the reason is also a note of the traceback.
    """
    if isinstance(message, CancelReason):
        return _with_reason(CancelledError(), message, debug)
    error = CancelledError(message)
    if isinstance(message, str):
        _with_reason(error, CancelReason("call", message), False)
    return error


def adopt_foreign_error(error: BaseException, debug: bool) -> None:
    """Move the reason of a CancelledError of a foreign future from its arguments to its attribute.

    Such a future takes any object as the message of a request, and makes it the argument.
    """
    if isinstance(error, CancelledError) and error.args:
        reason = error.args[0]
        if isinstance(reason, CancelReason):
            error.args = ()
            _with_reason(error, reason, debug)


def _with_reason(error: CancelledError, reason: CancelReason, debug: bool) -> CancelledError:
    error.__dict__["cancel_reason"] = reason
    if debug:
        error.add_note(f"Reason: {reason}")
    return error


def place_of_caller() -> str | None:
    """Return the line of the program that called the runtime: ``file:line in function``.

    Returns None if the loop made the call, as that of a callback.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library_frame(frame):
        if frame.f_globals.get("__name__") in _CALLERS:
            return None
        frame = frame.f_back
    return None if frame is None else _place(frame.f_code, frame.f_lineno)


def place_of_instruction(code: CodeType, offset: int) -> str:
    """Return the line of an instruction of ``code``, given by its ``f_lasti``."""
    positions = next(itertools.islice(code.co_positions(), max(offset, 0) // 2, None), (None,))
    return _place(code, positions[0])


def _place(code: CodeType, line: int | None) -> str:
    return f"{code.co_filename}:{line or code.co_firstlineno} in {code.co_qualname}()"

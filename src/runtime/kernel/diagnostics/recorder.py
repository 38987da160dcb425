"""Flight recorder: the last events of a loop, in a ring of fixed size.

The ring holds numbers only, so that an event costs no more than reading the clock. The names of the
tasks that have ended are kept beside it; those of the others are read from the tasks.
"""

from __future__ import annotations

import functools
import gc
import operator
from collections.abc import Callable
from time import monotonic_ns
from types import CodeType
from typing import Any, Protocol

from runtime.kernel.diagnostics.describe import describe_callback_briefly, describe_cancellation
from runtime.kernel.diagnostics.record_kinds import CALL, COLLECTED, COLLECTION, ENDED, KINDS, STEP
from runtime.kernel.diagnostics.snapshots import Snapshot
from runtime.kernel.errors import CancelledError
from runtime.kernel.native import accelerator
from runtime.kernel.native.ring import MOST_RECORDS, RECORD


class Recorded(Protocol):
    """The attributes of a loop that a recording uses."""

    _ready: Any
    _ready_append: Callable[[Any], object]
    _recorder: Any
    _tasks: set[Any]

    def _choose_turns(self) -> None:
        """Note whether turns are to be run by one of the slower functions."""


class RecordedEvent(Snapshot):
    """An event of a recording.

    ``time`` is in seconds of ``time.monotonic``. ``kind`` is one of these:

    ``"turn"``, ``"poll"``
        The loop begins to run ``number`` entries, or to look or wait for events.
    ``"step"``, ``"call"``
        A task, or a callback, begins to run; it does so until the next event of these four kinds.
    ``"wake"``
        An entry was put into the ready queue, by the code that ran at this moment.
    ``"ended"``
        A task has ended; ``text`` says how.
    ``"collection"``, ``"collected"``
        The garbage collector begins and ends a collection of the generation ``number``.
    ``"connections"``
        The number of open connections is ``number`` from here on.

    ``subject`` identifies the task or entry; it is the same in the ``wake`` and the step or call
    that follows it. ``name`` is the name of a task, and ``text`` its coroutine, or the callback.
    """

    __slots__ = ("time", "kind", "subject", "number", "name", "text")  # noqa: RUF023 - the order

    time: float
    kind: str
    subject: int
    number: int
    name: str
    text: str


class Recording:
    """The last events of a loop, as ``Loop.record`` keeps them."""

    def __init__(self, loop: Recorded, seconds: float, events: int) -> None:
        self._loop: Recorded | None = loop
        self._seconds = seconds
        self._events = events
        append = loop._ready_append
        self._ring = accelerator.Ring(events, append)
        self.note: Callable[[int, object, int], object] = self._ring.note
        self._append = append
        self._wake = self._ring.wake
        # By the number of the task: its name, its coroutine, and how it ended.
        self._ended: dict[int, tuple[str, str, str]] = {}
        # By the address of the code: the code, which this keeps alive, and its description.
        self._callbacks: dict[int, tuple[object, str]] = {}
        self._on_dump: Callable[[str], object] | None = None
        loop._ready_append = self._wake
        gc.callbacks.append(self._note_collection)

    def stop(self) -> None:
        """Record no more events. The recorded ones are kept. Stopping twice is fine."""
        loop = self._loop
        if loop is None:
            return
        self._loop = None
        gc.callbacks.remove(self._note_collection)
        self._note_alive(loop)
        if loop._ready_append == self._wake:
            loop._ready_append = self._append
        loop._recorder = None
        loop._choose_turns()

    def is_recording(self) -> bool:
        """Return whether events are recorded."""
        return self._loop is not None

    def on_dump(self, function: Callable[[str], object] | None) -> None:
        """Set the function that is called with a reason when the recording is worth keeping."""
        self._on_dump = function

    def dump(self, reason: str) -> None:
        """Call the function of ``on_dump``, if there is one."""
        if self._on_dump is not None:
            self._on_dump(reason)

    # -- Called by the loop ------------------------------------------------------------------------

    def note_end(self, task: Any) -> None:
        """Note that a task has ended."""
        serial: int = task._number
        self._ended[serial] = (*_names_of(task), _outcome_of(task))
        self.note(ENDED, task, serial)
        if len(self._ended) > 2 * self._events:
            # Of the tasks that have ended, the oldest ones are not in the ring any more.
            for old in list(self._ended)[: self._events]:
                del self._ended[old]

    def note_call(self, runnable: Any) -> None:
        """Note that an entry of the ready queue that is not a task is about to run."""
        callback = getattr(runnable, "_callback", None)
        inner: Any = callback
        while isinstance(inner, functools.partial):
            inner = inner.func
        inner = getattr(inner, "__func__", inner)
        code: object = getattr(inner, "__code__", None)
        if not isinstance(code, CodeType):
            code = type(runnable) if callback is None else type(inner)
        number = id(code)
        if number not in self._callbacks and len(self._callbacks) < self._events:
            shown = (
                type(runnable).__name__ if callback is None else describe_callback_briefly(callback)
            )
            self._callbacks[number] = (code, shown)
        self.note(CALL, runnable, number)

    def _note_collection(self, phase: str, info: dict[str, Any]) -> None:
        self.note(COLLECTION if phase == "start" else COLLECTED, None, info["generation"])

    # -- Reading -----------------------------------------------------------------------------------

    def _note_alive(self, loop: Recorded) -> None:
        for task in list(loop._tasks):
            serial = getattr(task, "_number", None)
            if serial is not None:
                self._ended[serial] = (*_names_of(task), "")

    def events(self) -> list[RecordedEvent]:
        """Return the events of the last seconds, the oldest first."""
        if self._loop is not None:
            self._note_alive(self._loop)
        found: list[RecordedEvent] = []
        earliest = monotonic_ns() - int(self._seconds * 1e9) if self._loop is not None else 0
        for when, kind, address, number in RECORD.iter_unpack(self._ring.dump()):
            if when < earliest:
                continue
            name = text = ""
            if kind in (STEP, ENDED):
                name, text, outcome = self._ended.get(number, (f"task {number}", "", ""))
                text = outcome if kind == ENDED else text
            elif kind == CALL:
                text = self._callbacks.get(number, (None, "callback"))[1]
            found.append(RecordedEvent(when / 1e9, KINDS[kind], address, number, name, text))
        return found


def events_of(events: Any) -> int:
    """Return ``events``, the argument of ``Loop.record``, as an int.

    Raises TypeError unless it is an integer, and ValueError if a ring cannot have as many records.
    """
    try:
        count = int(operator.index(events))
    except TypeError:
        raise TypeError(f"record() expected a whole number of events, got {events!r}") from None
    if not 1 <= count <= MOST_RECORDS:
        raise ValueError(f"record() expected 1 to {MOST_RECORDS} events, got {count}")
    return count


def _names_of(task: Any) -> tuple[str, str]:
    coro = task.get_coro()
    return str(task.get_name()), str(getattr(coro, "__qualname__", type(coro).__name__))


def _outcome_of(task: Any) -> str:
    if task.cancelled():
        # The exception of the coroutine, if it is not retrieved yet, has the message.
        error = task._result
        if isinstance(error, CancelledError):
            reason = describe_cancellation(error)
        else:
            reason = "" if task._cancel_message is None else str(task._cancel_message)
        # The text of a CancelReason may begin with this word.
        if reason.startswith("cancelled"):
            return reason
        return f"cancelled: {reason}" if reason else "cancelled"
    failure = task._failure()
    if failure is None:
        return "returned"
    return f"raised {type(failure.exception).__name__}"

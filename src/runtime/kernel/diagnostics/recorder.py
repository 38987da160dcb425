"""Flight recorder: the last events of a loop, in a ring of fixed size.

The ring holds numbers only, so that an event costs little more than reading the clock. A record of
a step has the address of the task. An address is used again, but only after the record of the
task's end, which has the number of the task: read from the newest record backwards, each step
belongs to the end that was met last, or to the task that is alive. The names of the tasks that have
ended are kept beside the ring, by number; those of the others are read from the tasks.
"""

from __future__ import annotations

import functools
import gc
import operator
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Protocol

from runtime.kernel.arguments.kinds import check_callable
from runtime.kernel.diagnostics.describe import (
    describe_callback_briefly,
    describe_cancellation,
    safe_str,
)
from runtime.kernel.diagnostics.record_kinds import (
    CALL,
    COLLECTED,
    COLLECTION,
    CONNECTIONS,
    ENDED,
    KINDS,
    STEP,
    TIMER,
    TURN,
)
from runtime.kernel.diagnostics.snapshots import Snapshot
from runtime.kernel.errors import CancelledError
from runtime.kernel.native import accelerator
from runtime.kernel.native.ring import MOST_RECORDS, RECORD


class Recorded(Protocol):
    """The attributes of a loop that a recording uses."""

    _connections_closed: int
    _connections_opened: int
    _ready: Any
    _ready_append: Callable[[Any], object]
    _recorder: Any
    _tasks: dict[Any, None]
    _timers: Any

    def _choose_turns(self) -> None:
        """Note whether turns are to be run by one of the slower functions."""


class RecordedEvent(Snapshot):
    """An event of a recording.

    ``time`` is in seconds of ``time.monotonic``. ``kind`` is one of these:

    ``"turn"``, ``"poll"``
        The loop begins to run the ready queue, of which it ran ``number`` entries; or to look or
        wait for events.
    ``"step"``, ``"call"``
        A task, or a callback, begins to run; it does so until the next event of these four kinds.
    ``"wake"``
        An entry was put into the ready queue, by the code that ran at this moment.
    ``"ended"``
        A task has ended; ``text`` says how.
    ``"timer"``, ``"timer cancelled"``
        A timer was due, and is in the ready queue from now on; or the code that ran at this moment
        has cancelled it. A sleep and a timeout are timers as well.
    ``"collection"``, ``"collected"``
        The garbage collector begins and ends a collection of the generation ``number``.
    ``"connections"``
        The number of open connections is ``number`` from here on.

    ``subject`` identifies the task or entry; it is the same in the ``wake`` and the step or call
    that follows it. ``name`` is the name of a task, and ``text`` its coroutine, or the callback of
    a call or of a timer that was due.
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

    def __init__(
        self, loop: Recorded, seconds: float, events: int, run_turns: Callable[[Any], object]
    ) -> None:
        self._loop: Recorded | None = loop
        self._seconds = seconds
        self._events = events
        append = loop._ready_append
        self.ring = accelerator.Ring(events, append)
        # Runs turns of the loop that are recorded, until the recording or the run ends.
        self.run_turns = run_turns
        self.note: Callable[[int, object, int], object] = self.ring.note
        self._append = append
        self._wake = self.ring.wake
        # By the number of the task: its name, its coroutine, and how it ended.
        self._ended: dict[int, tuple[str, str, str]] = {}
        # By the address of the task: the name and the coroutine of those that are alive at the end.
        self._alive: dict[int, tuple[str, str, str]] = {}
        # By the number from ``Ring.learn``: the code, which this keeps alive, and its description.
        self._callbacks: dict[int, tuple[object, str]] = {}
        # The number of open connections in the last record of it.
        self._connections = -1
        self._on_dump: Callable[[str], object] | None = None
        loop._ready_append = self._wake
        loop._timers.on_due = self.ring.fire
        loop._timers.on_cancelled = self.ring.cancel
        gc.callbacks.append(self._note_collection)

    def stop(self) -> None:
        """Record no more events. The recorded ones are kept. Stopping twice is fine."""
        loop = self._loop
        if loop is None:
            return
        self._loop = None
        gc.callbacks.remove(self._note_collection)
        self._alive = _alive_in(loop)
        if loop._ready_append == self._wake:
            loop._ready_append = self._append
        loop._timers.on_due = loop._timers.on_cancelled = None
        loop._recorder = None
        loop._choose_turns()

    def is_recording(self) -> bool:
        """Return whether events are recorded."""
        return self._loop is not None

    def on_dump(self, function: Callable[[str], object] | None) -> None:
        """Set the function that is called with a reason when the recording is worth keeping.

        Raises TypeError if it is neither callable nor None.
        """
        check_callable(function, "on_dump")
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

    def note_call(self, runnable: Any, called: Any) -> None:
        """Note that ``runnable``, which is not a task, is about to call ``called``.

        The ring notes calls itself whose code it has learned, and whose description is thus known.
        """
        inner: Any = called
        while isinstance(inner, functools.partial):
            inner = inner.func
        number: int = self.ring.learn(inner) or id(type(inner))
        if number not in self._callbacks and len(self._callbacks) < self._events:
            is_type = called is type(runnable)
            shown = called.__name__ if is_type else describe_callback_briefly(called)
            function = getattr(inner, "__func__", inner)
            code: object = getattr(function, "__code__", None)
            if code is None:
                code = inner if isinstance(inner, type) else type(inner)
            self._callbacks[number] = (code, shown)
        self.note(CALL, runnable, number)

    def begin_turn(self, connections: int) -> None:
        """Note that the loop, with some open connections, begins to run its ready queue.

        The fastest turns do that themselves.
        """
        if connections != self._connections:
            self._connections = connections
            self.note(CONNECTIONS, None, connections)
        self.ring.turn(None)

    def _note_collection(self, phase: str, info: dict[str, Any]) -> None:
        self.note(COLLECTION if phase == "start" else COLLECTED, None, info["generation"])

    # -- Reading -----------------------------------------------------------------------------------

    def events(self) -> list[RecordedEvent]:
        """Return the events of the last seconds, the oldest first."""
        loop = self._loop
        # If another thread asks, a task may begin or end meanwhile.
        tasks = self._alive if loop is None else _alive_in(loop)
        dump = self.ring.dump()
        if loop is not None:
            tasks |= _alive_in(loop)
        earliest = monotonic_ns() - int(self._seconds * 1e9) if loop is not None else 0
        return self._decoded(dump, earliest, tasks.copy())

    def _decoded(
        self, dump: bytes, earliest: int, tasks: dict[int, tuple[str, str, str]]
    ) -> list[RecordedEvent]:
        """Return the events in some records; ``tasks`` are alive, by their addresses."""
        found: list[RecordedEvent] = []
        # By the address of an entry: the callback that is called next.
        callbacks: dict[int, str] = {}
        # The steps and calls of the turn, of which a record has no number.
        entries = 0
        for when, kind, address, number in reversed(list(RECORD.iter_unpack(dump))):
            if when < earliest:
                break
            name = text = ""
            if kind == ENDED:
                tasks[address] = self._ended.get(number, (f"task {number}", "", ""))
                name, _, text = tasks[address]
            elif kind == STEP:
                name, text, _ = tasks.get(address, (f"task at {address:#x}", "", ""))
            elif kind == CALL:
                text = callbacks[address] = self._callbacks.get(number, (None, "callback"))[1]
            elif kind == TIMER:
                text = callbacks.pop(address, "")
            shown = 0 if kind in (STEP, CALL, ENDED) else number
            if kind in (STEP, CALL):
                entries += 1
            elif kind == TURN:
                shown, entries = entries, 0
            found.append(RecordedEvent(when / 1e9, KINDS[kind], address, shown, name, text))
        found.reverse()
        return found


def _alive_in(loop: Recorded) -> dict[int, tuple[str, str, str]]:
    return {id(task): (*_names_of(task), "") for task in list(loop._tasks)}


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
            reason = "" if task._cancel_message is None else safe_str(task._cancel_message)
        # The text of a CancelReason may begin with this word.
        if reason.startswith("cancelled"):
            return reason
        return f"cancelled: {reason}" if reason else "cancelled"
    failure = task._failure()
    if failure is None:
        return "returned"
    return f"raised {type(failure.exception).__name__}"

"""Joined writes: what a connection or pipe writes in one turn is sent in one system call.

A server often writes twice for one response: the head, and then the body. Sent one by one, they
cost two system calls, two segments, and with TLS two records. So a writer that has written more
than once in a turn *joins* its writes from then on: they are collected while a turn runs, and
sent together::

    DIRECT   every write is sent at once
      |  ^
      |  |  a turn in which it wrote only once
      v  |
    JOINING  writes are collected

The turn in which a writer becomes joining ends as it began: all its writes are sent at once.
After ``Loop.join_all_writes()``, a new writer begins as JOINING, and no writer becomes DIRECT.

A loop that serves several connections runs the steps of several responses in one turn. Their data
is sent when the turn ends, one connection after the other: sent after each step, it would wake the
peers one by one, and let the kernel's code and the program's displace one another from the caches.
"Step" stands for the step of a task, a callback, or the delivery of one event of a descriptor: the
loop runs it without a break. Collected data waits for the steps after its own

- no longer than ``HOLD_MOST``, which is looked at after each step; and
- not at all after a step has kept it waiting for ``LONG_STEP``, or would have if the loop were not
  wary already: the loop then runs steps that compute, and the data is sent when the step ends in
  which it was written. The loop is wary for ``WARY_TIMES`` as long as that step took, and for
  ``WARY_MOST`` at most. So a program with many long steps rarely holds data, and one that was only
  interrupted by another process soon does again.

So the peer gets the data later only if a step blocks the loop. A simulation holds nothing for other
steps: a run must not depend on the real clock.

Collected data is sent before that if

- there is more of it than the limit: the high-water mark, but at most ``JOIN_MOST``. So writing is
  paused for the same write as it would be without joining;
- the program asks for it, or for something that depends on it: ``drain()``,
  ``get_write_buffer_size()``, ``write_eof()``, ``close()``, ``abort()``, ``sendfile()``,
  ``start_tls()``, the socket itself or its descriptor, a signal to the process behind a pipe;
- the process forks: the child must not send it as well;
- the connection is being closed, or, with TLS, the next record is about to be read.

Writes are not joined where each of them is a message of its own, as for a pipe in packet mode, and
to other pipes up to the size that arrives undivided.

Invariants: while a writer has collected data, its write buffer is empty; and while the loop waits,
no writer has collected data.

The loop reads ``PendingWriters.any`` after each step. It is a plain attribute, so that joining
costs next to nothing where it is not used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.native.mypyc import trait

JOIN_MOST: Final = 64 * 1024
"""Bytes up to which data is joined: from there on a copy costs more than a system call."""

HOLD_MOST: Final = 0.0005
"""Seconds after which collected data is sent at the end of a step, before the turn ends."""

LONG_STEP: Final = 0.002
"""Seconds of waiting for one step after which data is sent at the end of each step, for a while."""

WARY_TIMES: Final = 100
"""The length of that while, as a multiple of the step's length."""

WARY_MOST: Final = 10.0
"""Seconds that it lasts at most: the process may have been stopped for hours."""

_monotonic: Final[Callable[[], float]] = time.monotonic


@trait
class Writer:
    """An object that joins its writes: a connection, its TLS layer, or the write end of a pipe.

    It calls ``joins`` for each write that it could send at once.
    """

    __slots__ = ()

    # The turn of the last write that was made while DIRECT, and the collected data while JOINING.
    # They are slots of the classes that inherit from this one, which have another base with slots.
    wrote_in: int
    joined: JoinedWrites | None

    def send_joined(self) -> None:
        """Send the data that was collected in the current turn."""
        raise NotImplementedError

    def most_joined(self) -> int:
        """Return the number of bytes that may be collected now: 0 if each write is to be sent."""
        raise NotImplementedError

    def joins(self, data: Any, size: int, turn: int, writers: PendingWriters) -> bool:
        """Note a write of the turn ``turn``; return whether its data was collected.

        If not, the caller is to send ``data``, which has ``size`` bytes. The data that was
        collected before has been sent then, which may have failed, and closed the writer.
        """
        joined = self.joined
        if joined is None:
            if self.wrote_in != turn:
                self.wrote_in = turn  # type: ignore[misc]
            elif self.most_joined() > 0:
                self.joined = JoinedWrites()  # type: ignore[misc]
            return False
        at_once = self.wrote_in == turn or not writers.open
        if at_once or joined.size + size > self.most_joined():
            self.send_joined()
            return False
        joined.add(data if isinstance(data, bytes) else bytes(memoryview(data)), self, writers)
        return True


class PendingWriters:
    """The writers of one loop that have written in the current turn, and that join their writes."""

    __slots__ = ("_since", "_wary_until", "_writers", "all", "any", "open")

    def __init__(self) -> None:
        # A list: compiled code looks the methods of a deque up by name.
        self._writers: list[Writer] = []
        # When the step ended in which the first of them has written; 0 if that was not noted yet.
        # While nothing is held, the end of the last step of the turn, once one of them has written.
        self._since = 0.0
        # When data may be held again for other steps, after one of them was long.
        self._wary_until = 0.0
        # Whether new writers join from the first write on, and no writer, new or old, stops.
        self.all = False
        # Whether end_step() is to be called: there is a writer, or the next step is to be timed.
        self.any = False
        # Whether the loop is in a turn, at the end of which the data will be sent. False while the
        # loop waits, when only a signal handler can write, and while it does not run at all.
        self.open = False

    def add(self, writer: Writer) -> None:
        """Have ``writer`` send its data at the end of the current turn, or before."""
        self._writers.append(writer)
        self.any = True

    def new_joined_writes(self) -> JoinedWrites | None:
        """Return the value of ``joined`` that a new writer begins with."""
        return JoinedWrites() if self.all else None

    def hold_nothing(self) -> None:
        """Have data sent at the end of each step from now on, however little time has passed."""
        self._wary_until = math.inf

    def end_step(self) -> None:
        """Have the writers send their data if it must wait no longer: a step has ended."""
        now = _monotonic()
        waited = now - self._since if self._since else 0.0
        if waited >= LONG_STEP:
            until = now + min(WARY_TIMES * waited, WARY_MOST)
            if until > self._wary_until:
                self._wary_until = until
        if now < self._wary_until:
            self.send()
            # The rest of the turn: is one of its steps long, too?
            self._since = now
            self.any = True
        elif not self._since:
            self._since = now
        elif waited >= HOLD_MOST:
            self.send()

    def send(self) -> None:
        """Have every writer send its data, also those that are added meanwhile.

        A writer that has collected the data of one write only continues without joining, unless
        all of them join.
        """
        writers = self._writers
        sent = 0
        while sent < len(writers):
            # If this is interrupted, all are called again: those that have sent do nothing then.
            writer = writers[sent]
            writer.send_joined()
            joined = writer.joined
            if joined is not None and not joined.keeps_joining() and not self.all:
                writer.joined = None  # type: ignore[misc]
            if sent < len(writers) and writers[sent] is writer:
                sent += 1
            else:  # A callback has forked, which sends everything, and others were added since.
                sent = 0
        writers.clear()
        self._since = 0.0
        self.any = False

    def clear(self) -> None:
        """Forget the writers, in the child of a fork, where the rest of the turn joins nothing."""
        self._writers.clear()
        self._since = 0.0
        self.any = False
        self.open = False


class JoinedWrites:
    """The data that one writer has collected in the current turn."""

    __slots__ = ("_parts", "_writes", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._writes = 0
        # The number of collected bytes.
        self.size = 0

    def add(self, data: bytes, writer: Writer, writers: PendingWriters) -> None:
        """Collect the data of one more write of ``writer``."""
        if not self._writes:
            writers.add(writer)
        self._writes += 1
        # In this order: after an interrupt in between, no data is left that is not counted.
        self.size += len(data)
        self._parts.append(data)

    def take(self) -> bytes:
        """Remove and return the collected data."""
        parts = self._parts
        self._parts = []
        self.size = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def keeps_joining(self) -> bool:
        """Return whether the writer is to continue joining, when its data was sent."""
        keeps_joining = self._writes > 1
        self._writes = 0
        return keeps_joining

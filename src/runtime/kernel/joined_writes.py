"""Joined writes: what a connection or pipe writes in one step is sent in one system call.

A server often writes twice for one response: the head, and then the body. Sent one by one, they
cost two system calls, two segments, and with TLS two records. So a writer that has written more
than once in a turn *joins* its writes from then on: they are collected while the step runs, and
sent together when it ends::

    DIRECT   every write is sent at once
      |  ^
      |  |  a step in which it wrote only once
      v  |
    JOINING  writes are collected until the step ends

The turn in which a writer becomes joining ends as it began: all its writes are sent at once.

"Step" stands for the step of a task, a callback, or the delivery of one event of a descriptor: the
loop runs it without a break. The peer gets the data later only if code blocks the loop inside the
step.

Collected data is sent before the end of the step if

- there is more of it than the limit: the high-water mark, but at most ``JOIN_MOST``. So writing is
  paused for the same write as it would be without joining;
- the program asks for it, or for something that depends on it: ``drain()``,
  ``get_write_buffer_size()``, ``write_eof()``, ``close()``, ``abort()``, ``sendfile()``,
  ``start_tls()``, the socket itself or its descriptor, a signal to the process behind a pipe;
- the process forks: the child must not send it as well;
- the connection is being closed, or, with TLS, the next record is about to be read.

Writes are not joined where each of them is a message of its own, as for a pipe in packet mode, and
to other pipes up to the size that arrives undivided.

Invariant: while a writer has collected data, its write buffer is empty.

The loop reads ``PendingWriters.any`` after each step. It is a plain attribute, so that joining
costs next to nothing where it is not used.
"""

from __future__ import annotations

from typing import Final

from runtime.kernel.native.mypyc import trait

JOIN_MOST: Final = 64 * 1024
"""Bytes up to which data is joined: from there on a copy costs more than a system call."""


@trait
class Writer:
    """The interface of an object that joins its writes."""

    __slots__ = ()

    def end_step(self) -> None:
        """Send the collected data: the step in which it was written has ended."""
        raise NotImplementedError


class PendingWriters:
    """The writers of one loop that have written in the current step, and that join their writes."""

    __slots__ = ("_writers", "any", "open")

    def __init__(self) -> None:
        # A list: compiled code looks the methods of a deque up by name.
        self._writers: list[Writer] = []
        # Whether there is a writer.
        self.any = False
        # Whether the loop runs a step, after which the data will be sent. False while the loop
        # waits, when only a signal handler can write, and while it does not run at all.
        self.open = False

    def add(self, writer: Writer) -> None:
        """Have ``writer.end_step()`` called at the end of the current step."""
        self._writers.append(writer)
        self.any = True

    def end_step(self) -> None:
        """Have every writer send its data, also those that are added meanwhile."""
        writers = self._writers
        sent = 0
        while sent < len(writers):
            # If this is interrupted, all are called again: those that have sent do nothing then.
            writer = writers[sent]
            writer.end_step()
            if sent < len(writers) and writers[sent] is writer:
                sent += 1
            else:  # A callback has forked, which ends the step, and others were added since.
                sent = 0
        writers.clear()
        self.any = False

    def clear(self) -> None:
        """Forget the writers, in the child of a fork, where the rest of the step joins nothing."""
        self._writers.clear()
        self.any = False
        self.open = False


class JoinedWrites:
    """The data that one writer has collected in the current step."""

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
        self._parts.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        """Remove and return the collected data."""
        parts = self._parts
        self._parts = []
        self.size = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def keeps_joining(self) -> bool:
        """Return whether the writer is to continue joining, at the end of a step."""
        keeps_joining = self._writes > 1
        self._writes = 0
        return keeps_joining

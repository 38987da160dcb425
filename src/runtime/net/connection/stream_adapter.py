"""Stream adapter: the top layer of a connection that a reader and a writer use.

Received bytes wait in the buffer ``unread``. A waiting reader is woken once the buffer holds as
many bytes as it asked for. Receiving pauses while the buffer holds more than twice the limit, not
counting the bytes that a waiting reader asked for, and resumes when it is down to the limit.

A reader that asks for many bytes at once, such as ``readexactly(1_000_000)``, would have them
copied twice: from the system into a chunk, and from the chunks into the result. So once the first
of them have come, a *receive target* is made, a block of the result's size, and the layer below
receives straight into it::

    unread ---- first bytes of a large read ----> target ---- full, the end, ----> unread
                                                              or cancelled

Reading from the buffer does not wait, and so does not let other tasks run. If the peer has sent
very many lines at once, their handler would delay all other connections until it has read them
all. Therefore a connection has a *share* of each turn: after ``_SHARE`` reads, or writes, in one
turn of the loop, the next one lets the other tasks run first.

Invariants: while there is a target, ``unread`` is empty; before a reader resumes, the target is
given up, and its bytes are in ``unread``.

``StreamAdapter`` is compiled in the compiled build. The streams that users have are thin, and
interpreted: ``runtime.net.connection.streams``.
"""

from __future__ import annotations

from typing import Any, Final

from runtime.kernel.arguments.sizes import count_of
from runtime.kernel.core import LoopCore
from runtime.kernel.errors import LimitOverrunError
from runtime.kernel.future import FutureCore, finish_future, rearm_future
from runtime.kernel.native import accelerator
from runtime.kernel.native.allocator import retain_large_blocks
from runtime.net.connection.layers import Lower, Top, new_connection_error, with_waiter
from runtime.net.connection.receive_buffer import ReceiveBuffer

_MIN_TARGET: Final = 128 * 1024
"""Smallest read, in bytes, for which a receive target is made."""

_MAX_TARGET: Final = 16 * 1024 * 1024
"""Largest read, in bytes, for which a receive target is made.

It bounds preallocation for peers that announce more than they send.
"""

_SHARE: Final = 128
"""Reads, and writes, that a connection may make in one turn of the loop."""


class StreamAdapter(Top):
    """State of a connection that its reader and writer share.

    ``limit`` is the reader's limit, in bytes; ``server_side`` says that a server accepted the
    connection.
    """

    __slots__ = (
        "_bytes_needed",
        "_closed_waiters",
        "_limit",
        "_loop",
        "_lower",
        "_paused",
        "_reader",
        "_taken",
        "_taken_in",
        "_target",
        "_target_filled",
        "_written",
        "_written_in",
        "closing",
        "eof",
        "has_written_its_share",
        "is_lost",
        "must_wait",
        "server_side",
        "stopped",
        "unread",
    )

    # Compiled, flags that stand together share eight bytes.
    server_side: bool
    _paused: bool
    stopped: bool
    eof: bool
    must_wait: bool
    has_written_its_share: bool
    closing: bool
    is_lost: bool

    def __init__(self, loop: LoopCore, limit: int, server_side: bool = False) -> None:
        Top.__init__(self)
        self._loop = loop
        self._lower: Lower | None = None
        self._limit = limit
        self.server_side = server_side
        # Reading.
        self.unread = ReceiveBuffer()
        # Whether receiving is paused because too much is unread, and whether the user paused it.
        self._paused = False
        self.stopped = False
        # The number of bytes that the waiting reader needs; 0 if any will do, or no reader waits.
        self._bytes_needed = 0
        self._reader: FutureCore | None = None
        # The target for ``_bytes_needed`` bytes, and the number of bytes received into it.
        self._target: Any = None
        self._target_filled = 0
        self.eof = False
        # The number of reads since the share was last checked, and the turn of that check.
        self._taken = 0
        self._taken_in = -1
        # Writing: the same for writes, and whether ``drain`` has to do more than return.
        self._written = 0
        self._written_in = -1
        self.must_wait = False
        self.has_written_its_share = False
        # Ending.
        self.closing = False
        self.is_lost = False
        self._closed_waiters: list[FutureCore] | None = None

    @property
    def lower(self) -> Lower:
        """The layer below."""
        lower = self._lower
        assert lower is not None
        return lower

    def set_lower(self, lower: Lower) -> None:
        """Use the layer ``lower`` from now on, which is not paused."""
        self._lower = lower
        self.stopped = False

    # -- Events of the layer below -----------------------------------------------------------------

    def connected(self) -> None:
        self.pass_on_connected()

    def received(self, data: bytes) -> None:
        received = self.unread
        received.append(data)
        if received.size < self._bytes_needed and self._reader_waits():
            if _MIN_TARGET <= self._bytes_needed <= _MAX_TARGET:
                self._make_target()
            return
        if received.size > 2 * self._limit and not self._paused and self._lower is not None:
            asked_for = self._bytes_needed if self._reader_waits() else 0
            if received.size - asked_for > 2 * self._limit:
                self._paused = True
                self._lower.pause_reading()
        self._wake_reader()

    def _make_target(self) -> None:
        retain_large_blocks()
        try:
            target = accelerator.ReceiveTarget(self._bytes_needed)
        except MemoryError:
            return  # There may be enough memory in smaller chunks.
        filled = self.unread.size
        target.view(0, filled)[:] = self.unread.take_all()
        self._target = target
        self._target_filled = filled
        self.wants_buffer = True

    def get_buffer(self) -> Any:
        filled = self._target_filled
        return self._target.view(
            filled, min(self._bytes_needed, filled + accelerator.LARGE_RECEIVE_SIZE)
        )

    def buffer_updated(self, size: int) -> None:
        self._target_filled += size
        if self._target_filled == self._bytes_needed or not self._reader_waits():
            self._wake_reader()

    def refused_buffer(self, error: Exception) -> None:
        raise error  # Unreachable: the buffer is ours.

    def give_up_target(self) -> None:
        """Move the bytes received into the target to ``unread``, for the next read."""
        target = self._target
        if target is None:
            return
        self.wants_buffer = False
        self._target = None
        filled = self._target_filled
        try:
            received = target.take(filled)
        except BufferError:
            # Other code still has a view of the target and could change the bytes: copy them.
            received = bytes(target.view(0, filled))
        self.unread.append(received)

    def ended(self) -> bool:
        self.eof = True
        self._wake_reader()
        return True

    def pause_writing(self) -> None:
        self.writing_paused = True
        self.must_wait = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.must_wait = self.is_lost
        if self._drain_waiters is not None:
            self.wake_drainers(None)

    def lost(self, error: BaseException | None) -> None:
        self.is_lost = True
        self.must_wait = True
        self.closing = True
        self.error = error
        self.eof = True
        try:
            self._wake_reader()
            if self._drain_waiters is not None:
                self.wake_drainers(error or ConnectionAbortedError("the connection was aborted"))
        finally:
            waiters = self._closed_waiters
            self._closed_waiters = None
            for waiter in waiters or ():
                if not waiter.done():
                    finish_future(waiter, None)
            self.pass_on_lost()

    # -- Reading -----------------------------------------------------------------------------------

    def _reader_waits(self) -> bool:
        """Return whether a reader is waiting; a cancelled read no longer is."""
        return self._reader is not None and not self._reader.done()

    def _wake_reader(self) -> None:
        try:
            if self._target is not None:
                self.give_up_target()
        finally:
            self._bytes_needed = 0
            reader = self._reader
            if reader is not None and not reader.done():
                finish_future(reader, None)

    def readable(self, reader_name: str, needed: int = 0) -> FutureCore:
        """Return a future that finishes when there is more to read, at the end, or on a failure.

        ``needed`` is the number of bytes to wait for, unless the end comes before. Raises
        RuntimeError if another task is waiting already. ``reader_name`` is for its text.
        """
        reader = self._reader
        if reader is None:
            reader = self._reader = self._loop.create_future()
        elif not reader.done():
            raise RuntimeError(
                f"{reader_name}() called while another task waits for data from the same stream: "
                "let one task read it"
            )
        else:
            if not rearm_future(reader):
                reader = self._reader = self._loop.create_future()
            if self._target is not None:
                # The read before was cancelled and left a target: its bytes can be read now.
                self._wake_reader()
                return reader
        self._bytes_needed = needed
        if self._paused:
            self._resume_receiving()
        return reader

    def _resume_receiving(self) -> None:
        """Resume receiving after too much was unread, unless the user has paused it as well."""
        self._paused = False
        if not self.eof and not self.stopped and self._lower is not None:
            self._lower.resume_reading()

    def is_reading(self) -> bool:
        """Return whether bytes are received now."""
        return not (self._paused or self.stopped or self.eof)

    def pause_reading(self) -> None:
        """Receive nothing until ``resume_reading``."""
        self.stopped = True
        if not self.closing:
            self.lower.pause_reading()

    def resume_reading(self) -> None:
        """Receive again, unless too much is unread."""
        self.stopped = False
        if not self._paused and not self.eof:
            self.lower.resume_reading()

    def stop_reading(self) -> None:
        """Receive no more: the reader finds the end after the bytes that were received before."""
        if not self.eof:
            self.lower.pause_reading()
            self.ended()

    def has_used_its_share(self) -> bool:
        """Return whether other tasks have to run before the next read in this turn."""
        return self._taken > _SHARE and self._taken_in == self._loop._turns

    def _may_take(self) -> bool:
        """Return whether the reader may read more in this turn, after a share of reads.

        The count starts at zero in each turn. The turn is looked at only here, once in ``_SHARE``
        reads, so that a read costs one addition and one comparison.
        """
        turn = self._loop._turns
        if self._taken_in == turn:
            return False
        self._taken_in = turn
        self._taken = 0
        return True

    def take(self, most: int) -> bytes:
        """Remove and return up to ``most`` received bytes."""
        data = self.unread.take(most)
        if self._paused and self.unread.size <= self._limit:
            self._resume_receiving()
        return data

    def take_until(self, separators: tuple[bytes, ...], limit: int) -> bytes | None:
        """Remove and return the bytes through the end of the separator that ends first.

        Returns None if there is no separator yet, or if the reader has had its share of this turn.
        Raises LimitOverrunError if more than ``limit`` bytes precede the separator: they stay
        unread.
        """
        self._taken += 1
        if self._taken > _SHARE and not self._may_take():
            return None
        unread = self.unread
        start, stop = unread.find(separators)
        if stop:
            if start > limit:
                raise _overrun_error(
                    "Separator is found, but chunk is longer than limit", limit, start
                )
            return self.take(stop)
        if unread.size <= limit:
            return None
        # The last bytes may be the beginning of a separator, and do not count for the limit yet.
        searched = unread.size + 1 - max([len(separator) for separator in separators])
        if searched > limit:
            raise _overrun_error(
                "Separator is not found, and chunk exceed the limit", limit, searched
            )
        return None

    def take_some(self, most: Any) -> bytes | None:
        """Remove and return up to ``most`` received bytes; ``b""`` at the end.

        Returns None if there are none yet, or if the reader has had its share of this turn. Raises
        the failure of the connection, once everything received before it was taken.
        """
        size: int = most if isinstance(most, int) else count_of(most, "read()")
        self._taken += 1
        if self._taken > _SHARE and not self._may_take():
            return None
        if self.unread.size:
            return self.take(size)
        if size == 0:
            return b""
        return self.take_rest() if self.eof else None

    def take_exactly(self, needed: Any) -> bytes | None:
        """Remove and return ``needed`` bytes.

        Returns None if there are fewer, or if the reader has had its share of this turn.
        """
        size: int = needed if isinstance(needed, int) else count_of(needed, "readexactly()")
        self._taken += 1
        if self._taken > _SHARE and not self._may_take():
            return None
        return self.take(size) if self.unread.size >= size else None

    def take_rest(self) -> bytes:
        """Remove and return all received bytes, at the end.

        Raises the failure of the connection instead, if there was one: the bytes stay unread.
        """
        if self.error is not None:
            raise new_connection_error(self.error)
        return self.unread.take_all()

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send ``data``, a bytes-like object: as much as possible at once, the rest later."""
        lower = self._lower
        assert lower is not None
        self._written += 1
        if self._written > _SHARE:
            self._count_writes()
        lower.write(data)
        if self._loop._poller.writers.any:
            self.must_wait = True

    def write_many(self, parts: list[Any]) -> None:
        """Send several bytes-like objects, in order."""
        self._written += 1
        if self._written > _SHARE:
            self._count_writes()
        self.lower.write_many(parts)
        if self._loop._poller.writers.any:
            self.must_wait = True

    def _count_writes(self) -> None:
        """Make ``drain`` let other tasks run, if the writer has had its share of this turn."""
        turn = self._loop._turns
        if self._written_in == turn:
            self.must_wait = self.has_written_its_share = True
        else:
            self._written_in = turn
            self._written = 0

    def send_joined(self) -> bool:
        """Send the data that was collected in this turn; return whether ``drain`` has to wait."""
        self.lower.send_joined()
        self.must_wait = self.writing_paused or self.is_lost or self.has_written_its_share
        return self.must_wait

    def reset_share(self) -> None:
        """Note that ``drain`` has let other tasks run."""
        self.has_written_its_share = False
        self.must_wait = self.writing_paused or self.is_lost

    # -- Ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop reading, send the write buffer, then close."""
        if self.closing:
            return
        self.closing = True
        lower = self._lower
        if lower is None:
            return
        lower.close()
        if not self.is_lost:
            self.eof = True
            self._wake_reader()

    def abort(self) -> None:
        """Close now, and drop unsent bytes."""
        self.closing = True
        if self._lower is not None:
            self._lower.fail(None)

    def peername(self) -> object:
        """Return the peer's address, or None."""
        return None if self._lower is None else self._lower.info("peername")

    def closed_future(self) -> FutureCore:
        """Return a new future that finishes when the connection is closed.

        Each waiting task needs one of its own: the cancellation of a task cancels its future.
        """
        waiter = self._loop.create_future()
        if self.is_lost:
            finish_future(waiter, None)
        else:
            self._closed_waiters = with_waiter(self._closed_waiters, waiter)
        return waiter

    def __repr__(self) -> str:
        return repr(self._lower)


def _overrun_error(words: str, limit: int, consumed: int) -> LimitOverrunError:
    return LimitOverrunError(
        f"{words}: limit={limit}, in bytes; to increase it, use the argument limit= of "
        "open_connection(), start_server() or create_subprocess_exec()",
        consumed,
    )

"""``WriteEnd``: the end of a pipe that is written to, with a write buffer for unsent data."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.lost_writes import warn_of_lost_write
from runtime.kernel.joined_writes import JOIN_MOST, JoinedWrites, Writer
from runtime.kernel.native import accelerator
from runtime.kernel.watcher import READ, WRITE
from runtime.kernel.write_buffer import (
    HIGH_WATER,
    LOW_WATER,
    append_data,
    drop_sent,
    next_chunks,
    water_marks_of,
)
from runtime.system.pipe_ends import Pipe, PipeEnd

if sys.platform != "win32":  # Windows has no such pipes.
    import fcntl

_IOV_MAX: Final = 1024

_STDERR: Final = 2
"""The largest descriptor of a standard stream. ``print`` writes to these too: order matters."""

_run_in: Final = Context.run
_send: Final[Callable[[int, Any], int]] = accelerator.write


class WriteEnd(PipeEnd, Writer):
    """The write end of a pipe: it sends the data of the protocol.

    With ``watch_reader`` the descriptor is watched for reading, which has no other use at this end.
    The system reports it as readable when the reader is gone, so that the transport need not wait
    for the next write to fail.
    """

    __slots__ = (
        "_high_water",
        "_join_most",
        "_low_water",
        "_protocol_paused",
        "_watch_reader",
        "_write_buffer",
        "_writes_lost",
        "joined",
        "unsent",
        "wrote_in",
    )

    def __init__(self, loop: LoopCore, pipe: Pipe, protocol: Any, watch_reader: bool) -> None:
        PipeEnd.__init__(self, loop, pipe, protocol)
        self._watch_reader = watch_reader
        # The unsent data, as bytes objects or views of such, and its size in bytes.
        self._write_buffer: deque[Any] = deque()
        self.unsent = 0
        self._high_water = HIGH_WATER
        self._low_water = LOW_WATER
        self._protocol_paused = False
        self._writes_lost = 0
        # See ``Writer``.
        self.wrote_in = -1
        self.joined: JoinedWrites | None = loop._poller.writers.new_joined_writes()
        # Bytes up to which the pipe allows joining, 0 for none; -1 until it is needed.
        self._join_most = -1

    def events_to_watch(self) -> int:
        """Return WRITE if there is unsent data, and READ while the reader is watched."""
        events = 0
        if self._watch_reader:
            events = READ
        if self.unsent:
            events |= WRITE
        return events

    def unsent_now(self) -> int:
        """Return the size of the write buffer, in bytes."""
        return self.unsent

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send ``data``, a bytes-like object: as much as the pipe takes at once, the rest later."""
        size = len(data) if isinstance(data, bytes) else _size_of(data)
        if size == 0 or not self._may_write():
            return
        if not self.unsent and (
            self.joins(data, size, self.loop._turns, self.loop._poller.writers)
            or not self._may_write()
        ):
            return
        if self.unsent:
            self._keep(_copy_unless_bytes(data, 0))
        else:
            self._transmit(data, size)
        self.pause_if_high()

    def _transmit(self, data: Any, size: int) -> None:
        """Send ``data``, and keep what is not sent."""
        if not self.check_open():
            return
        try:
            sent = _send(self.number, data)
        except OSError as error:
            self.fail(error)
            return
        if sent < size:
            self._keep(_copy_unless_bytes(data, sent))
            self.update_watch()

    def most_joined(self) -> int:
        """Return the number of bytes that may be collected now."""
        if self._join_most < 0:
            self._join_most = 0 if self.number <= _STDERR else _most_to_join(self.number)
        return min(self._high_water, self._join_most)

    def send_joined(self) -> None:
        """Send the data that was collected in the current turn."""
        joined = self.joined
        if joined is not None and joined.size:
            data = joined.take()
            if self.loop._refusal is None:  # In the child of a fork, the parent sends the data.
                self._transmit(data, len(data))
                self.pause_if_high()

    def write_many(self, parts: list[Any]) -> None:
        """Send several bytes-like objects, in order, with as few system calls as possible."""
        # Invalid parts raise here, before any part is sent.
        parts = [part for part in parts if _size_of(part)]
        if len(parts) == 1:
            self.write(parts[0])
            return
        self.send_joined()
        if not parts or not self._may_write():
            return
        sent = 0
        at_once = not self.unsent
        if at_once:
            if not self.check_open():
                return
            try:
                sent = os.writev(self.number, parts[:_IOV_MAX])
            except BlockingIOError:
                pass
            except OSError as error:
                self.fail(error)
                return
        for part in parts:
            size = _size_of(part)
            if sent >= size:
                sent -= size
            else:
                self._keep(_copy_unless_bytes(part, sent))
                sent = 0
        if self.unsent:
            if at_once:
                self.update_watch()
            self.pause_if_high()

    def _may_write(self) -> bool:
        """Return whether data can still be sent; if not, count the lost write, and warn."""
        if not self.closing:
            return True
        self._writes_lost += 1
        target = self.transport or self
        warn_of_lost_write(self._writes_lost, "write() to a pipe that is closed", target)
        return False

    def _keep(self, data: Any) -> None:
        append_data(self._write_buffer, data)
        self.unsent += len(data)

    def on_writable(self) -> None:
        """Send from the write buffer.

        The protocol is resumed at the low-water mark, and a closing end ends when all is sent.
        """
        if not self.unsent or not self.check_open():
            return
        try:
            sent = self._send_buffer()
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        self.unsent -= sent
        drop_sent(self._write_buffer, sent)
        if not self.unsent:
            self.update_watch()
        if self._protocol_paused and self.unsent <= self._low_water:
            self._resume_protocol()
        if self.closing and not self.unsent:
            self.end(None)

    def _send_buffer(self) -> int:
        buffer = self._write_buffer
        if len(buffer) == 1:
            return _send(self.number, buffer[0])
        return os.writev(self.number, next_chunks(buffer))

    # -- Flow control ------------------------------------------------------------------------------

    def pause_if_high(self) -> None:
        """Call the protocol's ``pause_writing`` above the high-water mark."""
        if self._protocol_paused or self.unsent <= self._high_water:
            return
        self._protocol_paused = True
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report("protocol.pause_writing() failed", error)

    def _resume_protocol(self) -> None:
        self._protocol_paused = False
        try:
            _run_in(self.context, self.protocol.resume_writing)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report("protocol.resume_writing() failed", error)

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set the high-water and the low-water mark, in bytes.

        Raises ValueError unless ``high >= low >= 0``.
        """
        self._high_water, self._low_water = water_marks_of(high, low)
        self.send_joined()
        self.pause_if_high()

    def water_marks(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark, in bytes."""
        return self._low_water, self._high_water

    # -- Ending ------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """End if the reader is gone.

        A socket is also readable because data has arrived, which this transport does not read. Then
        the reader is not watched any more, and the next write finds out when it is gone.
        """
        if not self.check_open():
            return
        if not has_no_reader(self.number):
            self._watch_reader = False
            self.update_watch()
            return
        # Without joining, this would have been sent before, and would have failed.
        self.send_joined()
        if self.ended:
            return
        if self.unsent:
            lost = f"the reader of the pipe is gone: {self.unsent} bytes were not sent"
            self.end(BrokenPipeError(errno.EPIPE, lost))
        else:
            self.end(None)

    def on_process_exit(self) -> None:
        """End if the reader is watched, and is gone."""
        if self._watch_reader and not self.ended and has_no_reader(self.number):
            self.on_readable()

    def close(self) -> None:
        """End once all data was sent."""
        if self.closing:
            return
        self.send_joined()
        self.closing = True
        if not self.unsent:
            self.end(None)

    def fail(self, error: OSError) -> None:
        """End because of ``error``, which is passed to ``connection_lost``."""
        if self.ended:
            return
        self.note("Fatal write error on pipe transport", error)
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """End, and drop the unsent data."""
        self._write_buffer.clear()
        self.joined = None
        self.unsent = 0
        PipeEnd.end(self, error)


def _size_of(data: Any) -> int:
    """Return the size of ``data`` in bytes.

    Raises TypeError unless it is bytes-like, and BufferError unless its memory is contiguous.
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError(f"data must be contiguous memory, got {data!r}: make it bytes")
    return view.nbytes


def _most_to_join(fd: int) -> int:
    """Return the number of bytes up to which writes to a pipe, a socket or a device are joined.

    It is 0 where each write is a message: a device, a socket other than a stream, a pipe in packet
    mode. To any other pipe, several processes may write. Each of their writes arrives undivided, up
    to ``PIPE_BUF`` bytes; joined writes must not exceed that.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            in_packets = fcntl.fcntl(fd, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0)
            return 0 if in_packets else select.PIPE_BUF
        if stat.S_ISSOCK(mode):
            with socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_STREAM) as duplicate:
                kind = duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
            return JOIN_MOST if kind == socket.SOCK_STREAM else 0
    except OSError:
        pass  # Other code has closed the descriptor: the next write finds out.
    return 0


def _copy_unless_bytes(data: Any, start: int) -> Any:
    """Return ``data`` from ``start`` on, copied unless it is bytes: the caller may change it."""
    if isinstance(data, bytes):
        return memoryview(data)[start:] if start else data
    return bytes(memoryview(data).cast("B")[start:])


def has_no_reader(fd: int) -> bool:
    """Return whether a pipe or a socket has no reader any more."""
    events: int = getattr(select, "POLLRDHUP", 0)
    poll = select.poll()
    poll.register(fd, events)
    # poll() reports errors and hang-ups in any case.
    return bool(poll.poll(0))

"""Connected stream socket in the loop: the bottom layer of every connection.

The two directions are independent::

    reading:  OPEN <--> PAUSED (by the layer above)        writing:  OPEN --> ENDING --> ENDED
                |                                                      |  write_eof()   (FIN sent)
                +--> ENDED (the peer's FIN, or a failure)              |
                                                                       v
    both:     OPEN --- close(): the write buffer is sent first ---> CLOSED
                |                                                      ^
                +------ fail(): nothing more is sent ------------------+

Other code that has the socket object, or its descriptor's number, may close the descriptor while
the connection uses it, and the system may then give the number to another file. Bytes must not be
read from that file or written to it. While the descriptor is watched, the poller calls ``on_lost``
of the stale registration as soon as the loop meets the new file. While it is not watched, and
before it is closed, ``_same_file`` compares the file behind the number with the original one.

Writes of one turn may be joined: see ``kernel.joined_writes``.

Invariants: the descriptor is watched for reading exactly while reading is OPEN, and for writing
exactly while the write buffer holds bytes (or a task waits in ``writable``); ``unsent`` is the
size of the write buffer; CLOSED means that the descriptor is closed and ``lost`` of the layer above
was called. Exceptions are passed on without their tracebacks: the frames of this module are of no
use to the reader, and they would form a reference cycle with the object that keeps the exception.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.lost_writes import warn_of_lost_write
from runtime.kernel.future import FutureCore, finish_future
from runtime.kernel.joined_writes import JOIN_MOST, JoinedWrites, Writer
from runtime.kernel.native import accelerator
from runtime.kernel.poller import file_identity
from runtime.kernel.watcher import READ, WRITE, Watcher
from runtime.kernel.write_buffer import (
    HIGH_WATER,
    LOW_WATER,
    append_data,
    drop_sent,
    next_chunks,
    water_marks_of,
)
from runtime.net.connection.layers import Lower, Upper, copy_of, join_parts, view_of
from runtime.net.sockets.checks import mark_in_use, pending_socket_error, undelivered_size

_IOV_MAX: Final = 64
"""Parts for one ``sendmsg``: fewer than any system's limit."""

_AFTER_EOF: Final = "cannot write after write_eof(): the end was announced already"
_recv: Final[Callable[[int], bytes | None]] = accelerator.recv
_recv_large: Final[Callable[[int], bytes | None]] = accelerator.recv_large
_send: Final[Callable[[int, Any], int]] = accelerator.send


class StreamSocket(Watcher, Lower, Writer):
    """One connected, non-blocking stream socket, which this object owns from now on."""

    __slots__ = (
        "_by_methods",
        "_eof_sent",
        "_eof_wanted",
        "_file",
        "_high_water",
        "_input_ended",
        "_is_upper_paused",
        "_loop",
        "_low_water",
        "_object",
        "_peername",
        "_reading",
        "_refusal",
        "_shared",
        "_sock",
        "_sockname",
        "_upper",
        "_writable_waiter",
        "_write_buffer",
        "_writes_lost",
        "closing",
        "joined",
        "unsent",
        "wrote_in",
    )

    def __init__(self, loop: LoopCore, sock: socket.socket, upper: Upper, peername: object) -> None:
        Watcher.__init__(self, sock.fileno())
        # A previous connection with this number must not use it from here on: its descriptor was
        # closed behind its back.
        before = loop._poller.watcher(self.fd)
        if isinstance(before, StreamSocket):
            loop._poller.evict(before)
        # Whether other code has the socket object, and may close it: check before each use.
        self._shared = False
        # Whether to use the methods of the socket object, which may belong to a subclass, and not
        # the descriptor.
        self._by_methods = False
        self.closing = False
        self._reading = False
        self._input_ended = False
        # Whether ``pause_writing`` of the layer above was called last.
        self._is_upper_paused = False
        self._eof_wanted = False
        self._eof_sent = False
        # Then come the attributes that every event and every write uses: they share the fewest
        # cache lines, which counts when there are very many connections.
        self._upper: Upper | None = upper
        # None once the connection is closed. ``_object`` refers to the same socket until the end.
        self._sock: socket.socket | None = sock
        # The reason to refuse writes, if there is one.
        self._refusal: str | None = None
        # The size of the write buffer, and the buffer: bytes that the socket did not accept.
        self.unsent = 0
        self._write_buffer: deque[Any] | None = None
        # See ``Writer``.
        self.wrote_in = -1
        self.joined: JoinedWrites | None = loop._poller.writers.new_joined_writes()
        self._writes_lost = 0
        self._high_water = HIGH_WATER
        self._low_water = LOW_WATER
        self._writable_waiter: FutureCore | None = None
        self._loop = loop
        loop._connections_opened += 1
        self._object = sock
        # Device and inode of the socket, once it is shared.
        self._file: tuple[int, int] | None = None
        self._peername = peername
        # Determined on demand, when the socket becomes shared, or when it is closed.
        self._sockname: object = None
        if type(sock) is not socket.socket:
            # Marked as shared too: the branches for ordinary sockets then need no check of
            # ``_by_methods``.
            self._by_methods = True
            self.mark_shared()

    def set_upper(self, upper: Upper) -> None:
        self.send_joined()
        self._upper = upper
        # The new layer has to learn of the end of the peer's data too: it is received again.
        self._input_ended = False

    def get_protocol(self) -> object:
        return None if self._upper is None else self._upper.get_protocol()

    def start(self) -> None:
        # The descriptor is not watched before ``connected`` has returned, which may pause reading.
        self._reading = True
        upper = self._upper
        if upper is not None:
            try:
                upper.connected()
            except BaseException:
                self.fail(None)
                raise
        if not self.closing:
            self._watch()

    def mark_shared(self) -> None:
        """Note that other code has the socket object and may close it at any time."""
        self._learn_sockname()
        # The caller may write to the socket itself: nothing is joined any more.
        self.send_joined()
        self.joined = None
        self._shared = True
        self._file = file_identity(self.fd)
        mark_in_use(self._loop, self._object)

    # -- Reading -----------------------------------------------------------------------------------

    def on_readable(self) -> None:
        upper = self._upper
        if upper is None or (self._shared and not self._may_receive(upper)):
            return
        if upper.wants_buffer:
            self._receive_into(upper)
            return
        try:
            data = _recv_large(self.fd) if upper.uses_large_reads else _recv(self.fd)
        except OSError as error:
            self.fail(error.with_traceback(None))
            return
        if data:
            self._loop._bytes_received += len(data)
            upper.received(data)
        elif data is not None:
            self._end_of_input(upper)

    def _may_receive(self, upper: Upper) -> bool:
        """Return whether to receive from the descriptor of a shared socket.

        It is False if the descriptor is lost, or if the socket's own method has received instead.
        """
        if not self._owns_descriptor():
            return False
        if not self._by_methods or upper.wants_buffer:
            return True
        self._receive_by_method(upper)
        return False

    def _receive_by_method(self, upper: Upper) -> None:
        sock = self._sock
        assert sock is not None
        try:
            data = sock.recv(
                accelerator.LARGE_RECEIVE_SIZE
                if upper.uses_large_reads
                else accelerator.RECEIVE_SIZE
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(error.with_traceback(None))
            return
        if data:
            self._loop._bytes_received += len(data)
            upper.received(data)
        else:
            self._end_of_input(upper)

    def _receive_into(self, upper: Upper) -> None:
        buffer = upper.get_buffer()
        sock = self._sock
        if buffer is None or sock is None:
            return
        try:
            size = sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            buffer = None
            self.fail(error.with_traceback(None))
            return
        except Exception as error:
            buffer = None
            upper.refused_buffer(error)
            return
        # Drop this reference: ``buffer_updated`` may resize the buffer, or hand it on without a
        # copy, which fails while other code has a view of it.
        buffer = None
        if size:
            self._loop._bytes_received += size
            upper.buffer_updated(size)
        else:
            self._end_of_input(upper)

    def _end_of_input(self, upper: Upper) -> None:
        self._reading = False
        self._input_ended = True
        self._watch()
        self.announce_end(upper)

    def pause_reading(self) -> None:
        self.send_joined()
        if self._reading:
            self._reading = False
            self._watch()

    def resume_reading(self) -> None:
        if not self._reading and not self.closing and not self._input_ended:
            self._reading = True
            self._watch()

    def _watch(self) -> None:
        """Watch the descriptor for exactly the events that the state requires."""
        events = 0
        if self._reading:
            events = READ
        if self.unsent or self._writable_waiter is not None:
            events |= WRITE
        if events and not self.events and self._shared and not self._owns_descriptor():
            return
        try:
            self._loop._poller.watch(self, events)
        except Exception as error:
            # Other code closed the descriptor and its number is free; or the selector, which may
            # be of any class, has failed.
            self._close(error.with_traceback(None))

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if isinstance(data, bytes):
            size = len(data)
        elif self.unsent or self._refusal is not None:
            # A copy and not a view: the caller may change ``data`` in ``pause_writing``, or after
            # this method has raised.
            data = copy_of(data)
            size = len(data)
        else:
            data = view_of(data)
            size = data.nbytes
        if self._refusal is not None:
            raise RuntimeError(self._refusal)
        if self._sock is None:
            self._count_lost_write()
            return
        if size == 0:
            return
        turn = self._loop._turns
        if self.joined is None and self.wrote_in != turn:
            # A shortcut for joins() in the usual case. A method of a trait has to search for the
            # place of each attribute.
            self.wrote_in = turn
        elif not self.unsent:
            if self.joins(data, size, turn, self._loop._poller.writers):
                return
            if self.is_closed():
                self._count_lost_write()
                return
        if self.unsent:
            self._keep(data if isinstance(data, bytes) else bytes(data))
        elif self._transmit(data, size):
            return
        data = None  # ``pause_writing`` may resize the buffer, which a view of it would prevent.
        self._pause_if_high()

    def _transmit(self, data: Any, size: int) -> bool:
        """Send ``data``, and keep what is not sent; return whether nothing had to be kept."""
        try:
            if not self._shared:
                sent = _send(self.fd, data)
            elif self._owns_descriptor():
                sent = self._send_by_method(data) if self._by_methods else _send(self.fd, data)
            else:
                return True
        except OSError as error:
            self.fail(error.with_traceback(None))
            return True
        self._loop._bytes_sent += sent
        if sent == size:
            return True
        if isinstance(data, bytes):
            self._keep(memoryview(data)[sent:])
        else:
            self._keep(bytes(data.cast("B")[sent:]))
        self._watch()
        return False

    def most_joined(self) -> int:
        # A closing connection ends once its write buffer is empty: nothing may wait elsewhere.
        return 0 if self._shared or self.closing else min(self._high_water, JOIN_MOST)

    def send_joined(self) -> None:
        joined = self.joined
        if joined is not None and joined.size:
            data = joined.take()
            # In the child of a fork, the loop takes no more work: the parent sends the data.
            if self._loop._refusal is None and not self._transmit(data, len(data)):
                self._pause_if_high()

    def _send_by_method(self, data: Any) -> int:
        sock = self._sock
        assert sock is not None
        try:
            return sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def write_many(self, parts: list[Any]) -> None:
        sizes = [memoryview(part).nbytes for part in parts]
        total = sum(sizes)
        sock = self._sock
        in_one = total <= JOIN_MOST or self._by_methods
        if sock is None or self.unsent or self._refusal is not None or in_one:
            self.write(parts[0] if len(parts) == 1 else join_parts(parts))
            return
        self.send_joined()
        if self.unsent or self._sock is None:
            self.write(join_parts(parts))
            return
        if self._shared and not self._owns_descriptor():
            return
        try:
            sent = sock.sendmsg(parts[:_IOV_MAX])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except BufferError:
            # A part is a view with gaps, which ``sendmsg`` does not accept.
            self.write(join_parts(parts))
            return
        except OSError as error:
            self.fail(error.with_traceback(None))
            return
        self._loop._bytes_sent += sent
        if sent < total:
            self._keep_parts(parts, sizes, sent)

    def _keep_parts(self, parts: list[Any], sizes: list[int], sent: int) -> None:
        """Keep ``parts`` in the write buffer, without the first ``sent`` bytes."""
        for part, size in zip(parts, sizes, strict=True):
            if sent >= size:
                sent -= size
                continue
            view = memoryview(part)
            if not view.c_contiguous:
                view = memoryview(view.tobytes())
            rest = view.cast("B")[sent:]
            self._keep(rest if isinstance(part, bytes) else bytes(rest))
            sent = 0
        self._watch()
        self._pause_if_high()

    def _keep(self, data: Any) -> None:
        """Append ``data``, which will not change, to the write buffer."""
        if data:
            self.unsent += len(data)
            if self._write_buffer is None:
                self._write_buffer = deque()
            append_data(self._write_buffer, data)

    def _pause_if_high(self) -> None:
        """Pause the writing of the layer above if the write buffer is too large."""
        if self.unsent > self._high_water and not self._is_upper_paused:
            self._is_upper_paused = True
            upper = self._upper
            if upper is not None:
                upper.pause_writing()

    def _count_lost_write(self) -> None:
        self._writes_lost += 1
        warn_of_lost_write(self._writes_lost, "write() to a connection that is closed", self)

    def on_writable(self) -> None:
        sock = self._sock
        buffer = self._write_buffer
        if sock is None or (self._shared and not self._owns_descriptor()):
            return
        if not buffer:
            self._finish_sending()
            return
        try:
            if self._by_methods:
                sent = self._send_by_method(buffer[0])
            elif len(buffer) == 1:
                sent = _send(self.fd, buffer[0])
            else:
                sent = sock.sendmsg(next_chunks(buffer))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.fail(error.with_traceback(None))
            return
        self._loop._bytes_sent += sent
        self.unsent -= sent
        drop_sent(buffer, sent)
        upper = self._upper
        if self._is_upper_paused and self.unsent <= self._low_water:
            self._is_upper_paused = False
            if upper is not None:
                upper.resume_writing()
        # ``resume_writing`` may have written more, or closed the connection.
        if self.unsent or self._sock is None:
            return
        self._finish_sending()

    def _finish_sending(self) -> None:
        """Continue with closing, ``writable`` or ``write_eof``, now that the buffer is empty."""
        self._write_buffer = None
        if self.closing:
            self._close(None)
            return
        self._wake_writable()
        self._watch()
        if self._refusal is _AFTER_EOF:
            self._send_eof()

    def writable(self) -> FutureCore:
        """Return a future that finishes when the socket accepts data and the buffer is empty.

        It also finishes when the connection is closed.
        """
        self.send_joined()
        waiter = self._loop.create_future()
        if self._sock is None:
            finish_future(waiter, None)
        else:
            self._writable_waiter = waiter
            self._watch()
        return waiter

    def _wake_writable(self) -> None:
        waiter = self._writable_waiter
        if waiter is not None:
            self._writable_waiter = None
            if not waiter.done():
                finish_future(waiter, None)

    def begin_sendfile(self) -> None:
        """Refuse writes until ``end_sendfile``: ``sendfile`` uses the descriptor itself."""
        if self._refusal is not None:
            raise RuntimeError(self._refusal)
        self.send_joined()
        self._refusal = "unable to write; sendfile is in progress"

    def end_sendfile(self) -> None:
        """Accept writes again; send the end of the data if ``write_eof`` was called meanwhile."""
        self._refusal = _AFTER_EOF if self._eof_wanted else None
        if self._eof_wanted and not self.unsent:
            self._send_eof()

    def unsent_now(self) -> int:
        return self.unsent

    def unsent_size(self) -> int:
        self.send_joined()
        return self.unsent

    def undelivered_size(self) -> int:
        self.send_joined()
        sock = self._sock
        return 0 if sock is None else self.unsent + undelivered_size(sock)

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        self._high_water, self._low_water = water_marks_of(high, low)
        self.send_joined()
        self._pause_if_high()

    def water_marks(self) -> tuple[int, int]:
        return self._low_water, self._high_water

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.send_joined()
        if self._eof_wanted or self.closing:
            return
        self._eof_wanted = True
        if self._refusal is None:
            self._refusal = _AFTER_EOF
        if not self.unsent and self._refusal is _AFTER_EOF:
            self._send_eof()

    def _send_eof(self) -> None:
        if self._eof_sent or self._sock is None:
            return
        if self._shared and not self._owns_descriptor():
            return
        self._eof_sent = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.fail(pending_socket_error(self._sock, error).with_traceback(None))

    # -- Ending ------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self.closing

    def is_closed(self) -> bool:
        return self._sock is None

    def close(self) -> None:
        if self.closing:
            return
        self.send_joined()
        self.closing = True
        self._reading = False
        if self.unsent:
            self._watch()
        else:
            self._close(None)

    def fail(self, error: BaseException | None) -> None:
        joined = self.joined
        sock = self._sock
        if joined is not None and joined.size and sock is not None and sock.fileno() == self.fd:
            # Without joining, this would have been sent before.
            data = joined.take()
            if not self._loop.is_closed():  # In the child of a fork, the parent sends it.
                try:
                    self._loop._bytes_sent += _send(self.fd, data)
                except OSError as failure:
                    if error is None:
                        error = failure.with_traceback(None)
        self._close(error)

    def on_failed(self, error: BaseException) -> None:
        # A watcher whose handler raised does not continue: the data that it was handling may be
        # lost, and a reader must not receive the data after it as if nothing were missing.
        self.fail(error)

    def on_lost(self) -> None:
        sock = self._sock
        if sock is not None and sock.fileno() == self.fd:
            # The descriptor was closed by its number, without the socket object, and the number
            # belongs to another file by now: the socket object must not close it.
            sock.detach()
        self.fail(_closed_by_others(self.fd))

    def _owns_descriptor(self) -> bool:
        """Return whether the descriptor is still that of our socket; fail the connection if not."""
        sock = self._sock
        # While the descriptor is watched, the poller notices a close that bypassed the socket
        # object, so that no system call is needed here.
        if sock is not None and sock.fileno() == self.fd and (self.events or self._same_file()):
            return True
        self.fail(_closed_by_others(self.fd))
        return False

    def _same_file(self) -> bool:
        return self._file is None or file_identity(self.fd) == self._file

    def _close(self, error: BaseException | None) -> None:
        sock = self._sock
        if sock is None:
            return
        upper = self._upper
        self._loop._connections_closed += 1
        self._sock = None
        self._upper = None
        self.closing = True
        self._reading = False
        self._write_buffer = None
        self.joined = None
        self.unsent = 0
        try:
            self._wake_writable()
            self._loop._poller.watch(self, 0)
            self._close_socket(sock)
        except OSError as failure:
            # Other code has closed the descriptor, or closing it failed.
            if error is None:
                error = failure.with_traceback(None)
        finally:
            if upper is not None:
                upper.lost(error)

    def _close_socket(self, sock: socket.socket) -> None:
        """Close the socket, unless its descriptor belongs to another file by now."""
        if sock.fileno() != self.fd:
            return
        if self._same_file():
            self._learn_sockname()
            sock.close()
        else:
            sock.detach()

    # -- Information -------------------------------------------------------------------------------

    def info(self, name: object) -> Any:
        if name == "peername":
            return self._peername
        if name == "sockname":
            self._learn_sockname()
            return self._sockname
        if name == "socket":
            # The caller may close the socket object.
            if self._sock is not None:
                self.mark_shared()
            return self._object
        if name == "own_socket":
            # The caller shows it in a ``ConnectionSocket`` only.
            self._learn_sockname()
            return self._object
        return None

    def _learn_sockname(self) -> None:
        if self._sockname is None:
            try:
                self._sockname = self._object.getsockname()
            except OSError:
                pass  # The socket is closed; on some systems also after a reset by the peer.

    def __repr__(self) -> str:
        state = "closed" if self._sock is None else "closing" if self.closing else "open"
        return f"<Connection {state} fd={self.fd} peername={self._peername!r}>"


def _closed_by_others(fd: int) -> OSError:
    return ConnectionAbortedError(
        f"the socket with file descriptor {fd} was closed while its connection was open: "
        "close the connection instead"
    )

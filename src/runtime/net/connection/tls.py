"""TLS layer of a connection: between the layer that carries the encrypted bytes and the one above.

The layer is in one state at a time, ``_state``::

    HANDSHAKE ----> OPEN ----> FLUSHING ----> CLOSING ----> CLOSED
        |            |            |              |             ^
        +------------+------------+--------------+-------------+
              a failure, fail() or a timeout; close() in HANDSHAKE

    state      begins when                  received bytes are         data written is
    ---------  ---------------------------  -------------------------  -------------------------
    HANDSHAKE  the layer is made            given to the handshake     kept in _plain
    OPEN       the handshake is complete    decrypted and delivered    encrypted and sent
    FLUSHING   close() is called            decrypted and dropped      lost, with a warning
    CLOSING    our close_notify is sent     decrypted and dropped      lost, with a warning
    CLOSED     the layer below is closed    ignored                    lost, with a warning

The peer's close_notify is reported as ``ended()`` to the layer above, and closes the connection
unless the layer above asks to keep it open for writing. CLOSING ends with the peer's close_notify,
with the end of its data, or with the shutdown timeout.

Flags say more about a state::

    flag           is True                                    and then
    -------------  -----------------------------------------  --------------------------------------
    _is_made       once the handshake was complete            lost() logs no failed handshake
    _paused        from pause_reading() to resume_reading()   nothing is decrypted
    _leftover      after a read into the upper layer's        OpenSSL may hold the rest of a record:
                   buffer, until OpenSSL has no more bytes    it is read before anything else
    _input_ended   once the layer below reported ended()      no encrypted bytes will come
    _peer_closed   once the peer's close_notify was read, or  received bytes are ignored
                   dropping its data came to an end or error
    _truncated     after an end without a close_notify        lost() gets _error; no close_notify is
                                                              sent
    _encrypting    while _encrypt() sends more than a record  data written meanwhile waits in _plain
    _plain_is_full while _plain is above the high-water mark  _pause_count includes it
    _shared        once other code has the socket object      writes are not joined any more

``_pause_count`` counts the reasons to pause the writing of the layer above, at most two: ``_plain``
is full, or the write buffer of the layer below is. In OPEN, written data waits in ``_plain`` only
behind other data that waits there, or while ``_encrypting``.

Why CLOSING waits for the peer: a socket that is closed while it holds unread bytes sends a reset,
and a reset destroys the data that the peer has not read yet. FLUSHING lasts only while OpenSSL
cannot encrypt the data in ``_plain``, because a renegotiation (TLS 1.2) waits for the peer.

A peer that sends without end must not keep the connection open. After ``close()`` the layer drops
as many bytes as were delivered to the peer in the meantime, and ``_DROP_MOST`` more. Then it reads
nothing for ``_DROP_PAUSE`` seconds. If all written data has reached the peer's system by then, the
connection is closed: the peer had time to read. If not, the layer drops more bytes, ``_DROP_MOST``
for each pause, until the shutdown timeout: the peer may be one that does not read before it has
finished writing.

The layer and OpenSSL exchange encrypted bytes through two memory BIOs. OpenSSL may put bytes into
the outgoing one at any time, while reading too (alerts, key updates), so each operation ends with
``_flush``, which sends them.

Writes of one turn may be joined, so that they make one record: see ``kernel.joined_writes``. Data
is collected in OPEN only, and only while ``_plain`` is empty.

Source: RFC 8446, RFC 5246 and the ``ssl`` module's documentation.
"""

from __future__ import annotations

import logging
import ssl
from collections import deque
from typing import Any, Final

from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.lost_writes import warn_of_lost_write
from runtime.kernel.joined_writes import JoinedWrites, Writer
from runtime.net.connection.layers import Lower, Upper, copy_of, join_parts, view_of
from runtime.net.connection.openssl import (
    RECORD,
    discard_received,
    explain_handshake_error,
    extra_info,
    send_close_notify,
    truncated_error,
)

# The states, in the order of the table above: comparisons such as ``_state < _FLUSHING`` use it.
_HANDSHAKE: Final = 0
_OPEN: Final = 1
_FLUSHING: Final = 2
_CLOSING: Final = 3
_CLOSED: Final = 4

_OVERHEAD: Final = 512
"""More bytes than encryption adds to a record: header, nonce, padding and authentication code."""

_FLUSH_AT: Final = 16 * RECORD
"""Bytes to encrypt before they are sent: few enough to stay in the processor's cache."""

_DROP_MOST: Final = 64 * 1024
"""Bytes to drop after ``close()``, in addition to as many as are delivered in the meantime."""

_DROP_PAUSE: Final = 0.1
"""Seconds without reading: longer than a peer needs to read the data that its system holds."""

_logger: Final = logging.getLogger("asyncio")


class TLSLayer(Upper, Lower, Writer):
    """TLS for the layer ``upper``, over the layer ``lower``.

    Timeouts are in seconds. A client sends ``server_hostname`` to the server (SNI), and checks that
    the certificate is for that name.
    """

    __slots__ = (
        "_drop_pause",
        "_dropped",
        "_encrypting",
        "_error",
        "_handshake_timeout",
        "_incoming",
        "_input_ended",
        "_is_made",
        "_leftover",
        "_loop",
        "_lower",
        "_outgoing",
        "_pause_count",
        "_paused",
        "_peer_closed",
        "_plain",
        "_plain_is_full",
        "_plain_size",
        "_shared",
        "_shutdown_timeout",
        "_ssl",
        "_state",
        "_timer",
        "_truncated",
        "_undelivered",
        "_unsent_before",
        "_upper",
        "_writes_lost",
        "joined",
        "wrote_in",
    )

    def __init__(
        self,
        loop: LoopCore,
        lower: Lower,
        upper: Upper,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: Any,  # Any type that the ssl module accepts as a name.
        handshake_timeout: float,
        shutdown_timeout: float,
        session: ssl.SSLSession | None = None,
    ) -> None:
        Upper.__init__(self)
        # A message of 64 KiB is larger than 64 KiB once it is encrypted.
        self.use_large_reads()
        self._loop = loop
        self._lower = lower
        self._upper: Upper | None = upper
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl: Any = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        self._state = _HANDSHAKE
        self._handshake_timeout = handshake_timeout
        self._shutdown_timeout = shutdown_timeout
        # The timeout of the handshake, later that of the shutdown.
        self._timer: Any = None
        # The flags, in the order of the table at the head of this module.
        self._is_made = False
        self._paused = False
        self._leftover = False
        self._input_ended = False
        self._peer_closed = False
        self._truncated = False
        self._encrypting = False
        self._plain_is_full = False
        self._shared = False
        # Data that waits to be encrypted: written before the handshake was complete, during a
        # renegotiation, or while ``_encrypting``.
        self._plain: deque[bytes] = deque()
        self._plain_size = 0
        self._pause_count = 0
        # See ``Writer``.
        self.wrote_in = -1
        self.joined: JoinedWrites | None = loop._poller.writers.new_joined_writes()
        # The number of writes after ``close()``, for the warning about them.
        self._writes_lost = 0
        # The number of unsent bytes when the shutdown's timer was last started.
        self._unsent_before = 0
        # Since ``close()``: the number of bytes dropped beyond the number delivered; the number of
        # undelivered bytes when ``_dropped`` was last updated; and the timer of a pause.
        self._dropped = 0
        self._undelivered = 0
        self._drop_pause: Any = None
        # The error of a truncated connection.
        self._error: BaseException | None = None

    def set_upper(self, upper: Upper) -> None:
        self.send_joined()
        self._upper = upper
        if self._peer_closed and self._state == _OPEN:
            # The new layer has to learn of the peer's close_notify too: it is read again.
            self._peer_closed = False
            self._input_ended = True  # Bytes after it are ignored.
            self._incoming.write_eof()

    def get_protocol(self) -> object:
        return None if self._upper is None else self._upper.get_protocol()

    def start(self) -> None:
        self._lower.set_upper(self)
        self._lower.start()

    def insert(self, writing_paused: bool) -> None:
        """Take the place between the layers of an open connection; receive nothing yet.

        ``writing_paused`` says whether the layer below has paused writing: it will resume writing
        through this layer, which must have counted that pause.
        """
        self._pause_count = 1 if writing_paused else 0
        self._lower.set_upper(self)
        self._lower.pause_reading()

    def take_over(self, received: bytes) -> None:
        """Start TLS after ``insert``; ``received`` are the first bytes of the handshake.

        Raises ConnectionAbortedError if the connection was lost in the meantime.
        """
        if self._state == _CLOSED:
            raise ConnectionAbortedError("the connection was lost before the TLS handshake")
        self._incoming.write(received)
        self._lower.resume_reading()
        self.connected()

    # -- The handshake -----------------------------------------------------------------------------

    def connected(self) -> None:
        self._timer = self._loop.call_later(self._handshake_timeout, self._handshake_is_late)
        self._handshake()

    def _handshake(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except Exception as error:
            # From OpenSSL, from the check of the certificate, or from a callback that the program
            # has set on the context.
            self._flush()  # Send the alert that tells the peer the reason.
            explain_handshake_error(error)
            self.fail(error.with_traceback(None))
            return
        self._cancel_timer()
        self._state = _OPEN
        self._is_made = True
        self._flush()
        upper = self._upper
        if upper is not None and self._state == _OPEN:
            upper.connected()
        if self._plain and self._state < _CLOSING:
            self._send_plain()
        if self._state == _OPEN:
            self._read()

    def _handshake_is_late(self) -> None:
        self._timer = None
        self.fail(
            ConnectionAbortedError(
                f"SSL handshake is taking longer than {self._handshake_timeout} seconds: "
                "aborting the connection"
            )
        )

    def _cancel_timer(self) -> None:
        timer = self._timer
        if timer is not None:
            self._timer = None
            timer.cancel()
        timer = self._drop_pause
        if timer is not None:
            self._drop_pause = None
            timer.cancel()

    # -- Reading -----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if self._peer_closed:
            return  # RFC 8446, section 6.1: data after a close_notify is ignored.
        self._incoming.write(data)
        state = self._state
        if state == _OPEN:
            self._read()
        elif state == _HANDSHAKE:
            self._handshake()
        elif state != _CLOSED:
            self._dropped += len(data)
            self._drop_input()
            if self._dropped >= _DROP_MOST:
                self._pause_dropping()

    def _read(self) -> None:
        """Decrypt the received records and deliver their contents, unless reading is paused."""
        try:
            self._read_records()
        except (KeyboardInterrupt, SystemExit):
            # No event will come for records that were received but not delivered: schedule a read.
            if not self._loop.is_closed():
                self._loop.call_soon(self._read_on)
            raise

    def _read_records(self) -> None:
        incoming = self._incoming
        while self._state == _OPEN and not self._paused and not self._peer_closed:
            upper = self._upper
            if upper is None:
                return
            joined = self.joined
            if joined is not None and joined.size:
                # Before the next read: if that fails, OpenSSL does not encrypt any more.
                self._encrypt_joined()
                continue
            if upper.wants_buffer or self._leftover:
                if not self._read_into_buffer(upper):
                    break
                continue
            if not incoming.pending and not self._input_ended:
                break
            try:
                data = self._ssl.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except Exception as error:
                self._cannot_read(error)
                return
            if data:
                upper.received(data)
            else:
                self._end_by_notice(upper)
        if self._outgoing.pending:
            self._flush()
        if self._plain and self._state == _OPEN and not self._encrypting:
            self._send_plain()

    def _read_into_buffer(self, upper: Upper) -> bool:
        """Decrypt into the buffer of ``upper``; return False if reading has to stop."""
        ssl_object = self._ssl
        if not self._incoming.pending and not ssl_object.pending() and not self._input_ended:
            self._leftover = False
            return False
        if not upper.wants_buffer:
            self._deliver_leftover(upper)
            return True
        buffer = upper.get_buffer()
        if buffer is None or self._state != _OPEN or self._paused:
            # ``get_buffer`` has failed, closed the connection, paused reading or set another
            # protocol. The loop of the caller looks at each of these.
            return True
        try:
            size = ssl_object.read(RECORD, buffer)
        except ssl.SSLWantReadError:
            return False
        except (TypeError, BufferError) as error:
            buffer = None
            upper.refused_buffer(error)
            return False
        except Exception as error:
            buffer = None
            return self._cannot_read(error)
        self._leftover = True
        # Drop this reference: ``buffer_updated`` may resize the buffer, or hand it on without a
        # copy, which fails while other code has a view of it.
        buffer = None
        if size:
            upper.buffer_updated(size)
        else:
            self._end_by_notice(upper)
        return True

    def _deliver_leftover(self, upper: Upper) -> None:
        """Deliver the rest of a record as bytes, to a protocol that has replaced a buffered one."""
        self._leftover = False
        if self._ssl.pending():
            upper.received(self._ssl.read(RECORD))

    def _cannot_read(self, error: Exception) -> bool:
        """Close the connection because of ``error``; return False for ``_read_into_buffer``."""
        if isinstance(error, ssl.SSLEOFError):
            # The peer ended the connection without a close_notify: bytes may be missing.
            self._truncated = True
            self._error = truncated_error()
            # Discard OpenSSL's alert: such a peer would report it as a failure.
            self._outgoing.read()
            self.close()
        else:
            self._flush()  # Send the alert that tells the peer the reason.
            self.fail(error.with_traceback(None))
        return False

    def _end_by_notice(self, upper: Upper) -> None:
        self._peer_closed = True
        self.announce_end(upper)

    def ended(self) -> bool:
        self._input_ended = True
        self._incoming.write_eof()
        state = self._state
        if state == _HANDSHAKE:
            self.fail(ConnectionResetError("the peer ended the connection in the TLS handshake"))
        elif state == _OPEN:
            if not self._peer_closed:
                self._read()
            return self._state != _CLOSED
        elif state == _FLUSHING:
            self._drop_input()
        return False

    def pause_reading(self) -> None:
        self.send_joined()
        if not self._paused and self._state < _FLUSHING:
            self._paused = True
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self._state < _FLUSHING:
            self._paused = False
            if not self._input_ended:
                self._lower.resume_reading()
            # Not at once: the caller may be a protocol inside ``data_received``, and its next data
            # must not come before that has returned.
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        try:
            self._read()
        except Exception as error:
            self.fail(error)
            raise

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        size = len(data) if isinstance(data, bytes) else view_of(data).nbytes
        if size == 0:
            return
        loop = self._loop
        if self._can_encrypt():
            if self.joins(data, size, loop._turns, loop._poller.writers):
                return
            # Sending the collected data may have changed the state.
            if self._can_encrypt():
                self._encrypt_at_once(data)
                return
        if self._state >= _FLUSHING:
            self._writes_lost += 1
            warn_of_lost_write(self._writes_lost, "write() to a connection that is closed", self)
            return
        self._plain.append(data if isinstance(data, bytes) else copy_of(data))
        self._plain_size += size
        self._pause_if_high()

    def _can_encrypt(self) -> bool:
        """Return whether data that is written now can be encrypted before other data."""
        return self._state == _OPEN and not self._plain and not self._encrypting

    def most_joined(self) -> int:
        if self._shared:
            return 0
        # The encrypted record must not take the layer below beyond its high-water mark either: it
        # would pause writing when the turn has ended.
        lower = self._lower
        return min(lower.water_marks()[1] - lower.unsent_size() - _OVERHEAD, RECORD)

    def send_joined(self) -> None:
        self._encrypt_joined()
        self._lower.send_joined()

    def _encrypt_joined(self) -> None:
        """Encrypt the collected data, and write it to the layer below."""
        joined = self.joined
        if joined is not None and joined.size:
            data = joined.take()
            if self._loop._refusal is None:  # In the child of a fork, the parent sends it.
                self._encrypt_at_once(data)

    def _encrypt_at_once(self, data: Any) -> None:
        # A copy and not a view: ``pause_writing``, which is called in between, may change ``data``.
        if self._encrypt(data if isinstance(data, bytes) else copy_of(data)) and self._plain:
            self._send_plain()

    def write_many(self, parts: list[Any]) -> None:
        self.write(parts[0] if len(parts) == 1 else join_parts(parts))

    def _encrypt(self, data: Any) -> bool:
        """Encrypt and send ``data``; return False if a part had to be kept, or on a failure."""
        position = 0
        try:
            if isinstance(data, bytes) and len(data) <= RECORD:
                if data:
                    self._ssl.write(data)
                    self._flush()
                return True
            rest = memoryview(data).cast("B")
            self._encrypting = True
            while position < len(rest) and self._state != _CLOSED:
                position += self._ssl.write(rest[position : position + _FLUSH_AT])
                # This may call ``pause_writing`` of the layer above, which may close the
                # connection, or write: such data is kept in ``_plain``.
                self._flush()
        except ssl.SSLWantReadError:
            # OpenSSL is in a renegotiation, and the peer has to answer first.
            kept = bytes(data)[position:]
            self._plain.appendleft(kept)
            self._plain_size += len(kept)
            self._encrypting = False
            self._flush()
            self._pause_if_high()
            return False
        except Exception as error:
            self._encrypting = False
            self._flush()
            self.fail(error.with_traceback(None))
            return False
        self._encrypting = False
        if self._state == _FLUSHING and not self._plain:
            self._enter_closing()
        return True

    def _send_plain(self) -> None:
        """Encrypt and send the data in ``_plain``, until OpenSSL has to wait for the peer."""
        kept = self._plain
        while kept:
            data = kept.popleft()
            self._plain_size -= len(data)
            if not self._encrypt(data):
                return
        if self._plain_is_full:
            self._plain_is_full = False
            self.resume_writing()
        if self._state == _FLUSHING:
            self._enter_closing()

    def _flush(self) -> None:
        """Send the bytes that OpenSSL has put into the outgoing BIO."""
        outgoing = self._outgoing
        if outgoing.pending:
            self._lower.write(outgoing.read())

    def _pause_if_high(self) -> None:
        """Pause the writing of the layer above if too much data waits to be encrypted."""
        if not self._plain_is_full and self._plain_size > self._lower.water_marks()[1]:
            self._plain_is_full = True
            self.pause_writing()

    def pause_writing(self) -> None:
        self._pause_count += 1
        if self._pause_count == 1 and self._upper is not None:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        self._pause_count -= 1
        if self._pause_count == 0 and self._upper is not None:
            self._upper.resume_writing()

    def unsent_size(self) -> int:
        self.send_joined()
        return self._plain_size + self._lower.unsent_size()

    def undelivered_size(self) -> int:
        self.send_joined()
        return self._plain_size + self._lower.undelivered_size()

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        self.send_joined()
        self._lower.set_water_marks(high, low)

    def water_marks(self) -> tuple[int, int]:
        return self._lower.water_marks()

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS cannot end one direction alone: use close()")

    # -- Ending ------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._state >= _FLUSHING

    def is_closed(self) -> bool:
        return self._state == _CLOSED

    def close(self) -> None:
        if self._state == _HANDSHAKE:
            self.fail(None)
            return
        if self._state != _OPEN:
            return
        self.send_joined()
        if self._state != _OPEN:
            return  # The connection was lost, or closed by ``pause_writing``.
        self._state = _FLUSHING
        self.uses_large_reads = False
        self._unsent_before = self.unsent_size()
        self._undelivered = self.undelivered_size()
        self._timer = self._loop.call_later(self._shutdown_timeout, self._shutdown_is_late)
        if not self._input_ended:
            self._lower.resume_reading()
        if not self._plain and not self._encrypting:
            self._enter_closing()
        elif not self._encrypting and (self._input_ended or self._peer_closed):
            self._drop_input()

    def _enter_closing(self) -> None:
        """Send the close_notify; close at once if nothing more can come from the peer."""
        self._state = _CLOSING
        # OpenSSL fails to make a close_notify while received application data is unread.
        is_over = self._discard()
        if not self._truncated:
            send_close_notify(self._ssl)
        self._flush()
        if is_over:
            self._lower.close()

    def _drop_input(self) -> None:
        """Drop the received data; continue with closing once the peer has sent everything."""
        is_over = self._discard()
        self._flush()
        if self._state == _FLUSHING:
            if not is_over:
                self._send_plain()
                return
            lost = f"{self._plain_size} bytes could not be sent"
            self.fail(ConnectionResetError(f"the peer ended a TLS renegotiation: {lost}"))
        elif is_over:
            self._lower.close()

    def _pause_dropping(self) -> None:
        """Read nothing for ``_DROP_PAUSE`` seconds: the peer still sends after ``close()``."""
        if self._state == _CLOSED or self._drop_pause is not None or not self._drops_too_much():
            return
        self._lower.pause_reading()
        self._drop_pause = self._loop.call_later(_DROP_PAUSE, self._end_drop_pause)

    def _end_drop_pause(self) -> None:
        self._drop_pause = None
        if self._drops_too_much():
            if self._state == _CLOSING and not self._undelivered:
                self._lower.close()
                return
            self._dropped = 0
        self._lower.resume_reading()

    def _drops_too_much(self) -> bool:
        """Update ``_dropped``; return whether it is at least ``_DROP_MOST``."""
        undelivered = self.undelivered_size()
        self._dropped -= self._undelivered - undelivered
        self._undelivered = undelivered
        return self._dropped >= _DROP_MOST

    def _discard(self) -> bool:
        """Drop the received data; return whether no more can come."""
        if not self._peer_closed:
            self._peer_closed = discard_received(self._ssl)
        return self._peer_closed

    def _shutdown_is_late(self) -> None:
        self._timer = None
        unsent = self.unsent_size()
        if unsent < self._unsent_before:
            # The peer is slow, but it reads: wait as long again.
            self._unsent_before = unsent
            self._timer = self._loop.call_later(self._shutdown_timeout, self._shutdown_is_late)
            return
        self.fail(TimeoutError(f"SSL shutdown timed out after {self._shutdown_timeout} seconds"))

    def fail(self, error: BaseException | None) -> None:
        if self._state != _CLOSED:
            self.send_joined()
            self._lower.fail(error)

    def lost(self, error: BaseException | None) -> None:
        upper = self._upper
        self._upper = None
        try:
            self._cancel_timer()
            if not self._is_made and error is not None and self._loop._debug:
                # A server has no caller to raise the error to. It is logged in debug mode only,
                # since any client could fill the log with it.
                _logger.debug("%r: SSL handshake failed: %r", self, error)
        finally:
            self._state = _CLOSED
            self._plain.clear()
            self._plain_size = 0
            self.joined = None
            if self._error is not None and (upper is None or upper.truncation_is_error):
                error = self._error
            self._error = None
            if upper is not None:
                upper.lost(error)

    # -- Information -------------------------------------------------------------------------------

    def info(self, name: object) -> Any:
        if name == "truncated":
            return self._truncated
        if name == "socket":
            # The caller may end the connection through the socket: nothing is joined any more.
            self.send_joined()
            self.joined = None
            self._shared = True
        found = extra_info(self._ssl, name)
        return self._lower.info(name) if found is None else found

    def __repr__(self) -> str:
        names = ("handshake", "open", "closing", "closing", "closed")
        return f"<TLS {names[self._state]} over {self._lower!r}>"

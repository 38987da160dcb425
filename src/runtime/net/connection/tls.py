"""TLS: a layer of a connection, between whatever carries the encrypted bytes and the top.

::

    HANDSHAKE ----> OPEN ---- close(), or the peer's close_notify ----> FLUSHING ----> CLOSING
        |             |       (for a top that does not go on alone)        |  close_notify  |
        |             |  what still comes is dropped, until the peer's     |  was sent      |
        |             |  close_notify, its end, or the timeout            |                v
        +---- a failure, fail(), or a timeout ----------------------------------------> CLOSED

Why CLOSING waits for the peer: a socket that is closed with unread bytes in it sends a reset, which
destroys what was written and not read. FLUSHING lasts only while OpenSSL cannot encrypt what was
written, because a renegotiation (TLS 1.2) waits for the peer.

A peer that goes on sending is not to be listened to for as long as it likes. Since ``close()`` the
layer drops as many bytes as were delivered to the peer meanwhile, and ``_DROP_MOST`` more. Then it
reads nothing for ``_DROP_PAUSE`` seconds. If everything that was written has reached the peer's
system by then, the connection is closed: the peer had time to read what is there. If not, more is
dropped, ``_DROP_MOST`` bytes for each pause, until the timeout: the peer may be one that does not
read before it has written.

Between the layer and OpenSSL are two memory BIOs. Whatever OpenSSL puts into the outgoing one, in
the course of reading too (alerts, key updates), is sent at once: see ``_flush``.

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
from runtime.net.connection.layers import Lower, Upper, copy_of, joined, view_of
from runtime.net.connection.openssl import (
    RECORD,
    discard,
    explain_handshake_error,
    extra_info,
    send_close_notify,
    truncated,
)

_HANDSHAKE: Final = 0
_OPEN: Final = 1
_FLUSHING: Final = 2
_CLOSING: Final = 3
_CLOSED: Final = 4

_FLUSH_AT: Final = 16 * RECORD  # Bytes encrypted before they are sent: in the processor's cache.

_DROP_MOST: Final = 64 * 1024
"""Bytes that are dropped after ``close()`` beyond what is delivered meanwhile."""

_DROP_PAUSE: Final = 0.1
"""Seconds without reading: more than a peer takes to read what its system has for it."""

_logger: Final = logging.getLogger("asyncio")


class TLSLayer(Upper, Lower):
    """TLS over ``lower``, for ``upper``.

    Times are in seconds. A client asks for ``server_hostname``, and checks the certificate for it.
    """

    __slots__ = (
        "_drop_pause",
        "_dropped",
        "_encrypting",
        "_error",
        "_handshake_timeout",
        "_holds",
        "_incoming",
        "_input_ended",
        "_is_made",
        "_leftover",
        "_loop",
        "_lower",
        "_outgoing",
        "_paused",
        "_peer_closed",
        "_plain",
        "_plain_holds",
        "_plain_size",
        "_shutdown_timeout",
        "_ssl",
        "_state",
        "_timer",
        "_truncated",
        "_undelivered",
        "_unsent_before",
        "_upper",
        "_writes_lost",
    )

    def __init__(
        self,
        loop: LoopCore,
        lower: Lower,
        upper: Upper,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: Any,  # Whatever the ssl module takes for a name.
        handshake_timeout: float,
        shutdown_timeout: float,
        session: ssl.SSLSession | None = None,
    ) -> None:
        Upper.__init__(self)
        # A message of 64 KiB is more than that when it is encrypted.
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
        self._timer: Any = None
        self._is_made = False
        # Reading; whether a buffer took only a part of a record.
        self._paused = False
        self._leftover = False
        self._input_ended = False
        self._peer_closed = False
        self._truncated = False
        # Written before the handshake's end, in a renegotiation, or while other data is being sent.
        self._plain: deque[bytes] = deque()
        self._plain_size = 0
        self._encrypting = False
        # How many of the two hold writers up: what was not sent, and what was not encrypted.
        self._holds = 0
        self._plain_holds = False
        self._writes_lost = 0
        # What was unsent when the shutdown's time was last looked at, in bytes.
        self._unsent_before = 0
        # How many bytes more than were delivered have been dropped since ``close()``; what was
        # undelivered when that was last looked at; and the timer of a pause.
        self._dropped = 0
        self._undelivered = 0
        self._drop_pause: Any = None
        self._error: BaseException | None = None

    def set_upper(self, upper: Upper) -> None:
        self._upper = upper

    def get_protocol(self) -> object:
        return None if self._upper is None else self._upper.get_protocol()

    def start(self) -> None:
        self._lower.set_upper(self)
        self._lower.start()

    def take_over(self, received: bytes) -> None:
        """Begin on a connection that is open, with what it has received already."""
        self._lower.set_upper(self)
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
            # OpenSSL, the check of a certificate, or a callback of the context, which is Python.
            self._flush()  # The alert that says why.
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
            return  # What comes after a close_notify is to be ignored.
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
        """Hand over what can be decrypted, unless reading is paused."""
        try:
            self._read_records()
        except (KeyboardInterrupt, SystemExit):
            # No event will come for the records that were received and not handed over.
            if not self._loop.is_closed():
                self._loop.call_soon(self._read_on)
            raise

    def _read_records(self) -> None:
        incoming = self._incoming
        while self._state == _OPEN and not self._paused and not self._peer_closed:
            upper = self._upper
            if upper is None:
                return
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
        """Decrypt into the buffer of ``upper``; return False when there is nothing."""
        ssl_object = self._ssl
        if not self._incoming.pending and not ssl_object.pending() and not self._input_ended:
            self._leftover = False
            return False
        if not upper.wants_buffer:
            # Another protocol, which takes bytes, gets the rest of the record.
            self._leftover = False
            if ssl_object.pending():
                upper.received(ssl_object.read(RECORD))
            return True
        buffer = upper.get_buffer()
        if buffer is None or self._state != _OPEN or self._paused:
            return True  # Whoever was asked has failed, closed, paused, or handed over.
        try:
            size = ssl_object.read(RECORD, buffer)
        except ssl.SSLWantReadError:
            return False
        except (TypeError, BufferError) as error:
            buffer = None
            upper.refused_buffer(error)
            return False
        except Exception as error:
            buffer = None  # It may be given away now.
            return self._cannot_read(error)
        self._leftover = True
        buffer = None  # Whoever it belongs to may be about to give it away.
        if size:
            upper.buffer_updated(size)
        else:
            self._end_by_notice(upper)
        return True

    def _cannot_read(self, error: Exception) -> bool:
        if isinstance(error, ssl.SSLEOFError):
            # The peer ended the connection, and did not say so: bytes may be missing.
            self._truncated = True
            self._error = truncated()
            self._outgoing.read()  # OpenSSL's alert: such a peer takes it for a failure.
            self.close()
        else:
            self._flush()  # The alert that says why.
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
            self.fail(ConnectionResetError("The peer ended the connection in the TLS handshake."))
        elif state == _OPEN:
            if not self._peer_closed:
                self._read()
            return self._state != _CLOSED
        elif state == _FLUSHING:
            self._drop_input()
        return False

    def pause_reading(self) -> None:
        if not self._paused and self._state < _FLUSHING:
            self._paused = True
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self._state < _FLUSHING:
            self._paused = False
            if not self._input_ended:
                self._lower.resume_reading()
            # Not from in here, which may be called by whoever is being given something.
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        try:
            self._read()
        except Exception as error:
            self.fail(error)
            raise

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._state == _OPEN and not self._plain and not self._encrypting:
            if self._encrypt(data if isinstance(data, bytes) else view_of(data)) and self._plain:
                self._send_plain()
            return
        kept = data if isinstance(data, bytes) else copy_of(data)
        if self._state >= _FLUSHING:
            self._writes_lost += 1
            warn_of_lost_write(self._writes_lost, "write() to a connection that is closed", self)
        elif kept:
            self._plain.append(kept)
            self._plain_size += len(kept)
            self._hold()

    def write_many(self, parts: list[Any]) -> None:
        self.write(parts[0] if len(parts) == 1 else joined(parts))

    def _encrypt(self, data: Any) -> bool:
        """Send ``data``. Return False when it was kept, or a part of it, or cannot be sent."""
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
                # Whoever is told to pause in here may write, which is kept, or close.
                self._flush()
        except ssl.SSLWantReadError:
            # A renegotiation: the peer has to answer first.
            kept = bytes(data)[position:]
            self._plain.appendleft(kept)
            self._plain_size += len(kept)
            self._encrypting = False
            self._flush()
            self._hold()
            return False
        except Exception as error:
            self._encrypting = False
            self._flush()
            self.fail(error.with_traceback(None))
            return False
        self._encrypting = False
        if self._state == _FLUSHING and not self._plain:
            self._say_goodbye()
        return True

    def _send_plain(self) -> None:
        """Encrypt what was kept, as far as that can be done now."""
        kept = self._plain
        while kept:
            data = kept.popleft()
            self._plain_size -= len(data)
            if not self._encrypt(data):
                return
        if self._plain_holds:
            self._plain_holds = False
            self.resume_writing()
        if self._state == _FLUSHING:
            self._say_goodbye()

    def _flush(self) -> None:
        outgoing = self._outgoing
        if outgoing.pending:
            self._lower.write(outgoing.read())

    def _hold(self) -> None:
        """Hold writers up when too much waits to be encrypted."""
        if not self._plain_holds and self._plain_size > self._lower.water_marks()[1]:
            self._plain_holds = True
            self.pause_writing()

    def pause_writing(self) -> None:
        self._holds += 1
        if self._holds == 1 and self._upper is not None:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        self._holds -= 1
        if self._holds == 0 and self._upper is not None:
            self._upper.resume_writing()

    def unsent_size(self) -> int:
        return self._plain_size + self._lower.unsent_size()

    def undelivered_size(self) -> int:
        return self._plain_size + self._lower.undelivered_size()

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        self._lower.set_water_marks(high, low)

    def water_marks(self) -> tuple[int, int]:
        return self._lower.water_marks()

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS cannot end one direction alone: use close().")

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
        self._state = _FLUSHING
        self.uses_large_reads = False
        self._unsent_before = self.unsent_size()
        self._undelivered = self.undelivered_size()
        self._timer = self._loop.call_later(self._shutdown_timeout, self._shutdown_is_late)
        if not self._input_ended:
            self._lower.resume_reading()
        if not self._plain and not self._encrypting:
            self._say_goodbye()
        elif not self._encrypting and (self._input_ended or self._peer_closed):
            self._drop_input()

    def _say_goodbye(self) -> None:
        """Send close_notify; close at once if nothing more can come from the peer."""
        self._state = _CLOSING
        # OpenSSL takes bytes that it finds while it says goodbye for an error.
        is_over = self._discard()
        if not self._truncated:
            send_close_notify(self._ssl)
        self._flush()
        if is_over:
            self._lower.close()

    def _drop_input(self) -> None:
        """Read on, for nobody, until the peer says that it is done."""
        is_over = self._discard()
        self._flush()
        if self._state == _FLUSHING:
            if not is_over:
                self._send_plain()
                return
            lost = f"{self._plain_size} bytes could not be sent"
            self.fail(ConnectionResetError(f"The peer ended a TLS renegotiation: {lost}."))
        elif is_over:
            self._lower.close()

    def _pause_dropping(self) -> None:
        """Read nothing for a while: the peer goes on sending what nobody wants."""
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
        undelivered = self.undelivered_size()
        self._dropped -= self._undelivered - undelivered
        self._undelivered = undelivered
        return self._dropped >= _DROP_MOST

    def _discard(self) -> bool:
        """Drop what has come. Return whether no more can."""
        if not self._peer_closed:
            self._peer_closed = discard(self._ssl)
        return self._peer_closed

    def _shutdown_is_late(self) -> None:
        self._timer = None
        unsent = self.unsent_size()
        if unsent < self._unsent_before:
            # The peer is slow, but it reads.
            self._unsent_before = unsent
            self._timer = self._loop.call_later(self._shutdown_timeout, self._shutdown_is_late)
            return
        self.fail(TimeoutError(f"SSL shutdown timed out after {self._shutdown_timeout} seconds"))

    def fail(self, error: BaseException | None) -> None:
        if self._state != _CLOSED:
            self._lower.fail(error)

    def lost(self, error: BaseException | None) -> None:
        upper = self._upper
        self._upper = None
        try:
            self._cancel_timer()
            if not self._is_made and error is not None and self._loop._debug:
                # Of a server nobody else would be told; and anybody may cause it: only here.
                _logger.debug("%r: SSL handshake failed: %r", self, error)
        finally:
            self._state = _CLOSED
            self._plain.clear()
            if self._error is not None and (upper is None or upper.truncation_is_error):
                error = self._error
            self._error = None
            if upper is not None:
                upper.lost(error)

    # -- What is known of it -----------------------------------------------------------------------

    def info(self, name: object) -> Any:
        if name == "truncated":
            return self._truncated
        found = extra_info(self._ssl, name)
        return self._lower.info(name) if found is None else found

    def __repr__(self) -> str:
        names = ("handshake", "open", "closing", "closing", "closed")
        return f"<TLS {names[self._state]} over {self._lower!r}>"

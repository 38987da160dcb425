"""TLS: a layer of a connection, between whatever carries the encrypted bytes and the top.

::

    HANDSHAKE ----------> OPEN ---- close(), or the peer's close_notify ----> CLOSING
        |                  |        (for a top that does not go on alone)        |
        |                  |                                                     |
        |                  |   close_notify was sent, after everything written;  |
        |                  |   what still comes is read and dropped, until the   |
        |                  |   peer's close_notify, its end, or the time-out     v
        +---- a failure, fail(), or a time-out ----------------------------> CLOSED

Why CLOSING waits for the peer: a socket that is closed with unread bytes in it sends a reset, which
would destroy what was written and has not been read by the peer.

Between the layer and OpenSSL are two memory BIOs. Whatever OpenSSL puts into the outgoing one, in
the course of reading too (alerts, key updates), is sent at once: see ``_flush``.

Source: RFC 8446, RFC 5246 and the ``ssl`` module's documentation.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections import deque
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.net.layers import Lower, Upper

HANDSHAKE_TIMEOUT: Final = 60.0
SHUTDOWN_TIMEOUT: Final = 30.0

_HANDSHAKE: Final = 0
_OPEN: Final = 1
_CLOSING: Final = 2
_CLOSED: Final = 3

_RECORD: Final = 16384
"""The most bytes that a record holds, and so that one read gives."""

_FLUSH_AT: Final = 4 * _RECORD
"""Bytes that are encrypted before they are sent: what fits into the processor's cache."""

_WARN_AFTER: Final = 5
_logger: Final = logging.getLogger("asyncio")


class TLSLayer(Upper, Lower):
    """TLS over ``lower``, for ``upper``.

    Times are in seconds. ``server_hostname`` is for clients: what SNI and the certificate's check
    go by.
    """

    __slots__ = (
        "_error",
        "_handshake_timeout",
        "_incoming",
        "_input_ended",
        "_loop",
        "_lower",
        "_outgoing",
        "_paused",
        "_peer_closed",
        "_plain",
        "_plain_size",
        "_shutdown_timeout",
        "_ssl",
        "_state",
        "_timer",
        "_truncated",
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
        server_hostname: str | None,
        handshake_timeout: float,
        shutdown_timeout: float,
        session: ssl.SSLSession | None = None,
    ) -> None:
        Upper.__init__(self)
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
        # Reading.
        self._paused = False
        self._input_ended = False
        self._peer_closed = False
        self._truncated = False
        # Written before the handshake's end, or while OpenSSL must read before it can go on.
        self._plain: deque[Any] = deque()
        self._plain_size = 0
        self._writes_lost = 0
        self._error: BaseException | None = None

    def set_upper(self, upper: Upper) -> None:
        self._upper = upper

    def start(self) -> None:
        self._lower.set_upper(self)
        self._lower.start()

    def take_over(self, received: bytes) -> None:
        """Begin on a connection that is open, with what it has received already."""
        self._lower.set_upper(self)
        if received:
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
        except (ssl.SSLError, ValueError) as error:
            self._flush()  # The alert that says why.
            self.fail(error.with_traceback(None))
            return
        self._cancel_timer()
        self._state = _OPEN
        self._flush()
        upper = self._upper
        if upper is not None and self._state == _OPEN:
            upper.connected()
        if self._plain:
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

    # -- Reading -----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self._incoming.write(data)
        state = self._state
        if state == _OPEN:
            self._read()
        elif state == _HANDSHAKE:
            self._handshake()
        elif state == _CLOSING:
            self._drop_input()

    def _read(self) -> None:
        """Hand over what can be decrypted, unless reading is paused."""
        incoming = self._incoming
        ssl_object = self._ssl
        while self._state == _OPEN and not self._paused and not self._peer_closed:
            if not incoming.pending and not ssl_object.pending() and not self._input_ended:
                break
            try:
                data = ssl_object.read(_RECORD)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                self._end_without_notice()
                return
            except ssl.SSLError as error:
                self._flush()
                self.fail(error.with_traceback(None))
                return
            upper = self._upper
            if upper is None:
                return
            if data:
                upper.received(data)
            else:
                self._peer_closed = True
                if not upper.ended():
                    self.close()
        if self._outgoing.pending:
            self._flush()
        if self._plain and self._state == _OPEN:
            self._send_plain()

    def _read_on(self) -> None:
        if self._state == _OPEN:
            self._read()

    def _end_without_notice(self) -> None:
        """Note that the peer ended the connection, and did not say so: bytes may be missing."""
        self._truncated = True
        self._error = ssl.SSLEOFError(
            ssl.SSL_ERROR_EOF,
            "the peer ended the connection without close_notify: data may be missing",
        )
        self.close()

    def ended(self) -> bool:
        self._input_ended = True
        self._incoming.write_eof()
        state = self._state
        if state == _HANDSHAKE:
            self.fail(
                ConnectionResetError("The peer ended the connection during the TLS handshake.")
            )
        elif state == _OPEN:
            if not self._peer_closed:
                self._read()
            return self._state != _CLOSED
        return False

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._input_ended:
                self._lower.resume_reading()
            # Not from in here, which may be called by whoever is being given something.
            self._loop.call_soon(self._read_on)

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        state = self._state
        if state == _OPEN and not self._plain:
            if self._encrypt(data) and self._outgoing.pending:
                self._flush()
        elif state >= _CLOSING:
            self._writes_lost += 1
            if self._writes_lost >= _WARN_AFTER:
                _logger.warning("write() to a connection that is closed: %r", self)
        else:
            self._keep(data)

    def write_many(self, parts: list[Any]) -> None:
        self.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def _keep(self, data: Any) -> None:
        kept = data if isinstance(data, bytes) else memoryview(data).tobytes()
        if kept:
            self._plain.append(kept)
            self._plain_size += len(kept)

    def _encrypt(self, data: Any) -> bool:
        """Put ``data`` into the outgoing BIO; keep what cannot be, now. Return False on failure."""
        size = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        if size == 0:
            return True
        write = self._ssl.write
        position = 0
        flushed = 0
        try:
            if size <= _RECORD:
                position = write(data)
            while position < size:
                # At most a record is taken at a time.
                position += write(memoryview(data).cast("B")[position : position + _RECORD])
                if position - flushed >= _FLUSH_AT:
                    flushed = position
                    self._flush()
                    if self._state == _CLOSED:
                        return False
        except ssl.SSLWantReadError:
            # A renegotiation: the peer has to answer first.
            self._keep(memoryview(data).cast("B")[position:])
        except ssl.SSLError as error:
            self._flush()
            self.fail(error.with_traceback(None))
            return False
        return True

    def _send_plain(self) -> None:
        """Try again to encrypt what was kept."""
        kept = self._plain
        self._plain = deque()
        self._plain_size = 0
        while kept:
            if self._plain:
                self._keep(kept.popleft())
            elif not self._encrypt(kept.popleft()):
                return
        if self._outgoing.pending:
            self._flush()
        if not self._plain and self._state == _CLOSING:
            self._say_goodbye()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._lower.write(self._outgoing.read())

    def hold_writing(self) -> None:
        if self._upper is not None:
            self._upper.hold_writing()

    def resume_writing(self) -> None:
        if self._upper is not None:
            self._upper.resume_writing()

    def unsent_size(self) -> int:
        return self._plain_size + self._lower.unsent_size()

    def set_water_marks(self, high: int | None, low: int | None) -> None:
        self._lower.set_water_marks(high, low)

    def water_marks(self) -> tuple[int, int]:
        return self._lower.water_marks()

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS cannot end one direction alone: use close().")

    # -- Ending ------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._state >= _CLOSING

    def is_closed(self) -> bool:
        return self._state == _CLOSED

    def close(self) -> None:
        if self._state == _HANDSHAKE:
            self.fail(None)
            return
        if self._state != _OPEN:
            return
        self._state = _CLOSING
        self._timer = self._loop.call_later(self._shutdown_timeout, self._shutdown_is_late)
        if self._paused and not self._input_ended:
            self._lower.resume_reading()
        if not self._plain:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Send close_notify; close at once if nothing more can come from the peer."""
        if self._truncated:
            # The peer knows nothing of goodbyes.
            self._flush()
            self._lower.close()
            return
        # It raises unless the peer has said goodbye already: the answer cannot have come yet.
        with contextlib.suppress(ssl.SSLError):
            self._ssl.unwrap()
        self._flush()
        if self._peer_closed or self._input_ended:
            self._lower.close()
        elif self._incoming.pending or self._ssl.pending():
            self._drop_input()

    def _drop_input(self) -> None:
        """Read on, for nobody, until the peer says that it is done."""
        if self._plain:
            # Written before close(), and held up by a renegotiation.
            self._send_plain()
        try:
            while self._ssl.read(_RECORD):
                pass
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                self._flush()
            return
        except ssl.SSLError:
            pass
        self._lower.close()

    def _shutdown_is_late(self) -> None:
        self._timer = None
        self.fail(TimeoutError(f"SSL shutdown timed out after {self._shutdown_timeout} seconds"))

    def fail(self, error: BaseException | None) -> None:
        if self._state != _CLOSED:
            self._lower.fail(error)

    def lost(self, error: BaseException | None) -> None:
        self._cancel_timer()
        if error is None:
            error = self._error
        if self._state == _HANDSHAKE and self._loop.debug:
            # Of a server nobody else would be told; that anybody may cause it is why only here.
            _logger.warning("%r: SSL handshake failed: %r", self, error)
        self._state = _CLOSED
        upper = self._upper
        self._upper = None
        self._plain.clear()
        self._error = None
        if upper is not None:
            upper.lost(None if self._truncated and not upper.minds_truncation else error)

    # -- What is known of it -----------------------------------------------------------------------

    def info(self, name: str) -> Any:
        if name == "ssl_object":
            return self._ssl
        if name == "sslcontext":
            return self._ssl.context
        if name == "truncated":
            return self._truncated
        if name in {"peercert", "cipher", "compression"}:
            if self._state == _HANDSHAKE:
                return None
            return self._ssl.getpeercert() if name == "peercert" else getattr(self._ssl, name)()
        return self._lower.info(name)

    def __repr__(self) -> str:
        names = ("handshake", "open", "closing", "closed")
        return f"<TLS {names[self._state]} over {self._lower!r}>"

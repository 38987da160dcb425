"""A datagram socket in the loop: what arrives goes to a protocol, what is sent goes out at once.

::

    OPEN --- close(): what was kept is sent first ---> ENDED --- connection_lost() ---> CLOSED
      |                                                  ^       (in the next turn)
      +--- abort(), or the socket was closed under us ---+

``ENDED`` is the state in which nothing is watched, sent or received any more, and the socket is
still there for ``connection_lost`` to look at.

``DatagramSocket`` is compiled where a compiler was found. The transport that users hold is thin,
and interpreted: ``runtime.net.datagrams.transport``.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, Protocol

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.lost_writes import warn_of_lost_write
from runtime.kernel.future import FutureCore, finish_future
from runtime.kernel.native import accelerator
from runtime.kernel.poller import READ, WRITE, Watcher
from runtime.kernel.write_buffer import HIGH_WATER, LOW_WATER, water_marks_of
from runtime.net.datagrams.batch_size import MOST, BatchSize
from runtime.net.datagrams.name_lookup import NameLookups
from runtime.net.resolver import needs_lookup

_HEADER: Final = 8
"""Bytes that a kept datagram counts for beyond its own, so that empty ones count for something."""

_LARGEST: Final = 256 * 1024

_IPV4: Final = int(socket.AF_INET)
_IPV6: Final = int(socket.AF_INET6)

_Receive = Callable[[socket.socket], tuple[bytes, Any] | None]
_Send = Callable[[socket.socket, Buffer, Any], int]

_run_in: Final = Context.run


class DatagramReceiver(Protocol):
    """What has the methods of ``asyncio.DatagramProtocol``; all but this are rarely called."""

    def datagram_received(self, data: bytes, address: Any) -> object:
        """Take a datagram and the address of its sender."""


class DatagramSocket(Watcher):
    """One datagram socket, non-blocking, which it owns.

    ``target`` is where datagrams without an address go when the socket is not connected. The
    protocol is called in ``context``, or in whatever there is when that is None; out of ``sendto``
    it is always called in the caller's.
    """

    __slots__ = (
        "_batch",
        "_context",
        "_family",
        "_high_water",
        "_literal",
        "_loop",
        "_low_water",
        "_named",
        "_one_way",
        "_paused",
        "_protocol",
        "_reading",
        "_receive",
        "_remote",
        "_send",
        "_sends_lost",
        "_sock",
        "_sockname",
        "_target",
        "_transport",
        "_write_buffer",
        "closing",
        "ended",
        "peername",
        "unsent",
    )

    def __init__(
        self,
        loop: LoopCore,
        sock: socket.socket,
        protocol: DatagramReceiver,
        target: Any,
        context: Context | None,
    ) -> None:
        Watcher.__init__(self, sock.fileno())
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._protocol: DatagramReceiver | None = protocol
        self._context = context
        # What connection_made() is given, and exception handlers: the transport that users hold.
        self._transport: Any = None
        # They use the socket, not its number, which may be another's by now. The accelerator knows
        # the Internet's addresses only, and nothing of what a subclass of socket does differently.
        self._receive: _Receive = _receive_large
        self._send: _Send | None = None
        self._family = int(sock.family)
        if self._family in (_IPV4, _IPV6):
            is_plain = type(sock) is socket.socket
            self._receive = accelerator.recvfrom if is_plain else accelerator.python_recvfrom
            self._send = accelerator.sendto if is_plain and accelerator.has_accelerator else None
        # Addresses.
        self._sockname: Any = None
        self.peername: Any = None
        try:
            self.peername = sock.getpeername()
            connected = True
        except OSError:
            connected = False
        # Where all datagrams go, if anywhere; None as the target means: where it is connected to.
        self._remote = target
        self._one_way = connected or target is not None
        self._target = None if connected else target
        # Receiving.
        self._reading = False
        self._batch = BatchSize()
        # Sending: what the socket did not take, and its size with the headers.
        self._write_buffer: deque[tuple[bytes, Any]] | None = None
        self.unsent = 0
        self._high_water = HIGH_WATER
        self._low_water = LOW_WATER
        self._paused = False
        self._sends_lost = 0
        # Those whose host is being looked up, and the last host for which nobody had to be asked.
        self._named: NameLookups | None = None
        self._literal: Any = None
        # Ending.
        self.closing = False
        self.ended = False

    # -- Beginning ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to receive. Raises OSError when the socket cannot be watched."""
        self._reading = True
        self._watch()

    def introduce(self, transport: object, waiter: FutureCore) -> None:
        """Introduce ``transport`` to the protocol in the next turn; then finish ``waiter``.

        Whoever awaits that is to call ``start_receiving``: no datagram comes before.
        """
        self._transport = transport
        self._loop.call_soon(self._introduce, waiter, context=self._context)

    def _introduce(self, waiter: FutureCore) -> None:
        self._notify("connection_made", (self._transport,), None)
        if not waiter.done():
            finish_future(waiter, None)

    def start_receiving(self) -> None:
        """Begin to receive, unless closed. Raises what the selector does, and has then ended."""
        if self.closing:
            return
        try:
            self.start()
        except Exception as error:  # A selector of the program's own may raise anything.
            self._end(error)
            raise

    @property
    def sock(self) -> socket.socket | None:
        """The socket; None once it is closed."""
        return self._sock

    def sockname(self) -> Any:
        """Return the socket's own address, the last one that it had when it is closed."""
        sock = self._sock
        if sock is not None:
            try:
                self._sockname = sock.getsockname()
            except OSError:
                pass  # It was closed under us.
        return self._sockname

    def get_protocol(self) -> Any:
        """Return the protocol; None after its ``connection_lost``."""
        return self._protocol

    def set_protocol(self, protocol: DatagramReceiver) -> None:
        """Call another protocol from now on."""
        self._protocol = protocol

    # -- Receiving ---------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Receive a datagram, or several, and hand them over."""
        received = 0
        batch = self._batch
        context = self._context
        while received < batch.size:
            sock = self._sock
            if sock is None:
                return
            try:
                datagram = self._receive(sock)
            except OSError as error:
                if error.errno == errno.EBADF:
                    self.on_lost()
                elif self._still_ours():
                    self._notify("error_received", (error,), self._context)
                return
            if datagram is None:
                batch.ran_dry(received)
                return
            data, address = datagram
            received += 1
            protocol = self._protocol
            if protocol is None:
                return
            try:
                if context is None:
                    protocol.datagram_received(data, address)
                else:
                    _run_in(context, protocol.datagram_received, data, address)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._report("datagram_received", error)
            if not self._reading:
                return
        batch.filled()

    def is_reading(self) -> bool:
        """Return whether datagrams are received."""
        return self._reading

    def pause_reading(self) -> None:
        """Leave what arrives to the system, whose buffer fills; after that it is lost."""
        if self._reading:
            self._reading = False
            self._watch()

    def resume_reading(self) -> None:
        """Receive again after ``pause_reading``."""
        if not self._reading and not self.closing:
            self._reading = True
            self._watch()

    def _watch(self) -> None:
        """Have exactly the events watched that the state asks for."""
        if self.ended or not self._still_ours():
            return
        events = 0
        if self._reading:
            events = READ
        if self._write_buffer:
            events |= WRITE
        self._loop._poller.watch(self, events)

    # -- Sending -----------------------------------------------------------------------------------

    def sendto(self, data: Buffer, addr: Any = None) -> None:
        """Send one datagram, at once or as soon as the socket takes it; ``b""`` is one too.

        ``addr`` is where to; without it, the address that the socket is connected to, or that the
        endpoint was made for. A host name is looked up in a thread, and the datagram kept until
        then. What the system or the look-up refuses is told to ``error_received``. Raises TypeError
        unless ``data`` is bytes-like, ValueError when there is no address, or another than the
        endpoint is bound to, and what ``socket.sendto`` raises for a malformed address.
        """
        try:
            self.transmit(data, addr)
        except OSError as error:
            self._notify("error_received", (error,), None)

    def transmit(self, data: Buffer, address: Any) -> None:
        """As ``sendto``, but raise OSError when the system refuses the datagram now."""
        if not isinstance(data, bytes) and not isinstance(data, (bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if self._one_way:
            if address is not None:
                self._check_address(address)
            address = self._target
        elif address is None:
            raise ValueError(
                "sendto() needs an address: the endpoint was made without remote_addr."
            )
        if self.ended:
            self._sends_lost += 1
            warn_of_lost_write(self._sends_lost, "sendto() on a transport that is closed", self)
            return
        if self._write_buffer:
            if self._is_to_name(address):
                self._look_up(data, address)
            else:
                self._keep(data, address)
            return
        try:
            outcome = self._try_to_send(data, address)
        except OSError:
            if self._still_ours():
                raise
            return
        if outcome == 0:
            self._keep(data, address)
            self._watch()
        elif outcome < 0:
            self._look_up(data, address)

    def _try_to_send(self, data: Buffer, address: Any) -> int:
        """Return 1 when the socket took it, 0 when not now, -1 when its host is to be looked up."""
        sock = self._sock
        assert sock is not None
        outcome = -1
        send = self._send
        if send is not None and (address is None or self._is_of_family(address)):
            outcome = send(sock, data, address)
        if outcome < 0 and not self._is_to_name(address):
            outcome = accelerator.python_sendto(sock, data, address)
        return outcome

    def _is_of_family(self, address: Any) -> bool:
        """Return whether ``address``, which the accelerator may know, is of the socket's family.

        The system would send to an IPv4 address through an IPv6 socket; ``socket.sendto`` refuses.
        """
        return isinstance(address, tuple) and (len(address) == 2) == (self._family == _IPV4)

    def _check_address(self, address: Any) -> None:
        """Raise ValueError unless ``address`` is where all datagrams go anyway."""
        for known in (self._remote, self.peername):
            # Of an IPv6 address, the flow and the scope may be left out.
            if known is not None and (
                address == known or (isinstance(known, tuple) and address == known[:2])
            ):
                return
        bound_to = self.peername if self._remote is None else self._remote
        raise ValueError(f"Invalid address: must be None or {bound_to!r}, not {address!r}")

    # -- Sending to host names ---------------------------------------------------------------------

    def _is_to_name(self, address: Any) -> bool:
        """Return whether the host of ``address`` is a name, to be looked up outside the loop."""
        if self._family != _IPV4 and self._family != _IPV6:
            return False
        if not isinstance(address, tuple) or not address or address[0] == self._literal:
            return False
        if needs_lookup(self._family, address):
            return True
        self._literal = address[0]
        return False

    def _look_up(self, data: Buffer, address: tuple[Any, ...]) -> None:
        """Keep a datagram until its host was looked up; the caller may change ``data``."""
        kept = bytes(data)
        named = self._named
        if named is None:
            assert self._sock is not None
            named = self._named = NameLookups(self._loop, self._sock, self, self._context)
        named.add(kept, address)
        self.unsent += len(kept) + _HEADER
        self._pause_if_full()

    def send_resolved(self, datagrams: list[bytes], address: Any) -> None:
        """Send datagrams whose host was looked up, in order."""
        for data in datagrams:
            if self.ended:
                return
            self.unsent -= len(data) + _HEADER
            try:
                if self._write_buffer or self._try_to_send(data, address) <= 0:
                    self._keep(data, address)
            except OSError as error:
                if not self._still_ours():
                    return
                self._notify("error_received", (error,), self._context)
            except (TypeError, ValueError, OverflowError) as error:
                self._report("sendto", error)
        self._settle()

    def drop_unresolved(self, datagrams: list[bytes], error: Exception) -> None:
        """Drop datagrams whose host could not be looked up, and tell the protocol why."""
        if self.ended:
            return
        for data in datagrams:
            self.unsent -= len(data) + _HEADER
        if isinstance(error, OSError):
            self._notify("error_received", (error,), self._context)
        else:
            self._report("sendto", error)
        self._settle()

    # -- Sending what was kept ---------------------------------------------------------------------

    def _keep(self, data: Buffer, address: Any) -> None:
        """Keep a datagram until the socket takes it; the caller may change ``data`` meanwhile."""
        kept = bytes(data)
        if self._write_buffer is None:
            self._write_buffer = deque()
        self._write_buffer.append((kept, address))
        self.unsent += len(kept) + _HEADER
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self.unsent > self._high_water and not self._paused:
            self._paused = True
            self._notify("pause_writing", (), None)

    def on_writable(self) -> None:
        """Send what was kept; resume the protocol, or close, when enough of it is gone."""
        for _ in range(MOST):
            buffer = self._write_buffer
            if not buffer:
                break
            data, address = buffer[0]
            try:
                if self._try_to_send(data, address) == 0:
                    break
            except OSError as error:
                if not self._still_ours():
                    return
                self._drop_first()
                self._notify("error_received", (error,), self._context)
            except (TypeError, ValueError, OverflowError) as error:
                # The address is malformed; its sender is not here any more to be told.
                self._drop_first()
                self._report("sendto", error)
            else:
                self._drop_first()
        self._settle()

    def _settle(self) -> None:
        """Resume the protocol, go on watching, or close, as far as less is unsent now."""
        if self._paused and self.unsent <= self._low_water and not self.ended:
            self._paused = False
            self._notify("resume_writing", (), self._context)
        if self.closing and not self._has_unsent():
            self._end(None)
        else:
            self._watch()

    def _has_unsent(self) -> bool:
        return bool(self._write_buffer) or (self._named is not None and self._named.any_waits())

    def _drop_first(self) -> None:
        if self._write_buffer:
            data, _ = self._write_buffer.popleft()
            self.unsent -= len(data) + _HEADER

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set the unsent bytes above which the protocol is paused, and those at which it goes on.

        Raises ValueError unless ``high >= low >= 0``.
        """
        self._high_water, self._low_water = water_marks_of(high, low)
        self._pause_if_full()

    def water_marks(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._low_water, self._high_water

    # -- Ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop receiving, send what was kept, then close the socket."""
        if self.closing:
            return
        self.closing = True
        self._reading = False
        if self._has_unsent():
            self._watch()
        else:
            self._end(None)

    def abort(self) -> None:
        """Stop now; what was kept is dropped."""
        self._end(None)

    def fail(self, error: BaseException | None) -> None:
        """Stop now, and tell the protocol that it is because of ``error``."""
        self._end(error)

    def on_lost(self) -> None:
        """Note that the descriptor was closed by somebody else, and has another owner by now."""
        sock = self._sock
        if sock is not None and sock.fileno() == self.fd:
            sock.detach()
        self._still_ours()

    def _still_ours(self) -> bool:
        """Return whether the socket is open; end when it was closed under us."""
        sock = self._sock
        if sock is not None and sock.fileno() == self.fd:
            return True
        self._end(
            ConnectionAbortedError(
                f"The socket with file descriptor {self.fd} was closed while its transport was "
                "open: close the transport instead."
            )
        )
        return False

    def _end(self, error: BaseException | None) -> None:
        """Stop everything; ``connection_lost(error)`` follows in the next turn."""
        if self.ended:
            return
        self.sockname()
        self._stop()
        if self._loop.is_closed():
            self.release()
        else:
            self._loop.call_soon(self._lose, error, context=self._context)

    def _stop(self) -> None:
        self.ended = True
        self.closing = True
        self._reading = False
        self._write_buffer = None
        self.unsent = 0
        named = self._named
        if named is not None:
            self._named = None
            named.drop()
        self._loop._poller.watch(self, 0)

    def _lose(self, error: BaseException | None) -> None:
        try:
            self._notify("connection_lost", (error,), None)
        finally:
            self.release()

    def release(self) -> None:
        """Close the socket, and let go of everything that refers to us."""
        sock = self._sock
        if sock is None:
            return
        self._stop()
        self._sock = None
        self._protocol = None
        self._transport = None
        self._context = None
        sock.close()  # Last, for it may fail.

    def _notify(self, method: str, args: tuple[Any, ...], context: Context | None) -> None:
        """Call a method of the protocol, in ``context`` unless that is None."""
        try:
            bound = getattr(self._protocol, method)
            if context is None:
                bound(*args)
            else:
                context.run(bound, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(method, error)

    def _report(self, method: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": f"protocol.{method}() failed",
                "exception": error,
                "transport": self if self._transport is None else self._transport,
                "protocol": self._protocol,
            }
        )

    def state(self) -> str:
        """Return what the ``repr()`` of whoever stands in front of it is to say."""
        word = "closed" if self._sock is None else "closing" if self.closing else "open"
        to = "" if self.peername is None else f" peername={self.peername!r}"
        return f"{word} fd={self.fd} sockname={self.sockname()!r}{to} {self.unsent} bytes unsent"

    def __repr__(self) -> str:
        return f"<datagram endpoint {self.state()}>"


def _receive_large(sock: socket.socket) -> tuple[bytes, Any] | None:
    """As ``recvfrom`` of the accelerator, for datagrams that may be larger than those of IP."""
    try:
        return sock.recvfrom(_LARGEST)
    except BlockingIOError:
        return None

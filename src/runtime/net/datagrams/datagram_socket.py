"""Datagram socket in the loop: passes received datagrams to a protocol, and sends datagrams.

::

    OPEN --- close(): the write buffer is sent first ---> ENDED --- connection_lost() ---> CLOSED
      |                                                     ^       (in the next turn)
      +--- abort(), or other code closed the socket --------+

In the state ENDED nothing is watched, sent or received any more. The socket is still open, so that
``connection_lost`` can use its addresses.

A datagram is sent at once if possible. If the socket does not accept it, the datagram waits in the
write buffer; if its destination is a host name, it waits in ``NameLookups``.

``DatagramSocket`` is compiled in the compiled build. The transport that users have is thin, and
interpreted: ``runtime.net.datagrams.transport``.
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
from runtime.kernel.watcher import READ, WRITE, Watcher
from runtime.kernel.write_buffer import HIGH_WATER, LOW_WATER, water_marks_of
from runtime.net.datagrams.batch_size import MOST, BatchSize
from runtime.net.datagrams.name_lookup import NameLookups
from runtime.net.resolver import needs_lookup

_HEADER: Final = 8
"""Bytes added to the size of each unsent datagram, so that empty datagrams count too."""

_LARGEST: Final = 256 * 1024
"""Largest datagram of a family other than IPv4 and IPv6, in bytes."""

_IPV4: Final = int(socket.AF_INET)
_IPV6: Final = int(socket.AF_INET6)

_Receive = Callable[[socket.socket], tuple[bytes, Any] | None]
_Send = Callable[[socket.socket, Buffer, Any], int]

_run_in: Final = Context.run


class DatagramReceiver(Protocol):
    """An object with the methods of ``asyncio.DatagramProtocol``.

    Only the method that is called for each datagram is declared; ``_notify`` looks up the others by
    name.
    """

    def datagram_received(self, data: bytes, address: Any) -> object:
        """Handle a datagram and the address of its sender."""


class DatagramSocket(Watcher):
    """One non-blocking datagram socket, which this object owns.

    ``target`` is the destination of all datagrams of a socket that is not connected, or None. The
    protocol's methods are called in ``context``, or in the current context if that is None; when
    ``sendto`` calls them, always in the context of its caller.
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

    # Compiled, flags that stand together share eight bytes.
    _one_way: bool
    _reading: bool
    _paused: bool
    closing: bool
    ended: bool

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
        # The transport that ``connection_made`` and exception handlers get.
        self._transport: Any = None
        # ``_receive`` and ``_send`` take the socket object and not its descriptor, whose number may
        # belong to another file if other code has closed the socket. The accelerator supports IPv4
        # and IPv6 addresses only, and bypasses the methods of a subclass of socket.
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
        # ``_one_way``: all datagrams go to one address. ``_target`` is that address, or None to
        # send to the address that the socket is connected to. ``_remote`` is that of
        # ``remote_addr``, as it was resolved, or None.
        self._remote = target
        self._one_way = connected or target is not None
        self._target = None if connected else target
        # Receiving.
        self._reading = False
        self._batch = BatchSize()
        # Sending: the datagrams that the socket did not accept, and the number of unsent bytes,
        # with ``_HEADER`` added for each datagram.
        self._write_buffer: deque[tuple[bytes, Any]] | None = None
        self.unsent = 0
        self._high_water = HIGH_WATER
        self._low_water = LOW_WATER
        self._paused = False
        self._sends_lost = 0
        # The lookups of host names, and the last host that was found to need none.
        self._named: NameLookups | None = None
        self._literal: Any = None
        # Ending.
        self.closing = False
        self.ended = False

    # -- Beginning ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start to receive. Raises OSError if the socket cannot be watched."""
        self._reading = True
        self._watch()

    def schedule_connection_made(self, transport: object, waiter: FutureCore) -> None:
        """Call ``connection_made(transport)`` in the next turn; then finish ``waiter``.

        The task that awaits ``waiter`` has to call ``start_receiving``: nothing is received before.
        """
        self._transport = transport
        self._loop.call_soon(self._connection_made, waiter, context=self._context)

    def _connection_made(self, waiter: FutureCore) -> None:
        self._notify("connection_made", (self._transport,), None)
        if not waiter.done():
            finish_future(waiter, None)

    def start_receiving(self) -> None:
        """Start to receive, unless closed. If the selector raises, end and raise the same."""
        if self.closing:
            return
        try:
            self.start()
        except Exception as error:  # A selector that the program provides may raise anything.
            self._end(error)
            raise

    @property
    def sock(self) -> socket.socket | None:
        """The socket; None once it is closed."""
        return self._sock

    def sockname(self) -> Any:
        """Return the socket's own address; once it is closed, the last one that was known."""
        sock = self._sock
        if sock is not None:
            try:
                self._sockname = sock.getsockname()
            except OSError:
                pass  # Other code has closed it.
        return self._sockname

    def get_protocol(self) -> Any:
        """Return the protocol; None after its ``connection_lost``."""
        return self._protocol

    def set_protocol(self, protocol: DatagramReceiver) -> None:
        """Call another protocol from now on."""
        self._protocol = protocol

    # -- Receiving ---------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Receive a batch of datagrams, and pass them to the protocol."""
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
                elif self._owns_descriptor():
                    self._notify("error_received", (error,), self._context)
                return
            if datagram is None:
                batch.note_short_batch(received)
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
        """Receive nothing until ``resume_reading``: the system keeps datagrams, then drops them."""
        if self._reading:
            self._reading = False
            self._watch()

    def resume_reading(self) -> None:
        """Receive again after ``pause_reading``."""
        if not self._reading and not self.closing:
            self._reading = True
            self._watch()

    def _watch(self) -> None:
        """Watch the descriptor for exactly the events that the state requires."""
        if self.ended or not self._owns_descriptor():
            return
        events = 0
        if self._reading:
            events = READ
        if self._write_buffer:
            events |= WRITE
        self._loop._poller.watch(self, events)

    # -- Sending -----------------------------------------------------------------------------------

    def sendto(self, data: Buffer, addr: Any = None) -> None:
        """Send one datagram: at once, or as soon as the socket accepts it. ``data`` may be empty.

        ``addr`` is the destination; by default the endpoint's remote address. A host name in it is
        looked up in a thread, while the datagram waits. An OSError of the system or of the lookup
        is passed to the protocol's ``error_received``. Raises TypeError unless ``data`` is
        bytes-like; ValueError if there is no address, or if ``addr`` is not the remote address of
        an endpoint that has one; and the exceptions of ``socket.sendto`` for a malformed address.
        """
        try:
            self.transmit(data, addr)
        except OSError as error:
            self._notify("error_received", (error,), None)

    def transmit(self, data: Buffer, address: Any) -> None:
        """Send as ``sendto`` does, but raise OSError if the system refuses the datagram now."""
        if not isinstance(data, bytes) and not isinstance(data, (bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if self._one_way:
            if address is not None:
                self._check_address(address)
            address = self._target
        elif address is None:
            raise ValueError("sendto() needs an address: the endpoint was made without remote_addr")
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
            if self._owns_descriptor():
                raise
            return
        if outcome == 0:
            self._keep(data, address)
            self._watch()
        elif outcome < 0:
            self._look_up(data, address)

    def _try_to_send(self, data: Buffer, address: Any) -> int:
        """Return 1 if the datagram was sent, 0 if the socket is full, -1 if a lookup is needed."""
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
        """Return whether ``address`` has the form of the socket's family: a tuple of two for IPv4.

        The check is for the accelerator. The system would send to an IPv4 address through an IPv6
        socket, which ``socket.sendto`` refuses.
        """
        return isinstance(address, tuple) and (len(address) == 2) == (self._family == _IPV4)

    def _check_address(self, address: Any) -> None:
        """Raise ValueError unless ``address`` is the remote address of the endpoint."""
        for known in (self._remote, self.peername):
            # The flow label and the scope of an IPv6 address may be left out.
            if known is not None and (
                address == known or (isinstance(known, tuple) and address == known[:2])
            ):
                return
        bound_to = self.peername if self._remote is None else self._remote
        raise ValueError(f"Invalid address: must be None or {bound_to!r}, got {address!r}")

    # -- Sending to host names ---------------------------------------------------------------------

    def _is_to_name(self, address: Any) -> bool:
        """Return whether the host of ``address`` is a name, which has to be looked up."""
        if self._family != _IPV4 and self._family != _IPV6:
            return False
        if not isinstance(address, tuple) or not address or address[0] == self._literal:
            return False
        if needs_lookup(self._family, address):
            return True
        self._literal = address[0]
        return False

    def _look_up(self, data: Buffer, address: tuple[Any, ...]) -> None:
        """Keep a copy of a datagram until its host name is resolved, and start the lookup."""
        kept = bytes(data)
        named = self._named
        if named is None:
            assert self._sock is not None
            named = self._named = NameLookups(self._loop, self._sock, self, self._context)
        named.add(kept, address)
        self.unsent += len(kept) + _HEADER
        self._pause_if_full()

    def send_resolved(self, datagrams: list[bytes], address: Any) -> None:
        """Send datagrams whose host name was resolved to ``address``, in order."""
        for data in datagrams:
            if self.ended:
                return
            self.unsent -= len(data) + _HEADER
            try:
                if self._write_buffer or self._try_to_send(data, address) <= 0:
                    self._keep(data, address)
            except OSError as error:
                if not self._owns_descriptor():
                    return
                self._notify("error_received", (error,), self._context)
            except (TypeError, ValueError, OverflowError) as error:
                self._report("sendto", error)
        self._settle()

    def drop_unresolved(self, datagrams: list[bytes], error: Exception) -> None:
        """Drop datagrams whose host name could not be resolved, and report ``error``."""
        if self.ended:
            return
        for data in datagrams:
            self.unsent -= len(data) + _HEADER
        if isinstance(error, OSError):
            self._notify("error_received", (error,), self._context)
        else:
            self._report("sendto", error)
        self._settle()

    # -- The write buffer --------------------------------------------------------------------------

    def _keep(self, data: Buffer, address: Any) -> None:
        """Append a copy of a datagram to the write buffer."""
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
        """Send datagrams from the write buffer; then resume the protocol or finish closing."""
        for _ in range(MOST):
            buffer = self._write_buffer
            if not buffer:
                break
            data, address = buffer[0]
            try:
                if self._try_to_send(data, address) == 0:
                    break
            except OSError as error:
                if not self._owns_descriptor():
                    return
                self._drop_first()
                self._notify("error_received", (error,), self._context)
            except (TypeError, ValueError, OverflowError) as error:
                # The address is malformed, and ``sendto`` has returned already: it cannot raise.
                self._drop_first()
                self._report("sendto", error)
            else:
                self._drop_first()
        self._settle()

    def _settle(self) -> None:
        """Resume the protocol, and close or update the watch, after the write buffer has shrunk."""
        if self._paused and self.unsent <= self._low_water and not self.ended:
            self._paused = False
            self._notify("resume_writing", (), self._context)
        if self.closing and not self._has_unsent():
            self._end(None)
        else:
            self._watch()

    def _has_unsent(self) -> bool:
        return bool(self._write_buffer) or (self._named is not None and self._named.has_pending())

    def _drop_first(self) -> None:
        if self._write_buffer:
            data, _ = self._write_buffer.popleft()
            self.unsent -= len(data) + _HEADER

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set the sizes, in unsent bytes, at which the protocol's writing is paused and resumed.

        Raises ValueError unless ``high >= low >= 0``.
        """
        self._high_water, self._low_water = water_marks_of(high, low)
        self._pause_if_full()

    def water_marks(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._low_water, self._high_water

    # -- Ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop receiving, send the write buffer, then close the socket."""
        if self.closing:
            return
        self.closing = True
        self._reading = False
        if self._has_unsent():
            self._watch()
        else:
            self._end(None)

    def abort(self) -> None:
        """Stop now, and drop unsent datagrams."""
        self._end(None)

    def fail(self, error: BaseException | None) -> None:
        """Stop now, and call ``connection_lost(error)`` of the protocol."""
        self._end(error)

    def on_lost(self) -> None:
        """End: other code has closed the descriptor, and its number may be in use again."""
        sock = self._sock
        if sock is not None and sock.fileno() == self.fd:
            sock.detach()
        self._owns_descriptor()

    def _owns_descriptor(self) -> bool:
        """Return whether the socket is still open; end if other code has closed it."""
        sock = self._sock
        if sock is not None and sock.fileno() == self.fd:
            return True
        self._end(
            ConnectionAbortedError(
                f"the socket with file descriptor {self.fd} was closed while its transport was "
                "open: close the transport instead"
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
        """Close the socket, and break the reference cycles with the protocol and the transport."""
        sock = self._sock
        if sock is None:
            return
        self._stop()
        self._sock = None
        self._protocol = None
        self._transport = None
        self._context = None
        sock.close()  # Last, because it may raise.

    def _notify(self, method: str, args: tuple[Any, ...], context: Context | None) -> None:
        """Call a method of the protocol in ``context``, or in the current context if it is None."""
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
        """Return a description for the ``repr()`` of the transport or endpoint that uses it."""
        word = "closed" if self._sock is None else "closing" if self.closing else "open"
        to = "" if self.peername is None else f" peername={self.peername!r}"
        return f"{word} fd={self.fd} sockname={self.sockname()!r}{to} {self.unsent} bytes unsent"

    def __repr__(self) -> str:
        return f"<datagram endpoint {self.state()}>"


def _receive_large(sock: socket.socket) -> tuple[bytes, Any] | None:
    """Receive as the accelerator's ``recvfrom``, datagrams that may be larger than those of IP."""
    try:
        return sock.recvfrom(_LARGEST)
    except BlockingIOError:
        return None

"""TLS peer that misbehaves: blocking, in a thread, and with control over every record.

Its behaviour is a function that receives a ``TlsPeer``::

    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        data = peer.receive_exactly(5)
        peer.send_raw(corrupted(peer.sealed(b"never accepted")))
        peer.receive_raw_until_end()
        return data

    with tls_server(context, behave) as server:
        ...  # a client connects to server.address
    assert server.result() == b"hello"

``tls_client`` is the same for the other end. All waits end after ``PATIENCE`` seconds.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from tests.support.certificates import NAME
from tests.support.proxy import PATIENCE, reset_at_close
from tests.support.tls_records import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    LONGEST,
    Sealer,
    Sealer12,
    Sealer13,
    kinds_of,
    random_of_hello,
    record,
    secrets_of,
)

T = TypeVar("T")
Address = tuple[str, int]

ALLOW_CLIENT_RENEGOTIATION = 1 << 8
"""An option of a server's context; without it, OpenSSL 3 answers a renegotiation with an alert."""

HTTP_ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
"""Answer of servers without TLS to a ClientHello."""


def corrupted(sealed: bytes) -> bytes:
    """Return records with one bit of the last record changed."""
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def overlong_record() -> bytes:
    """Return a record with a length above the permitted maximum; the rest of it is missing."""
    return record(APPLICATION_DATA, bytes(0xFFFF))[: 5 + LONGEST]


class TlsPeer:
    """One end of a connection, over a blocking socket that it does not own.

    Only the methods that say so send data. With ``by_hand`` it can make records of its own: see
    ``sealer()``.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        by_hand: bool = False,
    ) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self._context = context
        self._server_side = server_side
        self._by_hand = by_hand
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_hostname=server_hostname
        )
        # All bytes of the peer and all sent bytes of the handshake, and the number of sealed ones.
        self._received = b""
        self._written = b""
        self._handshake_records = 0
        self._secrets: dict[str, bytes] = {}

    # -- Raw bytes ---------------------------------------------------------------------------------

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, in one piece if they are not too many."""
        self.sock.sendall(data)

    def receive_raw(self) -> bytes:
        """Receive once, and discard the data; return ``b""`` at the end."""
        return self.sock.recv(65536)

    def receive_raw_until_end(self) -> bytes:
        """Receive and discard all data up to the peer's end, or its reset."""
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := self.receive_raw():
                received += data
        return received

    def truncate(self) -> None:
        """End the connection without a close_notify, which exists to detect this attack."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the socket with a reset."""
        reset_at_close(self.sock)
        self.sock.close()

    # -- The handshake -----------------------------------------------------------------------------

    def flight(self) -> bytes:
        """Take the next step of the handshake, and return the bytes to send, without sending them.

        The first flight of a client is its ClientHello. A server receives that before its first
        flight.
        """
        while not self._step():
            if data := self.pending():
                return data
            self._feed()
        return self.pending()

    def handshake(self) -> None:
        """Complete the handshake. Raises ssl.SSLError, ConnectionError, TimeoutError."""
        with self._key_log():
            while not self._step():
                self.flush()
                self._feed()
            # The last step of a TLS 1.3 server sends tickets, which are sealed with other keys.
            before = self._written
            self.flush()
            sealed = before if self._server_side else self._written
            self._handshake_records = list(kinds_of(sealed)).count(APPLICATION_DATA)

    def _step(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    @contextlib.contextmanager
    def _key_log(self) -> Iterator[None]:
        if not self._by_hand:
            yield
            return
        with tempfile.NamedTemporaryFile("r") as log:
            self._context.keylog_filename = log.name
            try:
                yield
            finally:
                # OpenSSL would otherwise keep the file open as long as the context exists.
                self._context.keylog_filename = None  # type: ignore[assignment]
            self._secrets = secrets_of(log.read())

    # -- Application data --------------------------------------------------------------------------

    def sealed(self, data: bytes) -> bytes:
        """Return records with ``data``, which must be sent next, or never."""
        self.tls.write(data)
        return self.pending()

    def sealed_close_notify(self) -> bytes:
        """Return the record with the close_notify. Receiving remains possible."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.pending()

    def pending(self) -> bytes:
        """Return the bytes that the TLS layer wants to send, without sending them."""
        data = self._outgoing.read()
        self._written += data
        return data

    def flush(self) -> None:
        """Send the bytes that the TLS layer wants to send."""
        if data := self.pending():
            self.send_raw(data)

    def send(self, data: bytes) -> None:
        """Send ``data``."""
        self.send_raw(self.sealed(data))

    def receive(self, most: int = 65536) -> bytes:
        """Receive once; return ``b""`` after the peer's close_notify.

        Raises ssl.SSLEOFError at an end without a close_notify, and ssl.SSLError for invalid
        records, after sending the alert.
        """
        while True:
            try:
                return self.tls.read(most)
            except ssl.SSLWantReadError:
                self.flush()
                self._feed()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError:
                with contextlib.suppress(ConnectionError):
                    self.flush()
                raise

    def receive_exactly(self, size: int) -> bytes:
        """Receive ``size`` bytes. Raises EOFError if the peer's close_notify comes before."""
        received = b""
        while len(received) < size:
            data = self.receive(size - len(received))
            if not data:
                raise EOFError(f"{len(received)} bytes came instead of {size}: {received!r}")
            received += data
        return received

    def receive_all(self) -> bytes:
        """Receive until the peer's close_notify."""
        received = b""
        while data := self.receive():
            received += data
        return received

    def _feed(self) -> None:
        data = self.sock.recv(65536)
        self._received += data
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    # -- Records by hand ---------------------------------------------------------------------------

    def sealer(self) -> Sealer:
        """Return an object that seals records by hand, after the handshake.

        After its first use, no other method may send: the TLS layer does not know about the
        records, which are numbered. Receiving remains possible.
        """
        cipher = self.tls.cipher()
        assert cipher is not None, "The handshake comes before records by hand."
        assert self._secrets, "Records by hand need a peer that was made with by_hand."
        self.flush()
        kinds = list(kinds_of(self._written))
        if self.tls.version() == "TLSv1.3":
            number = kinds.count(APPLICATION_DATA) - self._handshake_records
            side = "SERVER" if self._server_side else "CLIENT"
            return Sealer13(cipher[0], number, self._secrets[f"{side}_TRAFFIC_SECRET_0"])
        number = len(kinds) - kinds.index(CHANGE_CIPHER_SPEC) - 1
        ours, theirs = random_of_hello(self._written), random_of_hello(self._received)
        return Sealer12(
            cipher[0],
            number,
            self._secrets["CLIENT_RANDOM"],
            (theirs, ours) if self._server_side else (ours, theirs),
            self._server_side,
        )


class Running(Generic[T]):
    """A peer that runs in a thread. ``address`` is that of the server."""

    def __init__(self, address: Address, main: Callable[[Running[T]], T]) -> None:
        self.address = address
        self._main = main
        self._values: list[T] = []
        self._error: BaseException | None = None
        self.sockets: list[socket.socket] = []
        """Sockets to shut down in order to end the thread early."""
        self.thread = threading.Thread(target=self._run, name="TlsPeer", daemon=True)

    def _run(self) -> None:
        try:
            self._values.append(self._main(self))
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """Wait for the end; return the result of the behaviour, or raise its exception."""
        self.thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._values[0]


@contextlib.contextmanager
def _running(running: Running[T]) -> Iterator[Running[T]]:
    """Run the thread; at the end raise its exception, unless ``result()`` did."""
    running.thread.start()
    try:
        yield running
    except BaseException:
        for sock in running.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        running.thread.join()
        raise
    running.thread.join()
    if running._error is not None:
        running.result()


@contextlib.contextmanager
def tls_server(
    context: ssl.SSLContext, behaviour: Callable[[TlsPeer], T], *, by_hand: bool = False
) -> Iterator[Running[T]]:
    """Listen on loopback, and act as the server of one connection."""

    def main(running: Running[T]) -> T:
        sock, _ = listener.accept()
        with sock:
            running.sockets.append(sock)
            return behaviour(TlsPeer(sock, context, server_side=True, by_hand=by_hand))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        running: Running[T] = Running(listener.getsockname(), main)
        running.sockets.append(listener)
        with _running(running):
            yield running


@contextlib.contextmanager
def tls_client(
    address: Address,
    context: ssl.SSLContext,
    behaviour: Callable[[TlsPeer], T],
    *,
    server_hostname: str | None = NAME,
    by_hand: bool = False,
) -> Iterator[Running[T]]:
    """Connect to ``address``, and act as a client."""

    def main(_: Running[T]) -> T:
        peer = TlsPeer(
            sock, context, server_side=False, server_hostname=server_hostname, by_hand=by_hand
        )
        with sock:
            return behaviour(peer)

    with socket.create_connection(address, timeout=PATIENCE) as sock:
        running = Running(address, main)
        running.sockets.append(sock)
        with _running(running):
            yield running

"""Peer of a stream on a blocking socket, plain or TLS, that reports the outcome of its talk.

A talk is a list of exchanges: in each exchange, each end sends and receives data. Both ends
describe the outcome in a ``Report``, whatever their implementation is.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from dataclasses import dataclass, field

PATIENCE = 30.0
"""Seconds after which a talk has failed; far more than any talk takes."""


@dataclass(frozen=True)
class Script:
    """Contents of a talk."""

    exchanges: tuple[tuple[bytes, bytes], ...]
    """Pairs of the client's data and the server's answer."""
    at_once: bool = False
    """Whether both ends send without waiting for each other, instead of the server answering."""
    lines: bool = False
    """Whether all data consists of lines, and can be read as such."""

    def message(self, direction: str) -> bytes:
        """Return all data that is sent in ``direction``, ``to server`` or ``to client``."""
        index = ("to server", "to client").index(direction)
        return b"".join(exchange[index] for exchange in self.exchanges)


@dataclass
class Report:
    """Data that an end received, and the outcome of its talk."""

    received: bytearray = field(default_factory=bytearray)
    eof: bool = False
    """Whether the peer's end of file was received."""
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Record the first error."""
        if self.error is None:
            self.error = error


class Channel:
    """A connected socket, plain or TLS, that sends and receives at the same time.

    Every wait ends with TimeoutError after ``PATIENCE`` seconds.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._deadline = time.monotonic() + PATIENCE
        sock.setblocking(False)

    def exchange(self, outgoing: bytes, wanted: int, report: Report) -> bool:
        """Send all of ``outgoing`` and receive ``wanted`` more bytes, or until the end.

        Returns whether all bytes were received. Raises OSError.
        """
        unsent = memoryview(outgoing)
        goal = len(report.received) + wanted
        while unsent or (len(report.received) < goal and not report.eof):
            wants = 0
            if unsent:
                try:
                    unsent = unsent[self._sock.send(unsent) :]
                    continue
                except (BlockingIOError, ssl.SSLWantWriteError):
                    wants |= select.POLLOUT
                except ssl.SSLWantReadError:
                    wants |= select.POLLIN
            if len(report.received) < goal and not report.eof:
                try:
                    data = self._sock.recv(min(goal - len(report.received), 65536))
                    report.eof = not data
                    report.received += data
                    continue
                except (BlockingIOError, ssl.SSLWantReadError):
                    wants |= select.POLLIN
                except ssl.SSLWantWriteError:
                    wants |= select.POLLOUT
            self._wait(wants)
        return len(report.received) >= goal

    def end(self) -> None:
        """Send the end: a half-close, or under TLS, which has none, a close_notify."""
        if not isinstance(self._sock, ssl.SSLSocket):
            # The socket is not connected any more: the receiving side reports the reason.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            return
        while True:
            try:
                # unwrap() returns the plain socket once the peer has answered; it is closed here.
                self._sock.unwrap().close()
                return
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)

    def _wait(self, events: int) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        if not poll.poll(max(self._deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError("The peer of a blocking socket kept it waiting for too long.")


def talk(sock: socket.socket, script: Script, *, is_client: bool) -> Report:
    """Take part in a talk, until the peer's end, and close the socket."""
    report = Report()
    channel = Channel(sock)
    secure = isinstance(sock, ssl.SSLSocket)
    try:
        _follow(channel, script, is_client, report)
        if not (secure and is_client):
            if not secure:
                channel.end()
            channel.exchange(b"", 1 << 30, report)
        if secure:
            channel.end()
    except OSError as error:
        report.fail(error)
    finally:
        sock.close()
    return report


def _follow(channel: Channel, script: Script, is_client: bool, report: Report) -> None:
    for request, answer in script.exchanges:
        outgoing, incoming = (request, answer) if is_client else (answer, request)
        if script.at_once:
            going_on = channel.exchange(outgoing, len(incoming), report)
        elif is_client:
            channel.exchange(outgoing, 0, report)
            going_on = channel.exchange(b"", len(incoming), report)
        else:
            going_on = channel.exchange(b"", len(incoming), report)
            if going_on:
                channel.exchange(outgoing, 0, report)
        if not going_on:
            return


def connect(
    address: tuple[str, int], script: Script, context: ssl.SSLContext | None, name: str | None
) -> Report:
    """Act as the client of a talk."""
    sock = None
    try:
        sock = socket.create_connection(address, timeout=PATIENCE)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)
    except OSError as error:
        if sock is not None:
            sock.close()
        return Report(error=error)
    return talk(sock, script, is_client=True)


def serve(listener: socket.socket, script: Script, context: ssl.SSLContext | None) -> Report:
    """Act as the server of one talk. ``listener`` is bound and listens."""
    listener.settimeout(PATIENCE)
    sock = None
    try:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
    except OSError as error:
        if sock is not None:
            sock.close()
        return Report(error=error)
    return talk(sock, script, is_client=False)

"""Endpoint: the state of one simulated socket, which the system would hold; its addresses.

``StreamEndpoint`` and ``DatagramEndpoint``, in modules of their own, are the two kinds. Errors are
those of Linux. A *descriptor* refers to an endpoint, and duplicates of it to the same one; the
endpoint is closed with the last of them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final, NoReturn

from runtime.simulation.network.machine import LOOPBACK, WILDCARD, Machine, is_loopback
from runtime.simulation.network.wire import Wire

IPV4: Final = int(socket.AF_INET)
IPV6: Final = int(socket.AF_INET6)
UNIX: Final = int(socket.AF_UNIX)
STREAM: Final = int(socket.SOCK_STREAM)
DATAGRAM: Final = int(socket.SOCK_DGRAM)

BUFFER_SIZE: Final = 256 * 1024
"""Bytes that are on their way or unread before a socket accepts no more."""

_LONGEST_PATH: Final = 107
"""Most bytes of the path of a Unix socket."""

MOST_BLOCKED: Final = 0.05
"""Most seconds for which a buffer that is full by chance accepts nothing."""

Notify = Callable[["Endpoint"], None]


class Endpoint:
    """The base of the two kinds of endpoints."""

    def __init__(
        self, wire: Wire, machine: Machine, family: int, kind: int, proto: int, notify: Notify
    ) -> None:
        self.wire = wire
        self.machine = machine
        self.family = family
        self.kind = kind
        self.proto = proto
        self.notify = notify
        self.descriptors: list[int] = []
        self.local: Any = _any_address(family)
        self.remote: Any = None
        # The pending error of the system, as SO_ERROR reports it, or 0.
        self.error = 0
        self.options: dict[tuple[int, int], Any] = {}
        self.is_closed = False
        # Whether the host has lost the socket in a crash: every operation fails.
        self.is_dead = False
        self._blocked_until = 0.0
        machine.endpoints[self] = None

    # -- Readiness ---------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Return whether a receiving operation would not block."""
        raise NotImplementedError

    def writable(self) -> bool:
        """Return whether a sending operation would not block."""
        raise NotImplementedError

    def changed(self) -> None:
        """Note that the endpoint may have become readable or writable."""
        self.notify(self)

    # -- Addresses ---------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        """Bind to an address. Raises OSError if it is taken, or not one of the machine."""
        self.check_alive()
        if self.is_bound():
            fail(errno.EINVAL)
        if self.family == UNIX:
            path = unix_path(address)
            self.machine.bind_path(self, path)
            self.local = bytes(path) if path[:1] == b"\0" else os.fsdecode(path)
            return
        host, port = self.checked(address)
        self.local = self.full_address(host, self.machine.bind(self, host, port))

    def bind_for(self, target: str) -> None:
        """Bind to a free port, to send to the IP address ``target``, unless bound already."""
        if not self.is_bound():
            host: str = WILDCARD[self.family]
            if self.kind == STREAM:
                host = self.source_for(target)
            self.local = self.full_address(host, self.machine.bind(self, host, 0))
        elif self.kind == STREAM and self.local[0] == WILDCARD[self.family]:
            self.local = self.full_address(self.source_for(target), self.local[1])

    def is_bound(self) -> bool:
        """Return whether the endpoint has a port or a path."""
        return bool(self.local) if self.family == UNIX else self.local[1] != 0

    def source_for(self, target: str) -> str:
        """Return the IP address that packets to the IP address ``target`` come from."""
        if is_loopback(target) or target == WILDCARD[self.family]:
            return LOOPBACK[self.family]
        return self.machine.addresses[self.family]

    def checked(self, address: Any) -> tuple[str, int]:
        """Return host and port of ``address``. Raises the errors of the socket module."""
        lengths = (2,) if self.family == IPV4 else (2, 3, 4)
        if not isinstance(address, tuple) or len(address) not in lengths:
            raise TypeError(f"an address of this family is a tuple of host and port: {address!r}")
        host, port = address[:2]
        if not isinstance(port, int):
            raise TypeError(f"a port must be an int, got {port!r}")
        if not 0 <= port <= 65535:
            raise OverflowError("bind(): port must be 0-65535.")
        if len(address) > 2 and not 0 <= address[2] <= 0xFFFFF:
            raise OverflowError("flowinfo must be 0-1048575.")
        text = host.decode("idna") if isinstance(host, (bytes, bytearray)) else host
        if not isinstance(text, str):
            raise TypeError(f"a host must be a str or bytes, got {host!r}")
        if "\0" in text:
            raise TypeError("host name must not contain null character")
        return self.ip_address(text), port

    def ip_address(self, host: str) -> str:
        """Return the IP address of ``host``, which is one or names one."""
        if host == "":
            return WILDCARD[self.family]
        found = socket.getaddrinfo(host, None, self.family, self.kind)
        return str(found[0][4][0])

    def full_address(self, host: str, port: int) -> tuple[Any, ...]:
        """Return an address in the form of the socket module."""
        return (host, port) if self.family == IPV4 else (host, port, 0, 0)

    # -- State -------------------------------------------------------------------------------------

    def take_error(self) -> int:
        """Return the pending error, or 0, and clear it."""
        number, self.error = self.error, 0
        return number

    def raise_error(self) -> None:
        """Raise the pending error, if there is one."""
        if self.error:
            fail(self.take_error())

    def check_alive(self) -> None:
        """Raise OSError if the endpoint is closed, or its host has crashed."""
        if self.is_dead or self.is_closed:
            fail(errno.EBADF)

    def is_full_by_chance(self, probability: float) -> bool:
        """Return whether the buffer is full by chance; it then is for a while."""
        if self.wire.clock() < self._blocked_until:
            return True
        if not self.wire.choices.chance(probability, "full buffer"):
            return False
        pause = self.wire.choices.real(0.001, MOST_BLOCKED, "full buffer")
        self._blocked_until = self.wire.clock() + pause
        self.wire.after(pause, self.changed)
        return True

    def is_blocked(self) -> bool:
        """Return whether the buffer is full by chance now."""
        return self._blocked_until > 0 and self.wire.clock() < self._blocked_until

    def close(self) -> None:
        """Release everything that the endpoint has."""
        self.is_closed = True
        self.machine.unbind(self)
        self.machine.endpoints.pop(self, None)

    def vanish(self) -> None:
        """End without a word to the peer: the machine has lost its power."""
        self.is_dead = True
        Endpoint.close(self)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} of {self.machine.name!r} {self.local!r} -> {self.remote!r}>"


def unix_path(address: Any) -> bytes:
    """Return the path of a Unix socket as bytes. Raises OSError if it is too long."""
    path: bytes = bytes(address) if isinstance(address, bytearray) else os.fsencode(address)
    if len(path) > _LONGEST_PATH:
        raise OSError("AF_UNIX path too long")
    return path


def fail(number: int, message: str | None = None) -> NoReturn:
    """Raise the OSError of an error number; it is of the subclass for that number."""
    raise OSError(number, os.strerror(number) if message is None else message)


def blocked() -> BlockingIOError:
    """Return the exception of an operation that would have to wait."""
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _any_address(family: int) -> Any:
    if family == UNIX:
        return ""
    return ("0.0.0.0", 0) if family == IPV4 else ("::", 0, 0, 0)

"""Machine: one host as the network sees it, with its addresses, ports and descriptors."""

from __future__ import annotations

import errno
import os
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from runtime.kernel.daemons import in_daemon
from runtime.simulation.checks import Checked, check_limit, check_probability

if TYPE_CHECKING:
    from runtime.simulation.network.endpoints import Endpoint

FIRST_PORT: Final = 32768
"""First of the ports that the system gives to sockets that ask for none, as on Linux."""

_LAST_PORT: Final = 60999

LOOPBACK: Final = {int(socket.AF_INET): "127.0.0.1", int(socket.AF_INET6): "::1"}
WILDCARD: Final = {int(socket.AF_INET): "0.0.0.0", int(socket.AF_INET6): "::"}

Bound = tuple[int, int, int]
"""Family, type and port: the key of the sockets that are bound to one port."""


class Machine:
    """The network side of a host. Programs use ``Host``, which adds the tasks and the disk."""

    # The most simulated descriptors that the machine may have open, or None.
    descriptor_limit = Checked[int | None](None, check_limit)
    # The probability that a new descriptor is refused with EMFILE.
    descriptor_failures = Checked(0.0, check_probability)

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.addresses = {
            int(socket.AF_INET): f"10.0.{number >> 8}.{number & 255}",
            int(socket.AF_INET6): f"fd00::{number:x}",
        }
        # Whether the machine has power. Packets to a machine without power are lost.
        self.is_up = True
        # Whether the set-up function of a run has made it: its tasks and sockets may outlast the
        # program, and do not count as leftovers.
        self.is_background = in_daemon.get()
        self.endpoints: dict[Endpoint, None] = {}
        self._bound: dict[Bound, list[Endpoint]] = {}
        self._keys: dict[Endpoint, Bound] = {}
        self._paths: dict[bytes, Endpoint] = {}
        self._names: dict[Endpoint, bytes] = {}
        self._next_port = FIRST_PORT

    def owns(self, address: str, family: int) -> bool:
        """Return whether a socket of this machine can be bound to an IP address."""
        if address in (self.addresses[family], WILDCARD[family]):
            return True
        return is_loopback(address)

    # -- Ports -------------------------------------------------------------------------------------

    def bind(self, endpoint: Endpoint, address: str, port: int) -> int:
        """Reserve a port, or a free one for 0, and return it. Raises OSError if it is taken."""
        if not self.owns(address, endpoint.family):
            raise _error(errno.EADDRNOTAVAIL)
        if port == 0:
            port = self._free_port(endpoint)
        else:
            for other in self._bound.get((endpoint.family, endpoint.kind, port), ()):
                if _conflict(endpoint, address, other):
                    raise _error(errno.EADDRINUSE)
        key = self._keys[endpoint] = (endpoint.family, endpoint.kind, port)
        self._bound.setdefault(key, []).append(endpoint)
        return port

    def _free_port(self, endpoint: Endpoint) -> int:
        for _ in range(FIRST_PORT, _LAST_PORT + 1):
            port = self._next_port
            self._next_port = FIRST_PORT if port == _LAST_PORT else port + 1
            if not self._bound.get((endpoint.family, endpoint.kind, port)):
                return port
        raise _error(errno.EADDRINUSE)

    def unbind(self, endpoint: Endpoint) -> None:
        """Release the port or the path of an endpoint, if it has one."""
        key = self._keys.pop(endpoint, None)
        if key is not None:
            endpoints = self._bound[key]
            endpoints.remove(endpoint)
            if not endpoints:
                del self._bound[key]
        path = self._names.pop(endpoint, None)
        if path is not None:
            del self._paths[path]

    def bound_to(self, family: int, kind: int, address: str, port: int) -> list[Endpoint]:
        """Return the endpoints that get what arrives for an address, the most specific first."""
        exact = []
        general = []
        for endpoint in self._bound.get((family, kind, port), ()):
            own = endpoint.local[0]
            if own == address:
                exact.append(endpoint)
            elif own == WILDCARD[family]:
                general.append(endpoint)
        return exact or general

    # -- Unix sockets ------------------------------------------------------------------------------

    def bind_path(self, endpoint: Endpoint, path: bytes) -> None:
        """Reserve a path for a Unix socket. Raises OSError if it is taken."""
        if path in self._paths:
            raise _error(errno.EADDRINUSE)
        self._paths[path] = endpoint
        self._names[endpoint] = path

    def at_path(self, path: bytes) -> Endpoint | None:
        """Return the endpoint that is bound to a path."""
        return self._paths.get(path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'up' if self.is_up else 'down'}>"


current_machine: Final[ContextVar[Machine | None]] = ContextVar("host", default=None)
"""The host that the running task or callback belongs to; None for the first host of the world."""


def is_loopback(address: str) -> bool:
    """Return whether an IP address means the machine itself."""
    return address.startswith("127.") or address == "::1"


def _conflict(endpoint: Endpoint, address: str, other: Endpoint) -> bool:
    """Return whether two sockets cannot share a port: their addresses overlap."""
    own = other.local[0]
    wildcard = WILDCARD[endpoint.family]
    if own != address and wildcard not in (own, address):
        return False
    reuse_port = (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -1))
    return not (_is_set(endpoint, reuse_port) and _is_set(other, reuse_port))


def _is_set(endpoint: Endpoint, option: tuple[int, int]) -> bool:
    value: Any = endpoint.options.get(option, 0)
    return bool(value)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))

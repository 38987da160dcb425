"""Sockets of a world: the descriptors of its endpoints, and the operations on them.

A simulated socket is an ordinary ``socket.socket``, so that the production code, libraries and
``isinstance`` treat it as one. Its descriptor is a real one, of a Unix socket that is never
connected: unique, harmless, and refused by the system for every operation that transfers data. The
methods of the class are replaced during a run (see ``replacements.py``), and find the endpoint by
the descriptor. The accelerator works with the descriptor itself; the system's refusal makes it ask
the ``Descriptors``: see ``accelerator.set_simulator``.
"""

from __future__ import annotations

import _socket
import array
import errno
import os
import socket
import struct
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from runtime.simulation.choices import Choices
from runtime.simulation.network.datagrams import DatagramEndpoint
from runtime.simulation.network.endpoints import (
    BUFFER_SIZE,
    DATAGRAM,
    IPV4,
    IPV6,
    STREAM,
    UNIX,
    Endpoint,
    blocked,
    fail,
)
from runtime.simulation.network.machine import Machine
from runtime.simulation.network.streams import (
    CONNECTED,
    LISTENING,
    StreamEndpoint,
    close_all,
)
from runtime.simulation.network.wire import Wire

_RealSocket: Final = _socket.socket
_close: Final = os.close
_dup: Final = os.dup
_pread: Final = os.pread

_SOL_SOCKET: Final = int(socket.SOL_SOCKET)
_ANCILLARY: Final = "simulated sockets pass descriptors through Unix stream sockets, and no more"

# The type checker does not know that this function is there; a run replaces it.
_module: Final[Any] = socket

_KIND_MASK: Final = ~(getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0))


class Descriptors:
    """The simulated descriptors of one world, and what the accelerator asks of them."""

    def __init__(self, wire: Wire, choices: Choices, machine: Callable[[], Machine]) -> None:
        self._wire = wire
        self._choices = choices
        self._machine = machine
        self._endpoints: dict[int, Endpoint] = {}
        # The socket object of each descriptor, so that its end without a close() is noticed.
        self._owners: dict[int, weakref.ref[Any]] = {}
        # Called with each descriptor whose readiness may have changed.
        self.watchers: list[Callable[[int], object]] = []

    def find(self, fd: int) -> Endpoint | None:
        """Return the endpoint of a descriptor; None if it is not simulated."""
        return self._endpoints.get(fd)

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints that have a descriptor, in the order in which they were opened."""
        return list(dict.fromkeys(self._endpoints.values()))

    # -- Opening and closing -----------------------------------------------------------------------

    def new_endpoint(self, family: int, kind: int, proto: int) -> Endpoint:
        """Return a new endpoint on the current host. Raises OSError for an unknown family or type.

        ``kind`` may include SOCK_NONBLOCK and SOCK_CLOEXEC.
        """
        kind &= _KIND_MASK
        if family not in (IPV4, IPV6, UNIX):
            fail(errno.EAFNOSUPPORT, "a simulated world has IPv4, IPv6 and Unix sockets only")
        if kind not in (STREAM, DATAGRAM):
            fail(errno.EPROTONOSUPPORT, "a simulated world has stream and datagram sockets only")
        make = StreamEndpoint if kind == STREAM else DatagramEndpoint
        return make(self._wire, self._machine(), family, kind, proto, self._notify)

    def open(self, endpoint: Endpoint) -> int:
        """Return a new descriptor for ``endpoint``. Raises OSError with EMFILE for want of one."""
        machine = endpoint.machine
        limit = machine.descriptor_limit
        if (
            limit is not None and sum(len(each.descriptors) for each in machine.endpoints) >= limit
        ) or self._choices.chance(machine.descriptor_failures, "EMFILE"):
            fail(errno.EMFILE)
        harmless = _RealSocket(UNIX, STREAM)
        harmless.setblocking(False)
        fd = harmless.detach()
        self._register(fd, endpoint)
        return fd

    def open_new(self, family: int, kind: int, proto: int) -> int:
        """Return the descriptor of a new endpoint: see ``new_endpoint`` and ``open``."""
        endpoint = self.new_endpoint(family, kind, proto)
        try:
            return self.open(endpoint)
        except BaseException:
            endpoint.close()
            raise

    def pair(self, family: int, kind: int, proto: int) -> tuple[int, int]:
        """Return the descriptors of a new socket pair."""
        if family != UNIX:
            fail(errno.EOPNOTSUPP)
        ends = [self.new_endpoint(family, kind, proto) for _ in range(2)]
        for one, other in (ends, ends[::-1]):
            if isinstance(one, StreamEndpoint) and isinstance(other, StreamEndpoint):
                one.become_connected(other)
                one.remote = ""
            elif isinstance(one, DatagramEndpoint) and isinstance(other, DatagramEndpoint):
                one.pair_with(other)
        first = self.open(ends[0])
        try:
            return first, self.open(ends[1])
        except BaseException:
            self.close(first)
            raise

    def duplicate(self, fd: int) -> int:
        """Return a new descriptor for the endpoint of another."""
        number = _dup(fd)
        self._register(number, self._endpoints[fd])
        return number

    def replaced(self, fd: int, target: int) -> None:
        """Note that ``target`` was closed, and is another descriptor of the file of ``fd`` now."""
        if fd == target:
            return
        endpoint = self._endpoints.get(fd)
        owner = self._owners.get(target)
        self.released(target)
        if endpoint is not None:
            self._register(target, endpoint)
            if owner is not None:
                self._owners[target] = owner

    def _register(self, fd: int, endpoint: Endpoint) -> None:
        self._endpoints[fd] = endpoint
        endpoint.descriptors.append(fd)

    def own(self, sock: socket.socket) -> None:
        """Note that ``sock`` owns its descriptor: the end of the object closes it."""
        fd = sock.fileno()
        self._owners[fd] = weakref.ref(sock, lambda ref: self._lost(fd, ref))

    def _lost(self, fd: int, ref: weakref.ref[Any]) -> None:
        if self._owners.get(fd) is ref:
            self.released(fd)

    def disown(self, fd: int) -> None:
        """Note that no socket object owns the descriptor any more."""
        self._owners.pop(fd, None)

    def released(self, fd: int) -> None:
        """Note that a descriptor was closed. The endpoint is closed with the last of its own."""
        self._owners.pop(fd, None)
        endpoint = self._endpoints.pop(fd, None)
        if endpoint is not None:
            endpoint.descriptors.remove(fd)
            if not endpoint.descriptors:
                endpoint.close()

    def close(self, fd: int) -> None:
        """Close a descriptor, simulated or not."""
        _close(fd)
        self.released(fd)

    def close_dead(self) -> None:
        """Close the descriptors of crashed hosts, whose socket objects nothing will close."""
        for fd, endpoint in list(self._endpoints.items()):
            if endpoint.is_dead:
                owner = self._owners.get(fd)
                sock = None if owner is None else owner()
                if sock is not None:
                    sock.detach()
                self.close(fd)

    def _notify(self, endpoint: Endpoint) -> None:
        for watch in self.watchers:
            for fd in endpoint.descriptors:
                watch(fd)

    # -- What the accelerator asks -----------------------------------------------------------------

    def recv(self, fd: int, size: int) -> Any:
        """Receive from a connection, or a datagram without its sender; None if there is nothing."""
        endpoint = self._endpoints.get(fd)
        try:
            if isinstance(endpoint, StreamEndpoint):
                data = endpoint.receive(size)
                close_all(endpoint.take_passed())
                return data
            if isinstance(endpoint, DatagramEndpoint):
                return endpoint.receive(size)[0]
        except BlockingIOError:
            return None
        return NotImplemented

    def send(self, fd: int, data: Any) -> Any:
        """Send to a connection, or a datagram to the connected address; return the size."""
        endpoint = self._endpoints.get(fd)
        try:
            if isinstance(endpoint, (StreamEndpoint, DatagramEndpoint)):
                return endpoint.send(_flat(data))
        except BlockingIOError:
            return 0
        return NotImplemented

    def recvfrom(self, fd: int) -> Any:
        """Receive a datagram and its sender; None if there is none."""
        endpoint = self._endpoints.get(fd)
        if not isinstance(endpoint, DatagramEndpoint):
            return NotImplemented
        try:
            return endpoint.receive(BUFFER_SIZE)
        except BlockingIOError:
            return None

    def sendto(self, fd: int, data: Any, has_address: bool) -> Any:
        """Send a datagram to the connected address: see ``accelerator.Simulator``."""
        endpoint = self._endpoints.get(fd)
        if not isinstance(endpoint, DatagramEndpoint):
            return NotImplemented
        if has_address:
            return -1
        try:
            endpoint.send(_flat(data))
        except BlockingIOError:
            return 0
        return 1

    def accept(self, fd: int) -> Any:
        """Accept a connection: a descriptor and an address; None if no connection waits."""
        endpoint = self._endpoints.get(fd)
        if endpoint is None:
            return NotImplemented
        try:
            return accept(self, endpoint)
        except BlockingIOError:
            return None


# -- Operations on one socket ----------------------------------------------------------------------


def accept(descriptors: Descriptors, endpoint: Endpoint) -> tuple[int, Any]:
    """Return the descriptor of the next connection, and the address of its peer."""
    if not isinstance(endpoint, StreamEndpoint):
        fail(errno.EOPNOTSUPP)
    served = endpoint.first_waiting()
    fd = descriptors.open(served)
    endpoint.accepted()
    return fd, served.remote


def connect(endpoint: Endpoint, address: Any) -> None:
    """Connect to ``address``, as ``socket.connect`` does."""
    assert isinstance(endpoint, (StreamEndpoint, DatagramEndpoint))
    endpoint.connect(address)


def finish_connecting(endpoint: Endpoint) -> None:
    """Raise the error of a connection attempt; BlockingIOError while it is not answered."""
    # A Unix socket whose server's queue is full has not begun to connect.
    if not endpoint.writable() or (isinstance(endpoint, StreamEndpoint) and endpoint.is_new()):
        raise blocked()
    endpoint.raise_error()


def connect_ex(endpoint: Endpoint, address: Any) -> int:
    """Connect, and return the number of the error, as ``socket.connect_ex`` does."""
    try:
        connect(endpoint, address)
    except OSError as error:
        if error.errno is None:
            raise
        return error.errno
    return 0


def listen(endpoint: Endpoint, backlog: int = 128) -> None:
    """Listen, as ``socket.listen`` does."""
    if not isinstance(endpoint, StreamEndpoint):
        fail(errno.EOPNOTSUPP)
    endpoint.listen(backlog)


def recv(endpoint: Endpoint, bufsize: int, flags: int = 0) -> bytes:
    """Receive, as ``socket.recv`` does."""
    return recvfrom(endpoint, bufsize, flags)[0]


def recvfrom(endpoint: Endpoint, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
    """Receive, as ``socket.recvfrom`` does."""
    if bufsize < 0:
        raise ValueError("negative buffersize in recv")
    peek = bool(flags & socket.MSG_PEEK)
    if isinstance(endpoint, StreamEndpoint):
        data = endpoint.receive(bufsize, peek)
        close_all(endpoint.take_passed())
        return data, None
    assert isinstance(endpoint, DatagramEndpoint)
    return endpoint.receive(bufsize, peek)


def recv_into(endpoint: Endpoint, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
    """Receive, as ``socket.recv_into`` does."""
    return recvfrom_into(endpoint, buffer, nbytes, flags)[0]


def recvfrom_into(
    endpoint: Endpoint, buffer: Any, nbytes: int = 0, flags: int = 0
) -> tuple[int, Any]:
    """Receive, as ``socket.recvfrom_into`` does."""
    with memoryview(buffer) as view, view.cast("B") as flat:
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        if nbytes > len(flat):
            raise ValueError("buffer too small for requested bytes")
        data, address = recvfrom(endpoint, nbytes or len(flat), flags)
        flat[: len(data)] = data
    return len(data), address


def recvmsg(
    endpoint: Endpoint, bufsize: int, ancbufsize: int = 0, flags: int = 0
) -> tuple[bytes, list[Any], int, Any]:
    """Receive, as ``socket.recvmsg`` does; the only ancillary data are descriptors."""
    if not ancbufsize or not isinstance(endpoint, StreamEndpoint):
        data, address = recvfrom(endpoint, bufsize, flags)
        return data, [], 0, address
    data = endpoint.receive(bufsize, bool(flags & socket.MSG_PEEK))
    passed = endpoint.take_passed()
    capacity = max(0, (ancbufsize - socket.CMSG_LEN(0)) // 4)
    close_all(passed[capacity:])
    received = array.array("i", passed[:capacity]).tobytes()
    ancillary = [(_SOL_SOCKET, int(socket.SCM_RIGHTS), received)] if received else []
    return data, ancillary, socket.MSG_CTRUNC if len(passed) > capacity else 0, None


def recvmsg_into(
    endpoint: Endpoint, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
) -> tuple[int, list[Any], int, Any]:
    """Receive, as ``socket.recvmsg_into`` does, without ancillary data."""
    views = [memoryview(each).cast("B") for each in buffers]
    data, address = recvfrom(endpoint, sum(map(len, views)), flags)
    start = 0
    for view in views:
        part = data[start : start + len(view)]
        view[: len(part)] = part
        start += len(part)
    return len(data), [], 0, address


def send(endpoint: Endpoint, data: Any, flags: int = 0) -> int:
    """Send, as ``socket.send`` does."""
    assert isinstance(endpoint, (StreamEndpoint, DatagramEndpoint))
    return endpoint.send(_flat(data))


def sendall(endpoint: Endpoint, data: Any, flags: int = 0) -> None:
    """Send everything, as ``socket.sendall`` does. Raises BlockingIOError if the buffer is full."""
    rest = _flat(data)
    while True:
        rest = rest[send(endpoint, rest) :]
        if not rest:
            return


def sendto(endpoint: Endpoint, data: Any, *args: Any) -> int:
    """Send, as ``socket.sendto`` does: the arguments are an address, or flags and an address."""
    if not 1 <= len(args) <= 2:
        raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(args)} given)")
    if isinstance(endpoint, StreamEndpoint):
        if endpoint.state is CONNECTED:
            fail(errno.EISCONN)
        fail(errno.EPIPE if endpoint.family != UNIX else errno.EOPNOTSUPP)
    assert isinstance(endpoint, DatagramEndpoint)
    return endpoint.send(_flat(data), args[-1])


def sendmsg(
    endpoint: Endpoint,
    buffers: Iterable[Any],
    ancdata: Iterable[Any] = (),
    flags: int = 0,
    address: Any = None,
) -> int:
    """Send, as ``socket.sendmsg`` does; the only ancillary data are descriptors."""
    joined = b"".join(bytes(memoryview(each)) for each in buffers)
    numbers = array.array("i")
    for level, kind, content in ancdata:
        if (level, kind) != (_SOL_SOCKET, socket.SCM_RIGHTS) or endpoint.family != UNIX:
            fail(errno.EOPNOTSUPP, _ANCILLARY)
        numbers.frombytes(bytes(memoryview(content)))
    if numbers:
        return _send_passing(endpoint, joined, numbers)
    if address is not None:
        return sendto(endpoint, joined, address)
    return send(endpoint, joined)


def _send_passing(endpoint: Endpoint, data: bytes, numbers: Iterable[int]) -> int:
    """Send ``data`` with duplicates of descriptors."""
    if not isinstance(endpoint, StreamEndpoint):
        fail(errno.EOPNOTSUPP, _ANCILLARY)
    passed: list[int] = []
    try:
        # If one of them is closed, those before it are in the list.
        passed.extend(map(_module.dup, numbers))
        return endpoint.send(data, tuple(passed))
    except BaseException:
        close_all(passed)
        raise


def send_from_file(endpoint: Endpoint, source: int, offset: int | None, count: int) -> int:
    """Send from a file, as ``os.sendfile`` does."""
    count = min(count, BUFFER_SIZE)
    if offset is not None:
        data = _pread(source, count, offset)
        return send(endpoint, data) if data else 0
    position = os.lseek(source, 0, os.SEEK_CUR)
    sent = send_from_file(endpoint, source, position, count)
    os.lseek(source, position + sent, os.SEEK_SET)
    return sent


def shutdown(endpoint: Endpoint, how: int) -> None:
    """End one direction or both, as ``socket.shutdown`` does."""
    if isinstance(endpoint, StreamEndpoint):
        endpoint.shutdown(how)
    elif isinstance(endpoint, DatagramEndpoint):
        endpoint.shutdown()


def getsockname(endpoint: Endpoint) -> Any:
    """Return the own address."""
    return endpoint.local


def getpeername(endpoint: Endpoint) -> Any:
    """Return the address of the peer. Raises OSError with ENOTCONN if there is none."""
    is_stream = isinstance(endpoint, StreamEndpoint)
    if endpoint.remote is None or (is_stream and getattr(endpoint, "state", None) != CONNECTED):
        fail(errno.ENOTCONN)
    return endpoint.remote


def getsockopt(endpoint: Endpoint, level: int, optname: int, buflen: int = 0) -> Any:
    """Return an option: one that was set, or the system's default where programs depend on it."""
    value: Any
    if level == _SOL_SOCKET and optname == socket.SO_ERROR:
        value = endpoint.take_error()
    elif level == _SOL_SOCKET and optname == socket.SO_TYPE:
        value = endpoint.kind
    elif level == _SOL_SOCKET and optname == getattr(socket, "SO_ACCEPTCONN", -1):
        value = int(isinstance(endpoint, StreamEndpoint) and endpoint.state is LISTENING)
    elif level == _SOL_SOCKET and optname == getattr(socket, "SO_DOMAIN", -1):
        value = endpoint.family
    elif level == _SOL_SOCKET and optname == getattr(socket, "SO_PEERCRED", -1):
        value = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    elif level == _SOL_SOCKET and optname in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        value = endpoint.options.get((level, optname), BUFFER_SIZE)
    else:
        value = endpoint.options.get((level, optname), 0)
    if not buflen:
        return value if isinstance(value, int) else int.from_bytes(value[:4], "little", signed=True)
    packed = value if isinstance(value, bytes) else struct.pack("i", value)
    return packed[:buflen].ljust(min(buflen, 4), b"\0")


def setsockopt(
    endpoint: Endpoint, level: int, optname: int, value: Any, optlen: int | None = None
) -> None:
    """Keep an option. SO_LINGER and SO_REUSEPORT have an effect here."""
    if value is None:
        value = bytes(optlen or 0)
    endpoint.options[int(level), int(optname)] = (
        int(value) if isinstance(value, int) else bytes(value)
    )


def bind(endpoint: Endpoint, address: Any) -> None:
    """Bind to an address, as ``socket.bind`` does."""
    endpoint.bind(address)


def _flat(data: Any) -> bytes | memoryview:
    return data if isinstance(data, bytes) else memoryview(data).cast("B")

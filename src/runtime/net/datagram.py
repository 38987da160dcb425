"""Datagram endpoints for protocols: ``loop.create_datagram_endpoint``, and its transport.

Source: "Datagram Transports" and "Datagram Protocols" in the standard library's documentation of
asyncio, as of Python 3.13.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import warnings
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from runtime.kernel.core import LoopCore
from runtime.kernel.protocols import made_by
from runtime.kernel.sizes import Size
from runtime.kernel.types import Future
from runtime.kernel.uncopyable import Uncopyable
from runtime.net.datagram_transport import Data, DatagramCore, DatagramReceiver
from runtime.net.names import resolve
from runtime.net.sockets import sock_connect

P = TypeVar("P", bound=asyncio.BaseProtocol)

Address = tuple[str, int] | str
"""Host and port; for Unix sockets a path."""

_Candidate = tuple[int, int, Any, Any]
"""Family, protocol number, local address, remote address."""

_logger: Final = logging.getLogger("asyncio")


class DatagramTransport(Uncopyable, asyncio.DatagramTransport, asyncio.Transport):
    """The transport of a datagram endpoint. Made by ``loop.create_datagram_endpoint``.

    What it does is done by a ``DatagramCore``: ``sendto`` is that one's very method.
    """

    __slots__ = ("__dict__", "__weakref__", "_core", "sendto")

    if TYPE_CHECKING:

        def sendto(self, data: Data, addr: Any = None) -> None:
            """See ``DatagramCore.sendto``."""

    def __init__(self, core: DatagramCore, sock: socket.socket) -> None:
        super().__init__(
            {
                "socket": TransportSocket(sock),
                "sockname": core.sockname(),
                "peername": core.peername,
            }
        )
        self._core = core
        self.sendto = core.sendto  # type: ignore[method-assign]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``sockname`` or ``peername``; ``default`` for anything else.

        The addresses are the socket's own answers: ``sockname`` changes when the system chooses a
        port at the first ``sendto``.
        """
        if name == "sockname":
            return self._core.sockname()
        return super().get_extra_info(name, default)

    def get_protocol(self) -> Any:
        """Return the protocol; None once the transport is closed."""
        return self._core.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
        self._core.set_protocol(cast(DatagramReceiver, protocol))

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are unsent, 8 more for each datagram."""
        return self._core.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._core.water_marks()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the unsent bytes that ``pause_writing`` and ``resume_writing`` are called at.

        Defaults: over 64 KiB, and a quarter. Raises ValueError unless ``high >= low >= 0``.
        """
        self._core.set_water_marks(high, low)

    def is_reading(self) -> bool:
        """Return whether datagrams are received."""
        return self._core.is_reading()

    def pause_reading(self) -> None:
        """Leave what arrives to the system, whose buffer fills; after that it is lost."""
        self._core.pause_reading()

    def resume_reading(self) -> None:
        """Receive again after ``pause_reading``."""
        self._core.resume_reading()

    def is_closing(self) -> bool:
        """Return whether the transport is closed or being closed."""
        return self._core.closing

    def close(self) -> None:
        """Stop receiving, send what was kept, then call ``connection_lost(None)``."""
        self._core.close()

    def abort(self) -> None:
        """Drop what was kept; then call ``connection_lost(None)``."""
        self._core.abort()

    def _force_close(self, exc: BaseException | None) -> None:
        """Close now because of ``exc``, as asyncio's transports do under this name."""
        self._core.fail(exc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.state()}>"

    def __del__(self) -> None:
        core = self._core
        if core.sock is None:
            return
        message = f"unclosed transport {self!r}"
        core.release()
        warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


async def create_datagram_endpoint(
    loop: LoopCore,
    protocol_factory: Callable[[], P],
    local_addr: Address | None = None,
    remote_addr: Address | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[DatagramTransport, P]:
    """Return the transport and the protocol of a new endpoint. See ``Loop``.

    Cancellation safe: a transport that was being made is closed.
    """
    made, target = await datagram_socket(
        loop,
        local_addr,
        remote_addr,
        family=family,
        proto=proto,
        flags=flags,
        reuse_port=reuse_port,
        allow_broadcast=allow_broadcast,
        sock=sock,
    )
    try:
        protocol = made_by(protocol_factory)
        core = DatagramCore(loop, made, cast(DatagramReceiver, protocol), target, copy_context())
        transport = DatagramTransport(core, made)
    except BaseException:
        if sock is None:
            made.close()
        raise
    waiter: Future[None] = loop.create_future()
    core.introduce(transport, waiter)
    try:
        await waiter
        core.start_receiving()
    except BaseException:
        transport.close()
        raise
    return transport, protocol


async def datagram_socket(
    loop: LoopCore,
    local_addr: Address | None,
    remote_addr: Address | None,
    *,
    family: int,
    proto: int,
    flags: int,
    reuse_port: bool | None,
    allow_broadcast: bool | None,
    sock: socket.socket | None,
) -> tuple[socket.socket, Any]:
    """Return a non-blocking socket that is bound and connected as asked, and the remote address.

    With ``allow_broadcast`` the socket is not connected, since answers come from others. Raises
    ValueError or TypeError for arguments that do not go together, OSError when there is no such
    socket to be had.
    """
    if sock is not None:
        _check_given(
            loop,
            sock,
            {
                "local_addr": local_addr,
                "remote_addr": remote_addr,
                "family": family,
                "proto": proto,
                "flags": flags,
                "reuse_port": reuse_port,
                "allow_broadcast": allow_broadcast,
            },
        )
        sock.setblocking(False)
        return sock, None
    if not (local_addr or remote_addr):
        if family == 0:
            raise ValueError("unexpected address family")
        candidates: list[_Candidate] = [(family, proto, None, None)]
    elif hasattr(socket, "AF_UNIX") and family == socket.AF_UNIX:
        for address in (local_addr, remote_addr):
            if address is not None and not isinstance(address, str):
                raise TypeError("string is expected")
        if local_addr:
            _remove_stale(cast(str, local_addr))
        candidates = [(family, proto, local_addr, remote_addr)]
    else:
        candidates = await _candidates(loop, local_addr, remote_addr, family, proto, flags)
    errors: list[OSError] = []
    for candidate in candidates:
        try:
            return await _open(loop, candidate, bool(reuse_port), bool(allow_broadcast))
        except OSError as error:
            errors.append(error)
    try:
        raise errors[0]
    finally:
        errors.clear()  # They hold this frame, and it would hold them.


def _check_given(loop: LoopCore, sock: socket.socket, options: dict[str, Any]) -> None:
    if sock.type == socket.SOCK_STREAM:
        raise ValueError(f"A datagram socket was expected, got {sock!r}")
    given = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    if given:
        raise ValueError(
            f"socket modifier keyword arguments can not be used when sock is specified. ({given})"
        )
    owner = loop.poller.watcher(sock.fileno())
    if isinstance(owner, DatagramCore) and owner.sock is sock:
        raise RuntimeError(f"{sock!r} is used by another endpoint: {owner!r}.")


def _remove_stale(path: str) -> None:
    """Remove the socket that an earlier process left at ``path``; an abstract name has no file."""
    if path[0] == "\x00":
        return
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The directory may permit to make a socket and nothing else: bind() will tell.
        _logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


async def _candidates(
    loop: LoopCore,
    local_addr: Address | None,
    remote_addr: Address | None,
    family: int,
    proto: int,
    flags: int,
) -> list[_Candidate]:
    """Return the families that both addresses can be resolved to, in the order of the answers."""
    found: list[dict[tuple[int, int], Any]] = []
    order: dict[tuple[int, int], None] = {}
    for address in (local_addr, remote_addr):
        resolved: dict[tuple[int, int], Any] = {}
        if address is not None:
            if not (isinstance(address, tuple) and len(address) == 2):
                raise TypeError("2-tuple is expected")
            host, port = address
            for info in await resolve(
                loop, host, port, family=family, kind=socket.SOCK_DGRAM, proto=proto, flags=flags
            ):
                resolved[info[0], info[2]] = info[4]
            order.update(dict.fromkeys(resolved))
        found.append(resolved)
    local, remote = found
    candidates: list[_Candidate] = [
        (*key, local.get(key), remote.get(key))
        for key in order
        if (not local_addr or key in local) and (not remote_addr or key in remote)
    ]
    if not candidates:
        raise ValueError("can not get address information")
    return candidates


async def _open(
    loop: LoopCore, candidate: _Candidate, reuse_port: bool, allow_broadcast: bool
) -> tuple[socket.socket, Any]:
    family, proto, local, remote = candidate
    sock = socket.socket(family, socket.SOCK_DGRAM, proto)
    try:
        sock.setblocking(False)
        if reuse_port:
            _set_reuse_port(sock)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if local:
            sock.bind(local)
        if remote and not allow_broadcast:
            await sock_connect(loop, sock, remote)
    except BaseException:
        sock.close()
        raise
    return sock, remote or None


def _set_reuse_port(sock: socket.socket) -> None:
    if hasattr(socket, "SO_REUSEPORT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            return
    raise ValueError("reuse_port is not supported by this system")

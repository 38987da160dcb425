"""Connected sockets for clients: a given socket, or a new one.

A new TCP socket tries the addresses of its host one after another, or in parallel with a delay
(Happy Eyeballs).
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Sequence
from typing import Any

from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.net.resolver import AddressInfo, bind_error_message, resolve
from runtime.net.setup.happy_eyeballs import Attempt, interleave_families, race
from runtime.net.setup.unix_sockets import connect_unix
from runtime.net.sockets.checks import check_stream_socket, check_unix_socket
from runtime.net.sockets.operations import sock_connect


async def connected_socket(
    loop: LoopCore,
    host: str | bytes | None,
    port: int | str | None,
    sock: socket.socket | None,
    *,
    family: int,
    proto: int,
    flags: int,
    local_addr: tuple[str, int] | None,
    happy_eyeballs_delay: Seconds | None,
    interleave: int | None,
    all_errors: bool,
) -> socket.socket:
    """Return ``sock``, checked, or a new socket that ``connect_tcp`` has connected."""
    if sock is not None:
        if host is not None or port is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if local_addr is not None:
            raise ValueError("local_addr and sock can not be specified at the same time")
        check_stream_socket(sock)
        sock.setblocking(False)
        return sock
    if host is None and port is None:
        raise ValueError("Neither host/port nor sock were specified")
    return await connect_tcp(
        loop,
        host,
        port,
        family=family,
        proto=proto,
        flags=flags,
        local_addr=local_addr,
        happy_eyeballs_delay=happy_eyeballs_delay,
        interleave=interleave,
        all_errors=all_errors,
    )


async def connected_unix_socket(
    loop: LoopCore, path: Any, sock: socket.socket | None
) -> socket.socket:
    """Return ``sock``, checked, or a new socket that is connected to ``path``."""
    if path is not None:
        if sock is not None:
            raise ValueError("path and sock can not be specified at the same time")
        return await connect_unix(loop, path)
    if sock is None:
        raise ValueError("no path and sock were specified")
    check_unix_socket(sock)
    sock.setblocking(False)
    return sock


async def connect_tcp(
    loop: LoopCore,
    host: str | bytes | None,
    port: int | str | None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    local_addr: tuple[str, int] | None = None,
    happy_eyeballs_delay: Seconds | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> socket.socket:
    """Return a non-blocking socket connected to ``host``.

    The host's addresses are tried one by one. With ``happy_eyeballs_delay``, in seconds, the next
    attempt starts after that time, while the attempt before still continues. ``interleave`` is the
    number of addresses of the first family before the first address of another family; 0 keeps the
    resolver's order. The default is 1 with a delay, and 0 without. ``local_addr`` is the address to
    bind to; if it resolves to several, the first that can be bound is used.

    Raises OSError if no attempt succeeds: the common error if all failed alike, otherwise one that
    lists the errors; with ``all_errors`` an ExceptionGroup of all errors. Cancellation safe: no
    socket is left open.

    Source: ``loop.create_connection`` in the standard library's documentation of asyncio.
    """
    delay = None
    if happy_eyeballs_delay is not None:
        delay = seconds(happy_eyeballs_delay, "happy_eyeballs_delay")
    if interleave is None:
        interleave = 0 if delay is None else 1
    _check_types(interleave, local_addr)
    found = await resolve(loop, host, port, family=family, proto=proto, flags=flags)
    local: list[AddressInfo] | None = None
    if local_addr is not None:
        local = await resolve(
            loop, local_addr[0], local_addr[1], family=family, proto=proto, flags=flags
        )
    if interleave:
        found = interleave_families(found, interleave)
    failures: list[list[OSError]] = [[] for _ in found]
    attempts = [
        functools.partial(_attempt, loop, info, local, errors)
        for info, errors in zip(found, failures, strict=True)
    ]
    try:
        if delay is not None:
            sock = await race(loop, attempts, delay)
        else:
            sock = await _first_of(attempts)
        if sock is not None:
            return sock
        raise _failed([error for errors in failures for error in errors], all_errors)
    finally:
        # Break the reference cycles of the exceptions, their tracebacks, the frames and the lists.
        for errors in failures:
            errors.clear()


def _check_types(interleave: object, local_addr: object) -> None:
    """Raise TypeError for arguments of ``connect_tcp`` of wrong types."""
    if not hasattr(interleave, "__index__"):
        raise TypeError(f"interleave must be a whole number of addresses, got {interleave!r}")
    # As in asyncio, any elements after the port are ignored: those of an IPv6 address.
    if local_addr is not None and (
        not isinstance(local_addr, (tuple, list)) or len(local_addr) < 2
    ):
        raise TypeError(f"local_addr must be a pair of host and port, got {local_addr!r}")


async def _first_of(attempts: Sequence[Attempt]) -> socket.socket | None:
    for attempt in attempts:
        sock = await attempt()
        if sock is not None:
            return sock
    return None


def _failed(errors: list[OSError], all_errors: bool) -> Exception:
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    return combine_errors(errors)


def combine_errors(errors: list[OSError]) -> OSError:
    """Return one exception for several failed attempts."""
    if all(str(error) == str(errors[0]) for error in errors):
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(str(error) for error in errors)}")


async def _attempt(
    loop: LoopCore, info: AddressInfo, local: list[AddressInfo] | None, errors: list[OSError]
) -> socket.socket | None:
    """Return a connected socket; or None, and append the reason to ``errors``."""
    family, kind, proto, _, address = info
    sock = None
    try:
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        if local is None or _bind_local(sock, family, local, errors):
            await sock_connect(loop, sock, address)
            return sock
    except OSError as error:
        errors.append(error)
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    if sock is not None:
        sock.close()
    return None


def _bind_local(
    sock: socket.socket, family: int, local: list[AddressInfo], errors: list[OSError]
) -> bool:
    """Bind ``sock`` to the first possible address of ``local``; return whether one succeeded."""
    matching = [info[4] for info in local if info[0] == family]
    for address in matching:
        try:
            sock.bind(address)
        except OSError as error:
            errors.append(OSError(error.errno, bind_error_message(address, error)))
        else:
            return True
    if not matching:
        errors.append(OSError(f"no matching local address with family={family!r} found"))
    return False

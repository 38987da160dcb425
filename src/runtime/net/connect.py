"""Connecting a TCP socket to a host."""

from __future__ import annotations

import socket

from runtime.kernel.core import LoopCore
from runtime.net.names import AddressInfo, resolve
from runtime.net.sockets import sock_connect


async def connect_tcp(
    loop: LoopCore,
    host: str | bytes | None,
    port: int | str | None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    local_addr: tuple[str, int] | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
) -> socket.socket:
    """Return a non-blocking socket connected to ``host``, trying its addresses one by one.

    Raises OSError when none answers: the one error when all are alike, else one that lists them.
    """
    found = await resolve(loop, host, port, family=family, proto=proto, flags=flags)
    local: list[AddressInfo] | None = None
    if local_addr is not None:
        local = await resolve(
            loop, local_addr[0], local_addr[1], family=family, proto=proto, flags=flags
        )
    errors: list[OSError] = []
    for info in found:
        try:
            return await _attempt(loop, info, local)
        except OSError as error:
            errors.append(error)
    try:
        raise combined(errors)
    finally:
        errors.clear()  # They hold this frame, and it would hold them.


def combined(errors: list[OSError]) -> OSError:
    """Return one exception for several failed attempts."""
    if all(str(error) == str(errors[0]) for error in errors):
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(str(error) for error in errors)}")


async def _attempt(
    loop: LoopCore, info: AddressInfo, local: list[AddressInfo] | None
) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        if local is not None:
            _bind_local(sock, family, local)
        await sock_connect(loop, sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_local(sock: socket.socket, family: int, local: list[AddressInfo]) -> None:
    errors: list[OSError] = []
    for info in local:
        if info[0] != family:
            continue
        try:
            sock.bind(info[4])
            return
        except OSError as error:
            errors.append(
                OSError(
                    error.errno,
                    f"error while attempting to bind on address {info[4]!r}: {error.strerror}",
                )
            )
    if not errors:
        raise OSError(f"no matching local address with family={family!r} found")
    raise combined(errors)

"""Host names to addresses: at once when the host is an address already, else in a thread."""

from __future__ import annotations

import socket
from typing import Any

from runtime.kernel.core import LoopCore

AddressInfo = tuple[int, int, int, str, Any]
"""Family, type, protocol, canonical name, and address, as ``socket.getaddrinfo`` gives them."""


def literal_address(
    host: str | bytes | None, port: object, family: int, kind: int, proto: int
) -> AddressInfo | None:
    """Return the address information of a literal IP address; None for anything else.

    A scoped IPv6 address is left to the system, which knows its interfaces.
    """
    if host is None or not isinstance(port, int) or not 0 <= port <= 65535:
        return None
    if kind == socket.SOCK_STREAM and proto in (0, socket.IPPROTO_TCP):
        proto = socket.IPPROTO_TCP
    elif kind == socket.SOCK_DGRAM and proto in (0, socket.IPPROTO_UDP):
        proto = socket.IPPROTO_UDP
    else:
        return None
    text = host.decode("idna") if isinstance(host, bytes) else host
    if family in (socket.AF_UNSPEC, socket.AF_INET) and ":" not in text:
        try:
            socket.inet_pton(socket.AF_INET, text)
        except (OSError, ValueError):
            return None
        return socket.AF_INET, kind, proto, "", (text, port)
    if family in (socket.AF_UNSPEC, socket.AF_INET6) and "%" not in text:
        try:
            socket.inet_pton(socket.AF_INET6, text)
        except (OSError, ValueError):
            return None
        return socket.AF_INET6, kind, proto, "", (text, port, 0, 0)
    return None


async def resolve(
    loop: LoopCore,
    host: str | bytes | None,
    port: int | str | None,
    *,
    family: int = 0,
    kind: int = socket.SOCK_STREAM,
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """Return the addresses of a host, at least one; raises OSError when there is none."""
    literal = literal_address(host, port, family, kind, proto)
    if literal is not None:
        return [literal]
    found = await loop.run_in_executor(
        None, socket.getaddrinfo, host, port, family, kind, proto, flags
    )
    if not found:
        raise OSError(f"getaddrinfo({host!r}) found no address")
    return list(found)

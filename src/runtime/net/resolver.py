"""Resolver: host names to addresses and back.

A lookup that the system answers by itself, such as of an IP address, is done at once. Any other may
block, and runs in a thread.
"""

from __future__ import annotations

import functools
import logging
import operator
import socket
from types import NoneType
from typing import Any, Final, Protocol, cast

from runtime.kernel.core import LoopCore

AddressInfo = tuple[int, int, int, str, Any]
"""Family, type, protocol, canonical name, and address, as ``socket.getaddrinfo`` gives them."""

Host = str | bytes | None
Port = str | bytes | int | None

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NUMERIC_NAME: Final = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_LENGTHS: Final = {int(socket.AF_INET): (2,), int(socket.AF_INET6): (2, 3, 4)}
"""Possible lengths of an address tuple, for the families whose addresses have a host."""

_PROTOCOLS: Final[dict[int, int]] = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}
"""The default protocol of each type of socket."""

_logger: Final = logging.getLogger("asyncio")


class _Resolving(Protocol):
    """The loop as seen from here: users may override its ``getaddrinfo`` in a subclass."""

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int, type: int, proto: int, flags: int
    ) -> list[AddressInfo]:
        """Return the addresses of a host."""


async def getaddrinfo(
    loop: LoopCore, host: Host, port: Port, family: int, kind: int, proto: int, flags: int
) -> list[AddressInfo]:
    """Return the result of ``socket.getaddrinfo``; a name is looked up in a thread."""
    if host is None or _looks_numeric(host):
        try:
            # With these flags the system only parses numbers, without a lookup, and fails for a
            # name.
            return list(socket.getaddrinfo(host, port, family, kind, proto, flags | _NUMERIC))
        except OSError:
            pass
    look_up = _timed_getaddrinfo if loop._debug else _getaddrinfo
    request = (host, port, family, kind, proto, flags)
    found: list[AddressInfo] = await loop._look_up(look_up, loop, request)
    return found


def _looks_numeric(host: object) -> bool:
    """Return whether a host may be an IP address: it has a colon, or ends with a digit."""
    if isinstance(host, str):
        return ":" in host or host[-1:].isdigit()
    return isinstance(host, bytes) and (b":" in host or host[-1:].isdigit())


def _getaddrinfo(_loop: LoopCore, request: tuple[Any, ...]) -> list[AddressInfo]:
    return list(socket.getaddrinfo(*request))


def _timed_getaddrinfo(loop: LoopCore, request: tuple[Any, ...]) -> list[AddressInfo]:
    """Look up like ``_getaddrinfo``, and log the duration: for debug mode, as in asyncio."""
    host, port, *options = request
    words = [f"{host}:{port!r}"]
    names = ("family", "type", "proto", "flags")
    words += [f"{name}={option!r}" for name, option in zip(names, options, strict=True) if option]
    description = ", ".join(words)
    _logger.debug("Get address info %s", description)
    started = loop.time()
    found = _getaddrinfo(loop, request)
    elapsed = loop.time() - started
    level = logging.INFO if elapsed >= loop.slow_callback_duration else logging.DEBUG
    _logger.log(level, "Getting address info %s took %.3fms: %r", description, elapsed * 1e3, found)
    return found


async def getnameinfo(loop: LoopCore, sockaddr: Any, flags: int) -> tuple[str, str]:
    """Return the result of ``socket.getnameinfo``; names are looked up in a thread."""
    if flags & _NUMERIC_NAME == _NUMERIC_NAME:
        return socket.getnameinfo(sockaddr, flags)
    found: tuple[str, str] = await loop._look_up(socket.getnameinfo, sockaddr, flags)
    return found


def literal_address(
    host: str | bytes | None, port: object, family: int, kind: int, proto: int
) -> AddressInfo | None:
    """Return the address information of a literal IP address; None for any other host.

    Also returns None for an IPv6 address with a scope, such as ``fe80::1%eth0``: only the system
    knows its interfaces.
    """
    if host is None or not isinstance(port, int) or not 0 <= port <= 65535:
        return None
    protocol = _PROTOCOLS.get(kind)
    if protocol is None or proto not in (0, protocol):
        return None
    text = host.decode("idna") if isinstance(host, bytes) else host
    if family in (socket.AF_UNSPEC, socket.AF_INET) and ":" not in text:
        literal: AddressInfo = (socket.AF_INET, kind, protocol, "", (text, port))
    elif family in (socket.AF_UNSPEC, socket.AF_INET6) and "%" not in text:
        literal = (socket.AF_INET6, kind, protocol, "", (text, port, 0, 0))
    else:
        return None
    return literal if _is_address(text, literal[0]) else None


def check_host(host: object) -> None:
    """Raise TypeError unless ``host`` is of a type that can name a host."""
    if not isinstance(host, (str, bytes, NoneType)):
        advice = ": the host comes before the port" if isinstance(host, int) else ""
        raise TypeError(f"host must be a str, bytes or None, got {host!r}{advice}")


def _check_port(port: object) -> None:
    """Raise OverflowError for a port outside 0 to 65535, and TypeError for one of a wrong type."""
    if not isinstance(port, (int, str, bytes, NoneType)) and not hasattr(port, "__index__"):
        raise TypeError(f"port must be an int, str, bytes or None, got {port!r}")
    try:
        number = int(port) if isinstance(port, (int, str, bytes)) else 0
    except ValueError:
        return  # It is the name of a service.
    _check_number(number, port)


def _check_number(number: int, port: object) -> None:
    """Raise OverflowError unless ``number`` is a port: the system would use it modulo 65536."""
    if not 0 <= number <= 65535:
        raise OverflowError(f"port must be 0-65535, got {port!r}")


def _target(host: object, port: object) -> str:
    return f"host {host!r}" if isinstance(port, int) else f"host {host!r}, port {port!r}"


def bind_error_message(address: object, error: OSError) -> str:
    """Return the message for a socket that could not be bound, in asyncio's words."""
    reason = (error.strerror or str(error)).lower()
    return f"error while attempting to bind on address {address!r}: {reason}"


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
    """Return the addresses of a host, at least one.

    A host that is not a literal address is looked up by the loop's ``getaddrinfo``. Raises OSError,
    with the host's name in its text, if there is no address; OverflowError for a port outside 0 to
    65535; TypeError if the host or the port is of a wrong type. Cancellation safe.
    """
    check_host(host)
    _check_port(port)
    try:
        literal = literal_address(host, port, family, kind, proto)
        if literal is not None:
            return [literal]
        found = await cast(_Resolving, loop).getaddrinfo(
            host, port, family=family, type=kind, proto=proto, flags=flags
        )
    except UnicodeError as error:
        # The name cannot be encoded. Raise the same exception as for a name that does not exist,
        # so that callers need not handle another one.
        raise socket.gaierror(
            socket.EAI_NONAME, f"{host!r} cannot be the name of a host: {error}"
        ) from error
    except socket.gaierror as error:
        error.strerror = f"{error.strerror}: {_target(host, port)}"
        raise
    if not found:
        raise OSError(f"getaddrinfo({host!r}) found no address")
    return list(found)


def needs_lookup(family: int, address: Any) -> bool:
    """Return whether a socket of ``family`` would look up the host of ``address`` to send there.

    Returns False as well for an address that the socket refuses without a lookup. Raises
    OverflowError for a port outside 0 to 65535.
    """
    if not may_name_host(address) or len(address) not in _LENGTHS.get(family, ()):
        return False
    host, port = address[:2]
    if not hasattr(port, "__index__") or not _is_name(host):
        return False
    _check_number(operator.index(port), port)
    return True


def may_name_host(address: object) -> bool:
    """Return whether the host of ``address`` may be a name: False if it is known to be a number.

    It is fast for addresses that are used repeatedly, because the answers are cached.
    """
    return isinstance(address, tuple) and bool(address) and not _is_known_number(address[0])


def _is_known_number(host: object) -> bool:
    return isinstance(host, str) and _is_number(host)


@functools.lru_cache(maxsize=1024)
def _is_number(host: str) -> bool:
    """Return whether ``host`` is an IP address in its usual form."""
    return any(map(functools.partial(_is_address, host), _LENGTHS))


def _is_address(host: str, family: int) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _is_name(host: object) -> bool:
    """Return whether ``host`` is a name that requires a lookup."""
    if not isinstance(host, (str, bytes, bytearray)):
        return False
    text = host if isinstance(host, str) else host.decode("latin-1")
    # The socket module converts "" and "<broadcast>" itself, and refuses a NUL, without a lookup.
    if text in ("", "<broadcast>") or "\0" in text or _is_number(text):
        return False
    try:
        # The system accepts more forms of numbers, such as "127.1"; they need no lookup either.
        socket.getaddrinfo(text, None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return True
    return False


def with_flow_and_scope(resolved: tuple[Any, ...], given: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the address ``resolved`` with the flow label and the scope of ``given``.

    They are the elements after host and port. Where ``given`` has 0 or no element, that of
    ``resolved`` is kept: a scope may also come from the name, as in ``fe80::1%eth0``.
    """
    numbers = list(resolved[2:])
    for place, number in enumerate(given[: len(numbers)]):
        numbers[place] = number or numbers[place]
    return (*resolved[:2], *numbers)

"""Names of a world: what ``getaddrinfo`` and its relatives answer, late, wrongly or not at all."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection
from typing import Any, Final

from runtime.simulation.checks import Checked, check_probability, check_text
from runtime.simulation.choices import Choices
from runtime.simulation.conditions import Delay, check_delay, latency_of
from runtime.simulation.network.endpoints import IPV4, IPV6
from runtime.simulation.network.machine import LOOPBACK, WILDCARD, Machine, current_machine

_FAMILIES: Final = (IPV4, IPV6)
_KINDS: Final = (
    (int(socket.SOCK_STREAM), int(socket.IPPROTO_TCP)),
    (int(socket.SOCK_DGRAM), int(socket.IPPROTO_UDP)),
    (int(socket.SOCK_RAW), 0),
)

_getservbyname: Final = socket.getservbyname

AddressInfo = tuple[Any, Any, int, str, Any]


class Names:
    """The names that a world's hosts can look up, and the faults of looking them up.

    The name of each host stands for its addresses, and ``localhost`` for the host itself. A name
    without another family's address is answered with IPv4 alone, unless IPv6 is asked for.

    ``delay`` is the time that a lookup takes in the loop, in seconds, a pair of them or a
    ``Latency``. ``failures`` is the probability of a temporary failure, and ``wrong`` that of the
    address of another host. All of them are 0 in a new world.

    >>> from runtime import simulation
    >>> async def main():
    ...     world = simulation.current_world()
    ...     world.host("db-1")
    ...     world.names.set("db", ["db-1"])
    ...     loop = runtime.get_running_loop()
    ...     return (await loop.getaddrinfo("db", 5432))[0][4]
    >>> import runtime
    >>> simulation.run(main)
    ('10.0.0.2', 5432)
    """

    delay = Checked[Delay](0.0, check_delay)
    failures = Checked(0.0, check_probability)
    wrong = Checked(0.0, check_probability)

    def __init__(self, choices: Choices, machines: dict[str, Machine]) -> None:
        self._choices = choices
        self._machines = machines
        self._aliases: dict[str, list[str]] = {}
        self._failing: dict[str, OSError] = {}
        self._delays: dict[str, Delay] = {}

    # -- For programs ------------------------------------------------------------------------------

    def set(self, name: str, addresses: list[str]) -> None:
        """Let ``name`` stand for IP addresses, or for the addresses of hosts given by name.

        Raises TypeError unless ``addresses`` is a list of texts, or another collection of them.
        """
        check_text("name", name)
        given: object = addresses
        if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
            raise TypeError(f"addresses must be a list of texts, got {addresses!r}")
        for address in given:
            check_text("address", address)
        self._aliases[name] = list(addresses)

    def fail(self, name: str, error: OSError | None = None) -> None:
        """Let each lookup of ``name`` fail, with ``error`` or as if there were no such name.

        Raises TypeError unless ``error`` is an OSError.
        """
        check_text("name", name)
        if error is not None and not isinstance(error, OSError):
            raise TypeError(f"error must be an OSError or None, got {error!r}")
        self._failing[name] = _unknown() if error is None else error

    def slow(self, name: str, delay: Delay) -> None:
        """Let each lookup of ``name`` in the loop take ``delay``."""
        check_text("name", name)
        check_delay("delay", delay)
        self._delays[name] = delay

    def restore(self, name: str) -> None:
        """Undo ``set``, ``fail`` and ``slow`` for ``name``."""
        self._aliases.pop(name, None)
        self._failing.pop(name, None)
        self._delays.pop(name, None)

    # -- Answers -----------------------------------------------------------------------------------

    def delay_of(self, name: object) -> float:
        """Return the seconds that a lookup of ``name`` takes."""
        delay = self._delays.get(_text(name), self.delay) if name is not None else self.delay
        return latency_of(delay, "delay").draw(self._choices, "lookup")

    def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """Answer as ``socket.getaddrinfo`` does."""
        if host is None and port is None:
            raise _unknown()
        if family not in (0, *_FAMILIES):
            raise socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
        found = self._addresses(host, family, flags)
        number = _port(port, flags)
        kinds = [
            (kind, protocol)
            for kind, protocol in _KINDS
            if type in (0, kind) and proto in (0, protocol)
        ]
        if not kinds and type:
            kinds = [(type, proto)]
        canonical = _text(host) if flags & socket.AI_CANONNAME and host is not None else ""
        return [
            (
                socket.AddressFamily(each),
                socket.SocketKind(kind),
                protocol,
                canonical,
                (address, number) if each == IPV4 else (address, number, 0, 0),
            )
            for each, address in found
            for kind, protocol in kinds
        ]

    def _addresses(self, host: Any, family: int, flags: int) -> list[tuple[int, str]]:
        """Return pairs of a family and an IP address. Raises gaierror if there is none."""
        wanted = _FAMILIES if family == 0 else (family,)
        if host is None or host in ("", b""):
            table = WILDCARD if flags & socket.AI_PASSIVE else LOOPBACK
            return [(each, table[each]) for each in wanted]
        name = _text(host)
        literal = _literal(name)
        if literal is not None:
            if literal[0] not in wanted:
                raise socket.gaierror(
                    socket.EAI_ADDRFAMILY, "Address family for hostname not supported"
                )
            return [literal]
        if flags & socket.AI_NUMERICHOST:
            raise _unknown()
        found = self._look_up(name)
        if family == 0 and any(each == IPV4 for each, _ in found):
            found = [pair for pair in found if pair[0] == IPV4 or name in self._aliases]
        found = [pair for pair in found if pair[0] in wanted]
        if not found:
            raise _unknown()
        return found

    def _look_up(self, name: str) -> list[tuple[int, str]]:
        error = self._failing.get(name)
        if error is not None:
            raise error
        if name in ("localhost", "localhost.localdomain"):
            return list(LOOPBACK.items())
        if self._choices.chance(self.failures, "lookup failure"):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if len(self._machines) > 1 and self._choices.chance(self.wrong, "wrong address"):
            others = [each for each in self._machines.values() if each.name != name]
            other = others[self._choices.integer(len(others), "wrong address")]
            return list(other.addresses.items())
        found: list[tuple[int, str]] = []
        for each in self._aliases.get(name, [name]):
            literal = _literal(each)
            machine = self._machines.get(each)
            if literal is not None:
                found.append(literal)
            elif machine is not None:
                found += list(machine.addresses.items())
        if not found:
            raise _unknown()
        return found

    def gethostbyname(self, name: str) -> str:
        """Answer as ``socket.gethostbyname`` does."""
        return self._addresses(name, IPV4, 0)[0][1]

    def gethostbyname_ex(self, name: str) -> tuple[str, list[str], list[str]]:
        """Answer as ``socket.gethostbyname_ex`` does."""
        return name, [], [address for _, address in self._addresses(name, IPV4, 0)]

    def gethostbyaddr(self, address: str) -> tuple[str, list[str], list[str]]:
        """Answer as ``socket.gethostbyaddr`` does."""
        name = self._name_of(address)
        if name is None:
            raise socket.herror(1, "Unknown host")
        return name, [], [address]

    def getnameinfo(self, address: Any, flags: int) -> tuple[str, str]:
        """Answer as ``socket.getnameinfo`` does."""
        host, port = address[:2]
        name = None if flags & socket.NI_NUMERICHOST else self._name_of(host)
        if name is None:
            if flags & socket.NI_NAMEREQD:
                raise _unknown()
            name = host
        return name, str(port)

    def _name_of(self, address: str) -> str | None:
        if address in LOOPBACK.values():
            return "localhost"
        for machine in self._machines.values():
            if address in machine.addresses.values():
                return machine.name
        return None

    def gethostname(self) -> str:
        """Return the name of the host that the running code belongs to."""
        machine = current_machine.get()
        return next(iter(self._machines)) if machine is None else machine.name

    def getfqdn(self, name: str = "") -> str:
        """Answer as ``socket.getfqdn`` does: with the name itself."""
        return name or self.gethostname()


def _text(name: Any) -> str:
    if isinstance(name, str):
        # As the socket module does, so that a name which no host can have raises UnicodeError.
        return name if name.isascii() else name.encode("idna").decode("ascii")
    if isinstance(name, (bytes, bytearray)):
        return name.decode("ascii")
    raise TypeError("getaddrinfo() argument 1 must be string or None")


def _literal(name: str) -> tuple[int, str] | None:
    """Return family and normal form of an IP address; None for another name."""
    for family in _FAMILIES:
        try:
            packed = socket.inet_pton(family, name.partition("%")[0])
        except (OSError, ValueError):
            continue
        return family, socket.inet_ntop(family, packed)
    if name[:1].isdigit():
        try:
            return IPV4, socket.inet_ntoa(socket.inet_aton(name))  # As in "127.1".
        except OSError:
            pass
    return None


def _port(port: Any, flags: int) -> int:
    if port is None:
        return 0
    if isinstance(port, int):
        return port & 0xFFFF
    text = port.decode("ascii") if isinstance(port, (bytes, bytearray)) else port
    if not isinstance(text, str):
        raise OSError(errno.EINVAL, f"{os.strerror(errno.EINVAL)}: Int or String expected")
    if text.isdigit():
        return int(text) & 0xFFFF
    try:
        if text and not flags & socket.AI_NUMERICSERV:
            return _getservbyname(text)
    except OSError:
        pass
    if not text:
        return 0
    raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")


def _unknown() -> socket.gaierror:
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")

"""Network of a world as programs see it: the conditions of its links, and planned faults."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from runtime.simulation.checks import check_flag, check_text, check_timeout
from runtime.simulation.conditions import Conditions
from runtime.simulation.network.machine import Machine
from runtime.simulation.network.streams import CONNECTED, StreamEndpoint
from runtime.simulation.network.wire import Wire

Hosts = str | Machine | Iterable[str | Machine]
"""A host or its name, or several of them."""


class Network:
    """The links between the hosts of a world, and the faults that a program plans.

    Faults by chance are among the ``Conditions`` of a link. Hosts are given as objects or by name.

    >>> from runtime import simulation
    >>> async def main():
    ...     world = simulation.current_world()
    ...     world.network.set(simulation.Conditions(latency=0.010))
    ...     server = world.host("server")
    ...     world.network.partition("main", server)
    ...     world.network.heal()
    >>> simulation.run(main)
    """

    def __init__(self, wire: Wire, machines: dict[str, Machine]) -> None:
        self._wire = wire
        self._machines = machines

    def set(self, conditions: Conditions, *, within: Conditions | None = None) -> None:
        """Set the conditions between any two hosts; with ``within`` also those inside a host.

        They do not apply to links with conditions of their own. Raises TypeError for other objects.
        """
        _check_conditions("conditions", conditions)
        if within is not None:
            _check_conditions("within", within)
        self._wire.between = conditions
        if within is not None:
            self._wire.within = within

    def set_link(
        self, source: Hosts, target: Hosts, conditions: Conditions | None, *, one_way: bool = False
    ) -> None:
        """Set the conditions between hosts, in both directions unless ``one_way``.

        None means those of the network again. Raises TypeError for another object.
        """
        if conditions is not None:
            _check_conditions("conditions", conditions)
        for pair in self._pairs(source, target, one_way):
            self._wire.path(*pair).conditions = conditions

    def partition(self, source: Hosts, target: Hosts, *, one_way: bool = False) -> None:
        """Lose everything that ``source`` sends to ``target``, and back unless ``one_way``.

        Bytes of connections are sent again once the network is healed, and a connection fails with
        ETIMEDOUT if that takes longer than ``retransmission_limit``.
        """
        self._wire.set_cut(self._pairs(source, target, one_way), True)

    def heal(self, source: Hosts | None = None, target: Hosts | None = None) -> None:
        """End all partitions, or those between ``source`` and ``target``, in both directions.

        Raises TypeError if only one of the two is given.
        """
        if (source is None) != (target is None):
            raise TypeError("heal() expected no hosts, or two: the partition is between them")
        if source is None or target is None:
            self._wire.heal()
        else:
            self._wire.set_cut(self._pairs(source, target, False), False)

    def reset(self, source: Hosts, target: Hosts) -> int:
        """Reset the connections between hosts; return their number. Both ends get ECONNRESET."""
        found = self._connections(source, target)
        for endpoint in found:
            endpoint.reset()
        return len(found)

    def half_open(self, source: Hosts, target: Hosts) -> int:
        """Let ``source`` forget its connections to ``target``; return their number.

        ``source`` finds them timed out. ``target`` is not told, and finds out only when it sends:
        it is answered with a reset.
        """
        found = self._connections(source, target)
        for endpoint in found:
            endpoint.fail(errno.ETIMEDOUT)
        return len(found)

    @property
    def retransmission_limit(self) -> float:
        """Seconds after which a connection fails whose packets are lost; 924.6, as on Linux."""
        return self._wire.retransmission_limit

    @retransmission_limit.setter
    def retransmission_limit(self, seconds: float) -> None:
        check_timeout("retransmission_limit", seconds)
        self._wire.retransmission_limit = seconds

    @property
    def connect_timeout(self) -> float:
        """Seconds after which an attempt to connect fails; 127, as on Linux."""
        return self._wire.connect_timeout

    @connect_timeout.setter
    def connect_timeout(self, seconds: float) -> None:
        check_timeout("connect_timeout", seconds)
        self._wire.connect_timeout = seconds

    def _connections(self, source: Hosts, target: Hosts) -> list[StreamEndpoint]:
        """Return the ends, at ``source``, of the connections to ``target``."""
        peers = self._hosts(target)
        return [
            endpoint
            for machine in self._hosts(source)
            for endpoint in list(machine.endpoints)
            if isinstance(endpoint, StreamEndpoint)
            and endpoint.state is CONNECTED
            and endpoint.peer is not None
            and endpoint.peer.machine in peers
        ]

    def _pairs(self, source: Hosts, target: Hosts, one_way: bool) -> list[tuple[Machine, Machine]]:
        check_flag("one_way", one_way)
        pairs = [(a, b) for a in self._hosts(source) for b in self._hosts(target) if a is not b]
        return pairs if one_way else [*pairs, *((b, a) for a, b in pairs)]

    def _hosts(self, hosts: Hosts) -> list[Machine]:
        given: list[Any]
        if isinstance(hosts, (str, Machine)):
            given = [hosts]
        else:
            try:
                given = list(hosts)
            except TypeError:
                raise TypeError(
                    f"hosts must be a host, a name, or several, got {hosts!r}"
                ) from None
        return [each if isinstance(each, Machine) else self._host(each) for each in given]

    def _host(self, name: str) -> Machine:
        check_text("name", name)
        try:
            return self._machines[name]
        except KeyError:
            known = ", ".join(self._machines)
            raise ValueError(
                f"there is no host {name!r} in the simulated world, which has {known}: "
                "make one with world.host()"
            ) from None


def _check_conditions(name: str, conditions: object) -> None:
    if not isinstance(conditions, Conditions):
        raise TypeError(f"{name} must be simulation.Conditions, got {conditions!r}")

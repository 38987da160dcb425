"""World of a simulated run: its hosts, its network, its names, and the time at which they act."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from runtime.simulation.checks import check_function, check_seconds, check_text
from runtime.simulation.choices import Choices
from runtime.simulation.clock import SimulatedClock
from runtime.simulation.disk import Disk
from runtime.simulation.hosts import Graveyard, Host
from runtime.simulation.network.endpoints import Endpoint
from runtime.simulation.network.faults import Network
from runtime.simulation.network.machine import Machine, current_machine
from runtime.simulation.network.names import Names
from runtime.simulation.network.replacements import Replacements
from runtime.simulation.network.selector import SimulatedSelector
from runtime.simulation.network.sockets import Descriptors
from runtime.simulation.network.wire import Wire
from runtime.simulation.schedule import Schedule

MAIN = "main"
"""The name of the host that code belongs to which runs on no other."""


class World:
    """Everything around the program of one run. ``current_world()`` returns it.

    A world begins with one host, ``main``, and a network without delays and faults. ``network`` are
    the links between the hosts and their faults, and ``names`` what name lookups answer.
    """

    def __init__(
        self,
        choices: Choices,
        clock: SimulatedClock,
        schedule: Schedule | None = None,
        *,
        outside: bool = False,
        late_events: bool = False,
    ) -> None:
        self._choices = choices
        self._clock = clock
        self._wire = Wire(choices, clock)
        self._machines: dict[str, Machine] = {}
        self._graveyard = Graveyard()
        # Whether the loop may watch descriptors that the world does not control.
        self._outside = outside
        # Whether events of the network come later than they could, by choice.
        self._late_events = late_events
        self._schedule = schedule
        if schedule is not None:
            schedule.next_event = self._wire.next_event
        self._main = self.host(MAIN)
        self._descriptors = Descriptors(self._wire, choices, self._current)
        self.network = Network(self._wire, self._machines)
        self.names = Names(choices, self._machines)
        self._replacements = Replacements(self._descriptors, self.names, clock, self._wait)

    # -- For programs ------------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        """Return the host with this name, which is made when it is first asked for.

        It is up, has an empty disk, and an address of IPv4 and of IPv6; other hosts find it by its
        name. Raises TypeError or ValueError unless the name is a printable text that is not empty.
        """
        check_text("name", name)
        if not name:
            raise ValueError("name must be the name of a host, got an empty text")
        host = self._machines.get(name)
        if host is None:
            host = Host(name, len(self._machines) + 1, self._wire, self._choices, self._graveyard)
            self._machines[name] = host
            self._wire.add(host)
            if self._schedule is not None and len(self._machines) > 1:
                self._schedule.use_hosts(current_machine)
        assert isinstance(host, Host)
        return host

    def hosts(self) -> list[Host]:
        """Return all hosts, the first one included, in the order in which they were made."""
        return [host for host in self._machines.values() if isinstance(host, Host)]

    def current_host(self) -> Host:
        """Return the host that the running task or callback belongs to."""
        host = self._current()
        assert isinstance(host, Host)
        return host

    @property
    def disk(self) -> Disk:
        """The disk of the current host."""
        return self.current_host().disk

    def time(self) -> float:
        """Return the time of the world in seconds: that of the loop's clock."""
        return self._clock()

    def after(self, delay: float, function: Callable[..., object], *args: Any) -> None:
        """Call ``function(*args)`` after ``delay`` seconds, also while all tasks wait: a fault.

        It is called by the world and not by a task: it may not await. Raises TypeError or
        ValueError unless the delay is a finite number that is not negative, and TypeError unless
        ``function`` can be called and is not async.
        """
        check_seconds("delay", delay)
        check_function("function", function, "; it can create a task")
        context = copy_context()
        self._wire.after(delay, lambda: context.run(function, *args))

    # -- For runs ----------------------------------------------------------------------------------

    def clock_offset(self) -> float:
        """Return the number of seconds by which the wall clock of the current host is ahead."""
        return self.current_host().clock_offset

    def selector(self) -> SimulatedSelector:
        """Return a new selector, for one loop of this world."""
        return SimulatedSelector(
            self._wire,
            self._descriptors,
            self._choices,
            self._clock,
            outside=self._outside,
            late_events=self._late_events,
            latest=self._latest,
        )

    def _latest(self) -> float:
        """Return the time at which a wait of the loop ends at the latest."""
        return math.inf if self._schedule is None else self._schedule.wait_until

    def install(self) -> None:
        """Make this the current world: the sockets of this thread, and names, are the world's.

        Raises RuntimeError if there is a current world already.
        """
        if _worlds:
            raise RuntimeError("there is a simulated world already: remove it first")
        _worlds.append(self)
        self._replacements.install()

    def remove(self) -> None:
        """End the world, if it is installed: its sockets are of no use any more."""
        if self not in _worlds:
            return
        try:
            self._descriptors.close_dead()
            for host in self.hosts():
                for endpoint in list(host.endpoints):
                    endpoint.is_dead = True
            self._graveyard.close()
        finally:
            self._replacements.remove()
            _worlds.clear()

    def has_sockets(self) -> bool:
        """Return whether there are simulated sockets."""
        return bool(self._descriptors.endpoints())

    def open_sockets(self) -> list[str]:
        """Return descriptions of the simulated sockets that are open, for a report of leaks."""
        return [
            repr(endpoint)
            for endpoint in self._descriptors.endpoints()
            if not _is_background(endpoint)
        ]

    def background_descriptors(self) -> set[int]:
        """Return the descriptors that do not count as leftovers of a program.

        They are those of crashed hosts, and of the hosts that the set-up function of the run made.
        """
        return {
            descriptor
            for endpoint in self._descriptors.endpoints()
            if _is_background(endpoint)
            for descriptor in endpoint.descriptors
        }

    def _wait(self, deadline: float) -> bool:
        """Let the next event of the network happen, for a blocking call until ``deadline``."""
        moment = min(self._wire.next_event(), deadline)
        if moment < math.inf:
            self._clock.advance(moment)
        if self._wire.next_event() > deadline or moment == math.inf:
            return False
        self._wire.run_due()
        return True

    def _current(self) -> Machine:
        return current_machine.get() or self._main


def _is_background(endpoint: Endpoint) -> bool:
    return endpoint.is_dead or endpoint.machine.is_background


_worlds: list[World] = []


def current_world() -> World:
    """Return the world of the current run. Raises RuntimeError outside of a simulated run."""
    if not _worlds:
        raise RuntimeError(
            "there is no simulated world here: current_world() is for code that "
            "runtime.simulation runs"
        )
    return _worlds[0]


def has_world() -> bool:
    """Return whether code runs in a simulated world."""
    return bool(_worlds)

"""``Watcher``: the interface of the objects that handle the events of a descriptor.

The idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

from typing import Final

from runtime.kernel.daemons import in_daemon
from runtime.kernel.native.mypyc import mypyc_attr

READ: Final = 1
WRITE: Final = 2

_in_daemon: Final = in_daemon.get


@mypyc_attr(allow_interpreted_subclasses=True)
class Watcher:
    """Base class of the objects that handle the events of one descriptor."""

    __slots__ = ("daemon", "events", "fd", "once", "registered_in")

    def __init__(self, fd: int) -> None:
        # The flags come last, beside those of the subclasses: alone, each would take eight bytes.
        self.fd = fd
        # READ, WRITE, both, or 0 while nothing is watched.
        self.events = 0
        # The round of the poller in which the watcher was registered: it gets only later events.
        self.registered_in = 0
        # Whether a daemon task made the watcher, so that it does not keep the loop from being idle.
        self.daemon: bool = _in_daemon()
        # Whether ``arm`` made the registration, which then stays while ``events`` is 0.
        self.once = False

    def on_readable(self) -> None:
        """Handle an event of ``watch``: the descriptor is readable. Called by the poller."""

    def on_writable(self) -> None:
        """Handle an event of ``watch``: the descriptor is writable. Called by the poller."""

    def on_fired(self, readable: bool, writable: bool) -> None:
        """Handle the event of ``arm``; an error or a hang-up is both readable and writable.

        If it is neither, the event may have been lost: a watcher that still waits arms again.
        """

    def on_unwanted(self) -> None:
        """Handle an event of a kept registration for which no task waited; it is disarmed now."""

    def on_failed(self, error: BaseException) -> None:
        """Handle an exception of one of the methods above, which the poller has reported."""

    def on_lost(self) -> None:
        """Handle the loss of the descriptor: it was closed while it was registered.

        Its number may mean another file by now.
        """

    def on_taken_over(self) -> None:
        """Handle the loss of the descriptor to another watcher of the same file."""
        self.on_lost()

    def get_protocol(self) -> object:
        """Return the protocol that the events are for, or None."""
        return None

    def unsent_now(self) -> int:
        """Return the size of the write buffer, in bytes."""
        return 0

    def on_closed(self) -> None:
        """Handle the loss of a watched descriptor that a check has found, like ``on_lost``."""
        self.on_lost()

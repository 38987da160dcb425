"""Registrations of tasks that stay armed between the waits for the same socket.

``Poller.arm`` registers a descriptor for one event, after which the kernel disarms the
registration, and each further wait arms it again by a MOD, which is a system call: see
``poller.py``. A task that converses through one socket waits each time until the peer has answered,
and has read everything by then. It does not need the disarming. So with ``keep`` the registration
stays armed after its event, and ``resume`` begins the next wait without a system call::

    disarmed -- arm, keep --> kept, a task waits -- an event --> kept, no task waits
                MOD              ^                                  |           |
                                 +------------- resume -------------+           | an event
                                                no call                         v
                                                                     disarmed, by a MOD

An event that arrives while no task waits costs a turn of the loop and a MOD; the watcher then has
its next waits armed for one event each. What is lost with the MOD is its other service: nothing
detects that the number means another file than in the last wait. So ``resume`` is for a socket
object that has waited before, is open, and has the same number; a new socket under the same number
is armed. There remain programs that put another file under the number of an open socket object, by
``dup2`` or by closing the number. For them a wait that was resumed counts as unproven. If it takes
longer than ``_UNPROVEN`` seconds, it is armed again with MOD, and while there are such waits the
poller does not wait longer than that for events.

The idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

from typing import Final

from runtime.kernel.watcher import READ, Watcher

_UNPROVEN: Final[float] = 0.05
"""Seconds after which a wait that was resumed without a system call is armed with one.

If the number of its descriptor means another file by now, its events are as late as this.
"""


class KeptRegistrations:
    """The registrations of one poller that are kept."""

    __slots__ = ("_prove_from", "numbers", "unproven")

    def __init__(self) -> None:
        # The descriptors whose registrations are kept.
        self.numbers: set[int] = set()
        # For those among them that have resumed a wait lately, whether the wait has already lasted
        # from one look at them to the next; and the time of the next look.
        self.unproven: dict[int, bool] = {}
        self._prove_from = 0.0

    def clear(self) -> None:
        """Forget all, because no registration is armed any more."""
        self.numbers.clear()
        self.unproven.clear()

    def resume(self, watcher: Watcher) -> bool:
        """Watch READ again for a watcher that watches nothing, if its registration was kept.

        No system call is made, so that the caller answers for the number: it must mean the same
        file as in the last wait. Returns whether the registration was kept; otherwise call ``arm``.
        """
        if watcher.fd not in self.numbers:
            return False
        watcher.events = READ
        self.unproven[watcher.fd] = False
        return True

    def prove(self, watchers: dict[int, Watcher], now: float, timeout: float) -> float:
        """Arm the resumed waits that have lasted for ``_UNPROVEN`` seconds, and forget ended ones.

        Returns the seconds for which the poller may wait, which wants to wait for ``timeout``.
        """
        if now >= self._prove_from:
            self._prove_from = now + _UNPROVEN
            for fd, has_lasted in list(self.unproven.items()):
                watcher = watchers.get(fd)
                if fd not in self.numbers or watcher is None or not watcher.events:
                    del self.unproven[fd]
                elif not has_lasted:
                    self.unproven[fd] = True
                else:
                    del self.unproven[fd]
                    watcher.on_fired(False, False)
                    if not watcher.events:
                        timeout = 0.0  # The descriptor is closed, and its task can run.
        if self.unproven and not 0.0 <= timeout <= _UNPROVEN:
            return _UNPROVEN
        return timeout

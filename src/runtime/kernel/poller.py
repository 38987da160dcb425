"""The poller: descriptors, what is watched on each, and the hand-over of their events.

It stands on a ``selectors`` selector. Registrations are always made through that selector; where it
is an ``EpollSelector``, the wait itself goes straight to epoll, which spares a Python object for
every event.

Invariants:

- A descriptor has at most one watcher, and the selector watches exactly ``watcher.events`` on it.
- An event reaches the watcher that was registered when the selector reported it, or nobody: a
  watcher that was removed meanwhile is gone from ``_watchers``, and one that was registered
  meanwhile (on a descriptor that was closed and used again) carries the number of a later round.
- Whatever a watcher raises, the others get their events.
"""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel import leaf
from runtime.kernel.native import mypyc_attr

READ: Final = 1
WRITE: Final = 2

# Bits of an event mask as epoll reports it. Anything else in a mask, an error or a hang-up, wakes
# both directions, so that whoever waits finds out by trying.
_EPOLLIN: Final = 1
_EPOLLOUT: Final = 4

_QUIET_POLLS: Final = 32
_SKIPS: Final = 7


@mypyc_attr(allow_interpreted_subclasses=True)
class Watcher:
    """What is called when a descriptor can be read or written."""

    __slots__ = ("events", "fd", "registered_in")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # READ, WRITE, both, or 0 while it is not registered.
        self.events = 0
        # The round of the poller in which it was registered: later events only are its own.
        self.registered_in = 0

    def on_readable(self) -> None:
        """Handle that a read would not block."""

    def on_writable(self) -> None:
        """Handle that a write would not block."""

    def on_lost(self) -> None:
        """Handle that the descriptor was closed, and perhaps used again, by somebody else."""


class Poller:
    """The watchers of one loop and the selector that they are registered with."""

    __slots__ = (
        "_epoll_wait",
        "_quiet_polls",
        "_report",
        "_round",
        "_selector",
        "_skips",
        "_watchers",
    )

    def __init__(
        self,
        selector: selectors.BaseSelector | None,
        report: Callable[[str, BaseException, object], object],
    ) -> None:
        self._selector: Any = selector if selector is not None else selectors.DefaultSelector()
        self._report = report
        self._watchers: dict[int, Watcher] = {}
        self._round = 1
        # Polls in a row that were not to wait and found nothing, and turns that may go without one.
        self._quiet_polls = 0
        self._skips = 0
        self._epoll_wait: leaf.Wait | None = None
        given: Any = self._selector
        if type(given) is getattr(selectors, "EpollSelector", None):
            self._epoll_wait = leaf.epoll_wait(given.fileno())

    @property
    def selector(self) -> selectors.BaseSelector:
        """The selector that descriptors are registered with."""
        selector: selectors.BaseSelector = self._selector
        return selector

    def watcher(self, fd: int) -> Watcher | None:
        """Return the watcher of a descriptor, or None."""
        return self._watchers.get(fd)

    def watchers(self) -> list[Watcher]:
        """Return every registered watcher."""
        return list(self._watchers.values())

    def idle(self) -> bool:
        """Return whether nothing is watched but the loop's own wake-up socket."""
        return len(self._watchers) <= 1

    def watch(self, watcher: Watcher, events: int) -> None:
        """Watch exactly ``events`` (READ, WRITE, both, or 0 for none) for ``watcher``.

        A watcher that another one left behind on the same descriptor is told that it lost it.
        Raises OSError where the system cannot watch the descriptor (a regular file, a closed one).
        """
        fd = watcher.fd
        if watcher.events:
            if events:
                if events != watcher.events:
                    self._modify(watcher, events)
            else:
                self._unregister(watcher)
            return
        if not events:
            return
        stale = self._watchers.get(fd)
        if stale is not None:
            self._unregister(stale)
            stale.on_lost()
        try:
            self._selector.register(fd, events)
        except OSError:
            self._forget_key(fd)
            raise
        watcher.events = events
        watcher.registered_in = self._round
        self._watchers[fd] = watcher

    def watch_anew(self, watcher: Watcher) -> None:
        """Register a watcher again: its descriptor's number may mean another file by now."""
        events = watcher.events
        self._unregister(watcher)
        self.watch(watcher, events)

    def _modify(self, watcher: Watcher, events: int) -> None:
        fd = watcher.fd
        try:
            self._selector.modify(fd, events)
        except (OSError, KeyError):
            # The descriptor was closed under the selector, which dropped it. If the number is in
            # use again, the caller means the new one.
            self._forget_key(fd)
            watcher.events = 0
            del self._watchers[fd]
            self._selector.register(fd, events)
            self._watchers[fd] = watcher
            watcher.registered_in = self._round
        watcher.events = events

    def _unregister(self, watcher: Watcher) -> None:
        watcher.events = 0
        del self._watchers[watcher.fd]
        self._forget_key(watcher.fd)

    def _forget_key(self, fd: int) -> None:
        # A descriptor closed under the selector is gone from the system's side already.
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(fd)

    def poll_when_busy(self) -> None:
        """Look for events without waiting, because there is other work to do.

        A loop that is kept busy by callbacks alone would spend a third of its time on polls that
        find nothing. Once ``_QUIET_POLLS`` in a row did, only every eighth turn polls, until there
        is an event, or a turn that has to wait.
        """
        if self._skips:
            self._skips -= 1
            return
        self.poll(0.0)
        if self._quiet_polls >= _QUIET_POLLS:
            self._skips = _SKIPS

    def poll(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for events (negative: no limit) and hand them over."""
        wait = self._epoll_wait
        events = wait(timeout) if wait is not None else self._select(timeout)
        if not events:
            self._quiet_polls = self._quiet_polls + 1 if timeout == 0.0 else 0
            return
        self._quiet_polls = 0
        self._round += 1
        watchers = self._watchers
        for fd, mask in events:
            watcher = watchers.get(fd)
            if watcher is None or watcher.registered_in == self._round:
                continue
            try:
                if mask != _EPOLLOUT and watcher.events & READ:
                    watcher.on_readable()
                    if mask == _EPOLLIN or watchers.get(fd) is not watcher:
                        continue
                if mask != _EPOLLIN and watcher.events & WRITE:
                    watcher.on_writable()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._report("Exception while handling an event", error, watcher)

    def _select(self, timeout: float) -> list[tuple[int, int]]:
        """Wait through the selector's own interface, and give its events in epoll's form."""
        try:
            events = self._selector.select(None if timeout < 0 else timeout)
        except (OSError, ValueError):
            # select() and poll() refuse the whole set when one descriptor of it was closed.
            if not self._drop_closed():
                raise
            return []
        return [
            (key.fd, (_EPOLLIN if mask & READ else 0) | (_EPOLLOUT if mask & WRITE else 0))
            for key, mask in events
        ]

    def _drop_closed(self) -> bool:
        found = False
        for watcher in self.watchers():
            try:
                os.fstat(watcher.fd)
            except OSError:
                self._unregister(watcher)
                watcher.on_lost()
                found = True
        return found

    def close(self) -> None:
        """Drop every watcher and close the selector."""
        for watcher in self.watchers():
            watcher.events = 0
        self._watchers.clear()
        if self._epoll_wait is not None:
            leaf.release(self._epoll_wait)
            self._epoll_wait = None
        self._selector.close()

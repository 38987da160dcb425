"""The poller: descriptors, what is watched on each, and the hand-over of their events.

It stands on a ``selectors`` selector. Registrations are always made through that selector; where it
is an ``EpollSelector``, the wait itself goes straight to epoll, which spares a Python object for
every event.

There are two ways to watch. ``watch`` is for owners of a descriptor, and for callbacks: events come
until it is called again. ``arm`` is for a task that waits, and has one event reported::

    unknown -- arm --> armed -- an event --> disarmed -- arm --> armed ...      closed: unknown
               ADD                  (by epoll itself)    MOD

Where the selector is an ``EpollSelector``, this goes past it, and uses ``EPOLLONESHOT``. The next
wait then costs one system call instead of two, and that call also finds out whether the number
still means the same file: epoll knows registrations by number and file, and refuses to modify one
that has gone with its file. Nothing is to be remembered about sockets that were closed, duplicated,
or handed to another process: what is disarmed reports nothing. A registration that was kept
watching instead would report for ever once another descriptor kept its file open, and could not be
removed.

What ``watch`` registers can be left behind in that way: the descriptor is closed under the poller,
while a duplicate of it, perhaps in another process, keeps the file open. epoll then reports the
file under the old number, and refuses to remove it, for the number means nothing any more, or
another file. The loop would spin. So one batch of events in ``_CHECK_EVERY`` is examined before it
is handed over. A watcher whose number no longer means the same file is told that it lost it. When
an event comes from a registration that nobody can remove, a new epoll takes the place of the old
one, under the same descriptor, without that registration.

Invariants:

- A descriptor has at most one watcher, and exactly ``watcher.events`` is watched on it.
- Whatever the system may have registered for a number belongs to the watcher in ``_watchers``.
- An event reaches the watcher that was registered when the selector reported it, or nobody: a
  watcher that was removed meanwhile is gone from ``_watchers``, and one that was registered
  meanwhile (on a descriptor that was closed and used again) carries the number of a later round.
- Whatever a watcher raises, the others get their events: at once, or, when the exception leaves the
  loop (KeyboardInterrupt, SystemExit), when it runs again. Most registrations report again by
  themselves; what was armed for one event, and may have had it, is armed again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import selectors
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.daemons import in_daemon
from runtime.kernel.diagnostics.debug_mode import EventTimer
from runtime.kernel.diagnostics.unwatchable import unwatchable
from runtime.kernel.native import accelerator
from runtime.kernel.native.mypyc import mypyc_attr

READ: Final = 1
WRITE: Final = 2

# Bits of an event mask as epoll reports it. Anything else in a mask, an error or a hang-up, wakes
# both directions, so that whoever waits finds out by trying.
_EPOLLIN: Final = 1
_EPOLLOUT: Final = 4
_EPOLLONESHOT: Final = 1 << 30

_in_daemon: Final = in_daemon.get

_CHECK_EVERY: Final = 256
"""Batches of events from one check for stale registrations to the next.

A check costs a system call for each event of a batch; a stale registration, which reports in every
batch, is noticed within milliseconds.
"""

_STRIKES: Final = 4
"""Checks in a row that must find an event of a file that is not ready, to take it for stale.

Another process that has the same socket may have taken what there was, as those of a server do that
all accept from one.
"""

_QUIET_POLLS: Final = 32
_SKIPS: Final = 7


@mypyc_attr(allow_interpreted_subclasses=True)
class Watcher:
    """What is called when a descriptor can be read or written."""

    __slots__ = ("daemon", "events", "fd", "once", "registered_in")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # Whether a daemon task made it, so that it keeps no loop from being idle.
        self.daemon: bool = _in_daemon()
        # READ, WRITE, both, or 0 while nothing is watched.
        self.events = 0
        # Whether the registration is one that ``arm`` made: it is kept while nothing is watched.
        self.once = False
        # The round of the poller in which it was registered: later events only are its own.
        self.registered_in = 0

    def on_readable(self) -> None:
        """Handle that a read would not block."""

    def on_writable(self) -> None:
        """Handle that a write would not block."""

    def on_fired(self, readable: bool, writable: bool) -> None:
        """Handle the one event that ``arm`` had watched; an error or a hang-up is both.

        Neither readable nor writable: the event was lost, and is to be watched again.
        """

    def on_failed(self, error: BaseException) -> None:
        """Handle that one of the methods above raised ``error``, which was reported."""

    def on_lost(self) -> None:
        """Handle that the descriptor was closed, and perhaps used again, by somebody else."""

    def get_protocol(self) -> object:
        """Return the protocol that is told of the events; None when there is none."""
        return None

    def on_closed(self) -> None:
        """As ``on_lost``, at an event: it is known that the descriptor was closed under a watch."""
        self.on_lost()


class Poller:
    """The watchers of one loop and the selector that they are registered with."""

    __slots__ = (
        "_apart_from",
        "_check_in",
        "_epoll",
        "_epoll_modify",
        "_epoll_wait",
        "_files",
        "_is_own",
        "_quiet_polls",
        "_report",
        "_round",
        "_selector",
        "_skips",
        "_strikes",
        "_timer",
        "_watchers",
    )

    def __init__(
        self,
        selector: selectors.BaseSelector | None,
        report: Callable[[str, BaseException, object], object],
    ) -> None:
        self._is_own = selector is None
        self._selector: Any = selector if selector is not None else selectors.DefaultSelector()
        self._report = report
        self._watchers: dict[int, Watcher] = {}
        self._round = 1
        # Polls in a row that were not to wait and found nothing, and turns that may go without one.
        self._quiet_polls = 0
        self._skips = 0
        self._epoll_wait: accelerator.Wait | None = None
        # For ``arm``: the selector's epoll, when it has one.
        self._epoll: Any = None
        self._epoll_modify: accelerator.Modify | None = None
        # For ``arm`` without epoll: the file that a number meant when it was registered.
        self._files: dict[int, tuple[int, int] | None] = {}
        # The round in which events are checked next, and what the last checks suspected.
        self._check_in = _CHECK_EVERY
        self._strikes: dict[int, int] = {}
        # The round from which on batches are not simply handed over: that of the next check.
        self._apart_from = self._check_in
        # Measures each event while the loop runs in debug mode.
        self._timer: EventTimer | None = None
        if type(self._selector) is getattr(selectors, "EpollSelector", None):
            try:
                self._open_epoll()
            except BaseException:
                self.abandon()
                raise

    def _open_epoll(self) -> None:
        number: int = self._selector.fileno()
        self._epoll_wait = accelerator.epoll_wait(number)
        # A duplicate, for the object closes its descriptor.
        self._epoll = accelerator.duplicate_epoll(number)
        self._epoll_modify = accelerator.epoll_modify(self._epoll)

    def _close_epoll(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = self._epoll_modify = None
        if self._epoll_wait is not None:
            accelerator.release(self._epoll_wait)
            self._epoll_wait = None

    @property
    def selector(self) -> selectors.BaseSelector:
        """The selector that descriptors are registered with."""
        selector: selectors.BaseSelector = self._selector
        return selector

    def watcher(self, fd: int) -> Watcher | None:
        """Return the watcher of a descriptor, or None."""
        return self._watchers.get(fd)

    def watchers(self) -> list[Watcher]:
        """Return every watcher that something is watched for."""
        return [watcher for watcher in list(self._watchers.values()) if watcher.events]

    def idle(self) -> bool:
        """Return whether nothing is watched but the loop's own wake-up socket."""
        return len(self._watchers) <= 1 or len(self.watchers()) <= 1

    def watch(self, watcher: Watcher, events: int) -> None:
        """Watch exactly ``events`` (READ, WRITE, both, or 0 for none) for ``watcher``.

        A watcher that another one left behind on the same descriptor is told that it lost it.
        Raises OSError where the system cannot watch the descriptor (a regular file, a closed one).
        """
        fd = watcher.fd
        if watcher.once:
            self._unregister(watcher)
        if watcher.events:
            if events:
                if events != watcher.events:
                    self._modify(watcher, events)
            else:
                self._unregister(watcher)
            return
        if not events:
            return
        self._take_over(fd)
        try:
            self._selector.register(fd, events)
        except OSError as error:
            self._forget_key(fd)
            raise unwatchable(fd, error) from None
        watcher.events = events
        watcher.registered_in = self._round
        self._watchers[fd] = watcher

    def _take_over(self, fd: int) -> None:
        stale = self._watchers.get(fd)
        if stale is not None:
            self.evict(stale)

    def evict(self, watcher: Watcher) -> None:
        """Drop a watcher whose descriptor is another file by now, and tell it."""
        self._unregister(watcher)
        watcher.on_lost()

    def arm(self, watcher: Watcher, events: int) -> None:
        """Watch ``events`` (READ, WRITE or both) for ``watcher`` until the first of them comes.

        The file is the one that the descriptor's number means now. ``watch(watcher, 0)`` ends it.
        Raises OSError where the system cannot watch the descriptor (a regular file, a closed one).
        """
        if not watcher.once:
            if watcher.events:
                self._unregister(watcher)
            self._take_over(watcher.fd)
        modify = self._epoll_modify
        if modify is None:
            self._arm_selector(watcher, events)
        else:
            self._arm_epoll(watcher, events, modify)
        watcher.events = events

    def _arm_epoll(self, watcher: Watcher, events: int, modify: accelerator.Modify) -> None:
        mask = _EPOLLONESHOT | _epoll_mask(events)
        if watcher.once:
            if modify(watcher.fd, mask):
                return
            self._unregister(watcher)
        try:
            self._epoll.register(watcher.fd, mask)
        except FileExistsError:
            # The file is back under the number that it had before another one took that.
            self._epoll.modify(watcher.fd, mask)
        except OSError as error:
            raise unwatchable(watcher.fd, error) from None
        self._note_armed(watcher)

    def _note_armed(self, watcher: Watcher) -> None:
        watcher.once = True
        watcher.registered_in = self._round
        self._watchers[watcher.fd] = watcher

    def _arm_selector(self, watcher: Watcher, events: int) -> None:
        """As ``_arm_epoll``, by a registration that the event ends."""
        fd = watcher.fd
        if watcher.events:
            self._forget_key(fd)
        try:
            self._selector.register(fd, events)
        except OSError as error:
            self._forget_key(fd)
            if watcher.once:
                self._unregister(watcher)
            raise unwatchable(fd, error) from None
        self._files[fd] = file_of(fd)
        self._note_armed(watcher)

    def still_holds(self, watcher: Watcher) -> bool:
        """Return whether a watcher's number means the file that it was registered for.

        Where the selector is not epoll, that is not always known; it is then taken to.
        """
        fd = watcher.fd
        modify = self._epoll_modify
        if modify is None:
            return fd not in self._files or self._files[fd] == file_of(fd)
        mask = _epoll_mask(watcher.events)
        if watcher.once:
            mask |= _EPOLLONESHOT
        return modify(fd, mask)

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
        if watcher.once:
            watcher.once = False
            if self._epoll is not None:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(watcher.fd)
                return
            self._files.pop(watcher.fd, None)
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
        try:
            wait = self._epoll_wait
            events = wait(timeout) if wait is not None else self._select(timeout)
            if not events:
                self._quiet_polls = self._quiet_polls + 1 if timeout == 0.0 else 0
                return
            self._quiet_polls = 0
            self._round += 1
            if self._round >= self._apart_from and self._hand_over_apart(events):
                return
            watchers = self._watchers
            for fd, mask in events:
                watcher = watchers.get(fd)
                if watcher is None or watcher.registered_in == self._round:
                    continue
                try:
                    if watcher.once:
                        if self._epoll is None:
                            self._forget_key(fd)
                        watcher.events = 0
                        watcher.on_fired(mask != _EPOLLOUT, mask != _EPOLLIN)
                        continue
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
                    watcher.on_failed(error)
        except BaseException:
            # The handler of a signal, or a lack of memory, may also raise between the system's
            # answer and ours, so that nobody knows which events there were.
            self._arm_again()
            raise

    def set_timer(self, timer: EventTimer | None) -> None:
        """Have the handling of each event measured; None ends that."""
        self._timer = timer
        self._apart_from = self._check_in if timer is None else 0

    def _hand_over_apart(self, events: list[tuple[int, int]]) -> bool:
        """Check a batch if it is time for that; hand it over here if each event is measured.

        It is apart from ``poll``, which hands over all the others and is to cost nothing for these.
        Returns whether the batch was handed over.
        """
        if self._round >= self._check_in:
            self._check(events)
        timer = self._timer
        if timer is None:
            self._apart_from = self._check_in
            return False
        for fd, mask in events:
            watcher = self._watchers.get(fd)
            if watcher is not None and watcher.registered_in != self._round:
                timer.measure(watcher, functools.partial(self._hand_over, watcher, mask))
        return True

    def _hand_over(self, watcher: Watcher, mask: int) -> None:
        try:
            if watcher.once:
                if self._epoll is None:
                    self._forget_key(watcher.fd)
                watcher.events = 0
                watcher.on_fired(mask != _EPOLLOUT, mask != _EPOLLIN)
                return
            if mask != _EPOLLOUT and watcher.events & READ:
                watcher.on_readable()
            if (
                mask != _EPOLLIN
                and watcher.events & WRITE
                and self._watchers.get(watcher.fd) is watcher
            ):
                watcher.on_writable()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report("Exception while handling an event", error, watcher)
            watcher.on_failed(error)

    def _arm_again(self) -> None:
        """Have every watcher that was armed for one event armed again, if it still waits."""
        for watcher in list(self._watchers.values()):
            if watcher.once:
                try:
                    watcher.on_fired(False, False)
                except Exception as error:
                    self._report("Exception while handling an event", error, watcher)

    # -- Stale registrations -----------------------------------------------------------------------

    def _check(self, events: list[tuple[int, int]]) -> None:
        """Find the events of registrations that nobody can remove, and get rid of these."""
        self._check_in = self._round + _CHECK_EVERY
        lost = []
        is_stale = False
        for fd, _ in events:
            watcher = self._watchers.get(fd)
            if watcher is None:
                # Nobody watches; unless the program registered it with the selector by itself.
                is_stale = is_stale or self._is_unknown(fd)
            elif not watcher.once and not self._means_the_same(watcher):
                lost.append(watcher)
        if self._epoll is not None and (self._strike(events) or is_stale or lost):
            lost += self._renew_epoll()
        for watcher in lost:
            if self._watchers.get(watcher.fd) is watcher:
                self._drop_closed_one(watcher)

    def _drop_closed_one(self, watcher: Watcher) -> None:
        self._unregister(watcher)
        try:
            watcher.on_closed()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report("Exception while handling a closed descriptor", error, watcher)

    def _is_unknown(self, fd: int) -> bool:
        return self._epoll is not None and fd not in self._selector.get_map()

    def _means_the_same(self, watcher: Watcher) -> bool:
        if self._epoll_modify is not None:
            return self.still_holds(watcher)
        return file_of(watcher.fd) is not None

    def _strike(self, events: list[tuple[int, int]]) -> bool:
        """Return whether a descriptor was reported again and again without being ready.

        Its number belongs to another file than the one that epoll reports.
        """
        poll = select.poll()
        watched = [fd for fd, _ in events if fd in self._watchers and not self._watchers[fd].once]
        for fd in watched:
            poll.register(fd, _epoll_mask(self._watchers[fd].events))
        ready = {fd for fd, _ in poll.poll(0)}
        before = self._strikes
        self._strikes = {fd: before.get(fd, 0) + 1 for fd in watched if fd not in ready}
        if self._strikes:
            self._check_in = self._round + 1
        return any(count >= _STRIKES for count in self._strikes.values())

    def _renew_epoll(self) -> list[Watcher]:
        """Put a new epoll in the place of the selector's, with what is watched and nothing else.

        The selector keeps its descriptor, and does not notice. Returns the watchers whose
        descriptors turn out to be closed.
        """
        lost = []
        self._strikes = {}
        new = select.epoll()
        try:
            for fd, key in self._selector.get_map().items():
                if not _registers(new, fd, _epoll_mask(key.events)) and fd in self._watchers:
                    lost.append(self._watchers[fd])
            for fd, watcher in self._watchers.items():
                # One that is disarmed is registered when it is armed again.
                armed = watcher.once and watcher.events
                if armed and not _registers(new, fd, _EPOLLONESHOT | _epoll_mask(watcher.events)):
                    lost.append(watcher)
            self._close_epoll()
            os.dup2(new.fileno(), self._selector.fileno(), inheritable=False)
        finally:
            new.close()
        self._open_epoll()
        return lost

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
                if self._watchers.get(watcher.fd) is not watcher:
                    continue  # Another one that lost its descriptor took it back.
                self._unregister(watcher)
                watcher.on_lost()
                found = True
        return found

    def abandon(self) -> None:
        """Close what was opened, for want of a loop. A selector of the caller's stays open."""
        self._release()
        if self._is_own:
            self._selector.close()

    def close(self) -> None:
        """Drop every watcher and close the selector."""
        self._release()
        self._report = _report_to_nobody  # It referred to the loop: a reference cycle.
        self._selector.close()

    def _release(self) -> None:
        watchers = list(self._watchers.values())
        self._watchers.clear()
        for watcher in watchers:
            watcher.events = 0
            watcher.once = False
        self._close_epoll()


def _report_to_nobody(message: str, error: BaseException, watcher: object) -> None:
    pass  # A poller that is closed has no watchers.


def _epoll_mask(events: int) -> int:
    return (_EPOLLIN if events & READ else 0) | (_EPOLLOUT if events & WRITE else 0)


def _registers(epoll: Any, fd: int, mask: int) -> bool:
    try:
        epoll.register(fd, mask)
    except OSError:
        return False
    return True


def file_of(fd: int) -> tuple[int, int] | None:
    """Return what identifies the file behind a descriptor, where the system tells."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino

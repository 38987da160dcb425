"""Poller: the watched descriptors of a loop, and the delivery of their events.

The poller uses a selector of the ``selectors`` module: the standard one, or the program's own. If
it is an ``EpollSelector``, the poller calls epoll itself to wait, which saves a Python object for
each event, and to arm descriptors, which ``selectors`` has no method for. With any other selector
everything goes through the selector's methods. The idioms for mypyc: see ``native/mypyc.py``.

**Two ways to watch.** ``Poller.watch`` is for connections and callbacks, which want every event:
the descriptor is registered until ``watch`` is called again, and is reported in each wait for as
long as it is ready. ``Poller.arm`` is for a task that waits for one event, as in ``sock_recv``.

**Why EPOLLONESHOT.** A task that reads from a socket in a loop waits for the same descriptor again
and again, each time after it has tried to read and found nothing. There are four ways to do this:

1. Register before each wait and unregister after it: two system calls for every wait.
2. Stay registered between the waits: epoll then reports unread bytes in every turn, whether a task
   waits for them or not, and the loop spins.
3. Stay registered edge-triggered (``EPOLLET``): epoll reports only a change. A task that waits
   without having read everything before would miss the bytes that are already there, and the loop
   cannot demand of programs that they read to the end.
4. Stay registered with ``EPOLLONESHOT``: after one event the kernel disarms the registration
   itself. It stays, reports nothing, and ``EPOLL_CTL_MOD`` arms it again, in one system call. If
   the descriptor is ready at that moment, this is reported, so that no event is missed.

``arm`` uses the fourth way. With another selector than epoll it falls back to the first::

    unknown -- arm --> armed -- an event --> disarmed -- arm --> armed ...
               ADD              (by the kernel)          MOD

The call with MOD also detects that the descriptor was closed since the last wait. epoll identifies
a registration by the number of the descriptor together with the open file, and the registration
goes when the file is closed. If the number means another file by now, there is no registration for
the two, MOD fails, and the poller registers again with ADD. So the poller need not be informed
that a program has closed a socket, duplicated it, or passed it to another process, and a
registration that was left disarmed does no harm.

A registration of ``arm`` may also be *kept*: it stays armed after its event. See
``kept_registrations.py``.

**Stale registrations.** The registrations of ``watch``, and those that are kept, can do harm,
because they stay armed. A program may close a descriptor while it is watched, and a duplicate of
the descriptor, perhaps in a child process, may keep the file open::

    descriptor 7 is file A     watch: epoll has the registration (7, A)
    dup(7) gives 9             file A now has two descriptors
    close(7)                   (7, A) stays, because file A is still open
    file A becomes readable    epoll reports "7", in this wait and in every later one
    EPOLL_CTL_DEL of 7         fails: 7 is not open (EBADF), or is another file B (ENOENT)

The registration cannot be removed any more: epoll takes a number to mean the file that it means
now. The only remedies are to close every duplicate, which may belong to other processes, or to
close the epoll. Without a remedy the loop would spin. If B is watched as well, under the same
number 7, it is worse: the events of A reach the watcher of B.

**Checks.** To test every event for this would cost a system call for each. So the poller examines
one batch of events in ``_CHECK_EVERY``; a stale registration reports in every batch, so that it is
found within milliseconds. A check looks for four things:

- An event of a number that neither a watcher nor the selector knows: a stale registration.
- A watcher whose number no longer means the file that it was registered for. A MOD with the mask
  that is registered anyway tells, as above. The watcher's ``on_closed`` is called.
- An event of a registration of ``arm`` that is disarmed: it comes from another file.
- A descriptor that epoll reports, although ``poll(2)`` says that it is not ready. The event may
  come from the other file A, as above. Or another process that shares the socket has taken the
  bytes or the connection meanwhile, which is normal. So the poller checks each of the next
  batches, and considers the registration stale if ``_CHECKS_TO_CONFIRM`` checks in a row find the
  same.

To get rid of a stale registration the poller makes a new epoll, registers everything that is
watched or armed with it, and puts it in the place of the old one with ``dup2``. The selector keeps
its descriptor number and does not notice.

**Rounds.** A wait returns a batch of events, each with the number of a descriptor. While the batch
is delivered, the handler of one event may close another descriptor of the batch and open a new one,
which often gets the same number. The event for that number is not the new one's. So each batch is a
round, with a number; a watcher notes the round in which it was registered, and gets no events of
that round. An event of its own is not lost by that: the next wait reports it.

Invariants:

- A descriptor has at most one watcher, and exactly ``watcher.events`` is watched on it.
- Every registration for a number, except a stale one, belongs to the watcher in ``_watchers``.
- An event reaches the watcher that was registered when the selector reported it, or no watcher. A
  watcher that was removed since then is not in ``_watchers``; a watcher that was registered since
  then has the round of the batch in ``registered_in``.
- If a watcher raises an exception, the others still get their events: at once, or, if the exception
  leaves the loop (KeyboardInterrupt, SystemExit), when the loop runs again. The registrations of
  ``watch`` are then reported again. An event of ``arm`` is not, because the kernel has disarmed the
  registration, so the poller arms all of these again.
- A kept registration is one of ``arm``, and is armed for reading, whether a task waits or not.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import selectors
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from runtime.kernel.diagnostics.debug_mode import EventTimer
from runtime.kernel.joined_writes import PendingWriters
from runtime.kernel.kept_registrations import KeptRegistrations
from runtime.kernel.native import accelerator
from runtime.kernel.native.wait_meter import PythonWaitMeter, Wait, meter_of
from runtime.kernel.watcher import READ, WRITE, Watcher

if TYPE_CHECKING:
    from runtime.kernel.native.wait_meter import WaitMeter

# Bits of an event mask as epoll reports it. Any other bit, for an error or a hang-up, wakes both
# directions: the reader or writer then tries, and gets the error from the system call.
_EPOLLIN: Final = 1
_EPOLLOUT: Final = 4
_EPOLLONESHOT: Final = 1 << 30

_CHECK_EVERY: Final = 256
"""Number of batches of events from one check for stale registrations to the next.

A check costs a system call for each event of the batch. A stale registration reports in every
batch, so that 256 of them take a few milliseconds.
"""

_CHECKS_TO_CONFIRM: Final = 4
"""Number of checks in a row that must find a reported descriptor not ready, to call it stale.

A single such check proves nothing: of several server processes that accept from one socket, another
may have taken the connection.
"""

_QUIET_POLLS: Final = 32
"""Polls in a row without an event after which a busy loop polls less often."""

_SKIPS: Final = 7
"""Turns of such a loop without a poll, before it looks at the clock."""

_APART: Final[float] = 25e-6
"""Seconds between two polls of such a loop, if its turns are short.

A poll costs several times as much as a short turn, and ten times as much as reading the clock.
"""

_LONG: Final[float] = 200e-6
"""Seconds from one poll of such a loop to the next after which each of its turns polls again."""

_monotonic: Final[Callable[[], float]] = time.monotonic

FEW_ENTRIES: Final = 16
"""Entries in the ready queue up to which a turn may do without a poll.

A turn with more of them takes longer, so that a poll adds little to it, and an event that had to
wait for several such turns would be late.
"""


class Poller:
    """The watchers of one loop, and the selector that their descriptors are registered with.

    ``selector`` is the program's, or None for the standard one. ``report`` is called with a
    message, an exception and a watcher, for each exception that the watcher raises.
    """

    __slots__ = (
        "_check_and_measure_from",
        "_check_in",
        "_epoll",
        "_epoll_modify",
        "_epoll_wait",
        "_files",
        "_is_own",
        "_polled",
        "_quiet_polls",
        "_report",
        "_round",
        "_selector",
        "_strikes",
        "_timer",
        "_unready_counts",
        "_wait",
        "_watchers",
        "kept",
        "meter",
        "now",
        "on_tick",
        "skips",
        "writers",
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
        # The watchers and other writers that send at the end of the current turn what they wrote.
        self.writers = PendingWriters()
        self._round = 1
        # The number of polls in a row that did not wait and found nothing, the number of turns to
        # come that do without a poll, and the time of the last poll of such a busy loop.
        self._quiet_polls = 0
        self.skips = 0
        self._polled = 0.0
        # The time of the end of a recent poll: see ``tick``.
        self.now = _monotonic()
        # Called by ``tick``, between two turns; or None.
        self.on_tick: Callable[[], object] | None = None
        # The function that waits for events, and its meter. ``_epoll_wait`` is the same function if
        # it waits on epoll, else None.
        self._wait: Wait = _refuse_to_wait
        self.meter: WaitMeter | None = None
        self._epoll_wait: Wait | None = None
        # The selector's epoll, if it has one, for ``arm``.
        self._epoll: Any = None
        self._epoll_modify: accelerator.Modify | None = None
        # Without epoll, the file of each armed descriptor at the time of its registration.
        self._files: dict[int, tuple[int, int] | None] = {}
        # The registrations of ``arm`` that stay armed after their event.
        self.kept = KeptRegistrations()
        # The round of the next check, and for each suspected descriptor the number of checks in a
        # row that have found it not ready.
        self._check_in = _CHECK_EVERY
        self._unready_counts: dict[int, int] = {}
        # The round from which on poll() leaves batches to _check_and_measure(): that of the next
        # check, or 0 while each event is measured.
        self._check_and_measure_from = self._check_in
        # Measures the duration of each event while the loop runs in debug mode.
        self._timer: EventTimer | None = None
        if type(self._selector) is getattr(selectors, "EpollSelector", None):
            try:
                self._open_epoll()
            except BaseException:
                self.abandon()
                raise
        else:
            self._wait = PythonWaitMeter(self._select).wait
            self._measure_waits()

    def _open_epoll(self) -> None:
        number: int = self._selector.fileno()
        if self._epoll_wait is None:
            self._wait = self._epoll_wait = accelerator.epoll_wait(number)
            self._measure_waits()
        else:
            accelerator.reopen(self._epoll_wait, number)
        # A duplicate: the epoll object closes its descriptor, and must not close the selector's.
        self._epoll = accelerator.duplicate_epoll(number)
        self._epoll_modify = accelerator.epoll_modify(self._epoll)

    def _close_epoll(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = self._epoll_modify = None

    def _measure_waits(self) -> None:
        self.meter = meter_of(self._wait)
        self.meter.set_tick(self.tick)

    def tick(self, now: float) -> None:
        """Note the time. A poll calls this at its end, unless it was called a moment ago.

        So ``now`` is a clock that costs nothing to read. It is behind by ``wait_meter.TICK``
        seconds, and by the time since the last poll.
        """
        self.now = now
        if self.on_tick is not None:
            self.on_tick()

    def begin_run(self) -> None:
        """Note that the loop begins to run; have its first turn poll, which may be the only one."""
        self.skips = 0
        self._quiet_polls = 0
        if self.meter is not None:
            self.meter.begin_run()

    def end_run(self) -> None:
        """Note that the loop has ended to run."""
        if self.meter is not None:
            self.meter.end_run()

    @property
    def selector(self) -> selectors.BaseSelector:
        """The selector that descriptors are registered with."""
        selector: selectors.BaseSelector = self._selector
        return selector

    def watcher(self, fd: int) -> Watcher | None:
        """Return the watcher of a descriptor, or None."""
        return self._watchers.get(fd)

    def watchers(self) -> list[Watcher]:
        """Return the watchers for which at least one event is watched."""
        return [watcher for watcher in list(self._watchers.values()) if watcher.events]

    def unsent(self) -> int:
        """Return the number of bytes in the write buffers of the watchers."""
        return sum([watcher.unsent_now() for watcher in list(self._watchers.values())])

    def idle(self) -> bool:
        """Return whether the loop's own wake-up pipe is the only watched descriptor."""
        return len(self._watchers) <= 1 or len(self.watchers()) <= 1

    def batches(self) -> int:
        """Return a number that grows with every batch of events that is handed over."""
        return self._round

    def watch(self, watcher: Watcher, events: int) -> None:
        """Watch exactly ``events`` (READ, WRITE, both, or 0 for none) for ``watcher``.

        If another watcher is registered under the same descriptor number, its ``on_lost`` is
        called, or its ``on_taken_over`` if the number still means its file. Raises OSError if the
        descriptor cannot be watched: a regular file, or closed.
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
            raise _explained(fd, error) from None
        watcher.events = events
        watcher.registered_in = self._round
        self._watchers[fd] = watcher

    def _take_over(self, fd: int) -> None:
        before = self._watchers.get(fd)
        if before is None:
            return
        # With another selector than epoll, the file is only known of armed descriptors.
        is_known = before.once or self._epoll_modify is not None
        if before.events and is_known and self.is_same_file(before):
            self._unregister(before)
            before.on_taken_over()
        else:
            self.evict(before)

    def evict(self, watcher: Watcher) -> None:
        """Drop a stale watcher, whose number means another file, and call its ``on_lost``."""
        self._unregister(watcher)
        watcher.on_lost()

    def arm(self, watcher: Watcher, events: int, keep: bool) -> None:
        """Watch ``events`` (READ, WRITE or both) for ``watcher`` until the first of them occurs.

        The watched file is the one that the descriptor's number means now. ``watch(watcher, 0)``
        ends the watch. With ``keep``, which is for READ alone, the registration stays armed after
        the event, so that ``kept.resume`` can begin the next wait. Raises OSError if the descriptor
        cannot be watched: a regular file, or closed.
        """
        if not watcher.once:
            if watcher.events:
                self._unregister(watcher)
            self._take_over(watcher.fd)
        modify = self._epoll_modify
        if modify is None:
            self._arm_selector(watcher, events)
        else:
            mask = _EPOLLIN if keep else _EPOLLONESHOT | _epoll_mask(events)
            self._arm_epoll(watcher, mask, modify)
            if keep:
                self.kept.numbers.add(watcher.fd)
            else:
                self.kept.numbers.discard(watcher.fd)
        watcher.events = events

    def _arm_epoll(self, watcher: Watcher, mask: int, modify: accelerator.Modify) -> None:
        if watcher.once:
            if modify(watcher.fd, mask):
                return
            self._unregister(watcher)
        try:
            self._epoll.register(watcher.fd, mask)
        except FileExistsError:
            # dup2() put another file under the number, and later the first file again, whose
            # registration has stayed.
            self._epoll.modify(watcher.fd, mask)
        except OSError as error:
            raise _explained(watcher.fd, error) from None
        self._note_armed(watcher)

    def _disarm(self, watcher: Watcher) -> None:
        """Disarm a kept registration that has an event for which no task waits."""
        fd = watcher.fd
        if fd not in self.kept.numbers:
            return  # A check will find where the event comes from.
        self.kept.numbers.discard(fd)
        modify = self._epoll_modify
        if modify is None or not modify(fd, _EPOLLONESHOT):
            # The number is closed or means another file, and a duplicate keeps the old one open.
            # The next batch is checked, and the event is of an unknown number then.
            self._unregister(watcher)
            self._check_in = self._check_and_measure_from = self._round + 1
        watcher.on_unwanted()

    def _note_armed(self, watcher: Watcher) -> None:
        watcher.once = True
        watcher.registered_in = self._round
        self._watchers[watcher.fd] = watcher

    def _arm_selector(self, watcher: Watcher, events: int) -> None:
        """Arm with a selector other than epoll: register now, and unregister at the event."""
        fd = watcher.fd
        if watcher.events:
            self._forget_key(fd)
        try:
            self._selector.register(fd, events)
        except OSError as error:
            self._forget_key(fd)
            if watcher.once:
                self._unregister(watcher)
            raise _explained(fd, error) from None
        self._files[fd] = file_identity(fd)
        self._note_armed(watcher)

    def is_same_file(self, watcher: Watcher) -> bool:
        """Return whether a watcher's descriptor number means the file that it was registered for.

        With a selector other than epoll this is known only for armed descriptors; for others the
        result is True.
        """
        fd = watcher.fd
        modify = self._epoll_modify
        if modify is None:
            return fd not in self._files or self._files[fd] == file_identity(fd)
        if fd in self.kept.numbers:
            return modify(fd, _EPOLLIN)
        mask = _epoll_mask(watcher.events)
        if watcher.once:
            mask |= _EPOLLONESHOT
        return modify(fd, mask)

    def reregister(self, watcher: Watcher) -> None:
        """Register a watcher again, in case its descriptor number means another file by now."""
        events = watcher.events
        self._unregister(watcher)
        self.watch(watcher, events)

    def _modify(self, watcher: Watcher, events: int) -> None:
        fd = watcher.fd
        try:
            self._selector.modify(fd, events)
        except (OSError, KeyError):
            # The descriptor was closed, and its registration went with it. If the number is in use
            # again, the caller means the new file.
            self._forget_key(fd)
            watcher.events = 0
            del self._watchers[fd]
            self._selector.register(fd, events)
            self._watchers[fd] = watcher
            watcher.registered_in = self._round
        watcher.events = events

    def _unregister(self, watcher: Watcher) -> None:
        watcher.events = 0
        self._watchers.pop(watcher.fd, None)  # A fork in a callback has left the child none.
        if watcher.once:
            watcher.once = False
            self.kept.numbers.discard(watcher.fd)
            if self._epoll is not None:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(watcher.fd)
                return
            self._files.pop(watcher.fd, None)
        self._forget_key(watcher.fd)

    def _forget_key(self, fd: int) -> None:
        # If the descriptor was closed, the system's registration is gone already.
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(fd)

    def poll_when_busy(self, ready: int) -> None:
        """Deliver the events that there are, without waiting: the ready queue has work.

        ``ready`` is the number of its entries. A loop that runs a few callbacks in each turn would
        spend most of its time on polls that find nothing. So after ``_QUIET_POLLS`` such polls in a
        row, a turn with up to ``FEW_ENTRIES`` entries polls only if seven others came before, and
        ``_APART`` seconds have passed since the last poll. If eight turns took longer than
        ``_LONG`` seconds, the next ones poll, until one is shorter than ``_APART``. All this ends
        when a poll finds an event, or the loop has to wait. With another selector than epoll's
        every eighth turn polls: a simulated world does not depend on the clock.
        """
        if self.skips and ready <= FEW_ENTRIES:
            self.skips -= 1
            return
        if self._quiet_polls >= _QUIET_POLLS:
            self.skips = _SKIPS
            if self._epoll_wait is not None and ready <= FEW_ENTRIES:
                now = _monotonic()
                passed = now - self._polled
                if passed < _APART:
                    return
                if passed > _LONG:
                    self.skips = 0
                self._polled = now
        self.poll(0.0)

    def poll(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for events (negative: no limit), and deliver them."""
        writers = self.writers
        writers.open = False
        try:
            if self.kept.unproven:
                timeout = self.kept.prove(self._watchers, self.now, timeout)
            events = self._wait(timeout)
            writers.open = True
            if not events:
                self._quiet_polls = self._quiet_polls + 1 if timeout == 0.0 else 0
                return
            self._quiet_polls = 0
            self._round += 1
            if self._round >= self._check_and_measure_from and self._check_and_measure(events):
                return
            self._deliver(events)
        except BaseException:
            # A signal handler, or a lack of memory, may also raise after the system has returned
            # the events and before they are in a list, so that it is unknown which there were.
            self._arm_again()
            raise

    def _deliver(self, events: list[tuple[int, int]]) -> None:
        """Call the handler of each event, unless its watcher is gone or newer than the event."""
        watchers = self._watchers
        writers = self.writers
        for fd, mask in events:
            if writers.any:
                writers.end_step()
            watcher = watchers.get(fd)
            if watcher is None or watcher.registered_in == self._round:
                continue
            try:
                if watcher.once:
                    if not watcher.events:
                        self._disarm(watcher)
                        continue
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

    def set_timer(self, timer: EventTimer | None) -> None:
        """Measure the handling of each event with ``timer``; None stops the measuring."""
        self._timer = timer
        self._check_and_measure_from = self._check_in if timer is None else 0

    def _check_and_measure(self, events: list[tuple[int, int]]) -> bool:
        """Check a batch if a check is due, and deliver it here if each event is to be measured.

        Returns whether the batch was delivered. These rare cases have a method of their own, so
        that they cost ``poll`` one comparison.
        """
        if self._round >= self._check_in:
            self._check(events)
        timer = self._timer
        if timer is None:
            self._check_and_measure_from = self._check_in
            return False
        for event in events:
            watcher = self._watchers.get(event[0])
            if watcher is not None and watcher.registered_in != self._round:
                timer.measure(watcher, functools.partial(self._deliver, [event]))
                if self.writers.any:
                    self.writers.end_step()
        return True

    def _arm_again(self) -> None:
        """Arm every registration of ``arm`` again whose watcher still waits."""
        for watcher in list(self._watchers.values()):
            if watcher.once:
                try:
                    watcher.on_fired(False, False)
                except Exception as error:
                    self._report("Exception while handling an event", error, watcher)

    # -- Stale registrations -----------------------------------------------------------------------

    def _check(self, events: list[tuple[int, int]]) -> None:
        """Look for stale registrations among the events of a batch, and get rid of them."""
        self._check_in = self._round + _CHECK_EVERY
        lost = []
        is_stale = False
        for fd, _ in events:
            watcher = self._watchers.get(fd)
            if watcher is None:
                # No watcher has this descriptor. The program may have registered it itself, with a
                # selector of its own; otherwise the registration is stale.
                is_stale = is_stale or self._is_unknown(fd)
            elif not watcher.once:
                if not self._is_current(watcher):
                    lost.append(watcher)
            elif not watcher.events and fd not in self.kept.numbers:
                is_stale = True
        if self._epoll is not None and (self._is_repeatedly_unready(events) or is_stale or lost):
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

    def _is_current(self, watcher: Watcher) -> bool:
        if self._epoll_modify is not None:
            return self.is_same_file(watcher)
        return file_identity(watcher.fd) is not None

    def _is_repeatedly_unready(self, events: list[tuple[int, int]]) -> bool:
        """Return whether epoll reported a descriptor in several checks although it was not ready.

        Its number then means another file than the one that epoll reports.
        """
        poll = select.poll()
        watched = [fd for fd, _ in events if fd in self._watchers and self._watchers[fd].events]
        for fd in watched:
            poll.register(fd, _epoll_mask(self._watchers[fd].events))
        ready = {fd for fd, _ in poll.poll(0)}
        before = self._unready_counts
        self._unready_counts = {fd: before.get(fd, 0) + 1 for fd in watched if fd not in ready}
        if self._unready_counts:
            self._check_in = self._round + 1
        return any(count >= _CHECKS_TO_CONFIRM for count in self._unready_counts.values())

    def _renew_epoll(self) -> list[Watcher]:
        """Replace the selector's epoll by a new one without the stale registrations.

        The selector keeps its descriptor, and does not notice. Returns the watchers whose
        descriptors could not be registered again, because they are closed.
        """
        try:
            new = select.epoll()
        except OSError:
            return []  # There is no descriptor left, for example: a later check tries again.
        lost = []
        self._unready_counts = {}
        self.kept.clear()
        try:
            for fd, key in self._selector.get_map().items():
                if not _registers(new, fd, _epoll_mask(key.events)) and fd in self._watchers:
                    lost.append(self._watchers[fd])
            for fd, watcher in self._watchers.items():
                # A disarmed descriptor is registered with the new epoll when it is armed again.
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
        """Wait with the selector's own method, and return its events in epoll's form."""
        try:
            events = self._selector.select(None if timeout < 0 else timeout)
        except (OSError, ValueError):
            # select() and poll() fail altogether if one descriptor of the set is closed.
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
                    continue  # The on_lost() of another watcher has taken this one back already.
                self._unregister(watcher)
                watcher.on_lost()
                found = True
        return found

    def abandon(self) -> None:
        """Close the descriptors that were opened, but not a selector that the caller gave.

        This is for a loop whose initialisation failed.
        """
        self._release()
        if self._is_own:
            self._selector.close()

    def close(self) -> None:
        """Drop every watcher and close the selector."""
        self._release()
        self.on_tick = None
        self._report = _ignore_report  # The old one refers to the loop: a reference cycle.
        self._selector.close()

    def leave(self, stand_in: Callable[[Any], Any]) -> None:
        """Drop every watcher in the child of a fork, and no registration: it is the parent's too.

        ``stand_in`` makes the selector that is used from now on. It is given the program's selector
        to close it, or None.
        """
        selector = self._selector
        self._selector = stand_in(None if self._is_own else selector)
        self._files.clear()
        self._release()
        if self._is_own:
            # The system may have closed the descriptor already, as that of a kqueue.
            with contextlib.suppress(OSError):
                selector.close()

    def _release(self) -> None:
        watchers = list(self._watchers.values())
        self._watchers.clear()
        self.kept.clear()
        for watcher in watchers:
            watcher.events = 0
            watcher.once = False
        self._close_epoll()
        self._wait = _refuse_to_wait
        self._epoll_wait = None
        if self.meter is not None:
            self.meter.close()


def _refuse_to_wait(timeout: float) -> list[tuple[int, int]]:
    raise ValueError("the poller of this event loop is closed")


def _ignore_report(message: str, error: BaseException, watcher: object) -> None:
    pass  # A closed poller has no watchers whose exceptions it could report.


def _explained(fd: int, error: OSError) -> OSError:
    from runtime.kernel.diagnostics.watch_errors import explain_watch_error

    return explain_watch_error(fd, error)


def _epoll_mask(events: int) -> int:
    return (_EPOLLIN if events & READ else 0) | (_EPOLLOUT if events & WRITE else 0)


def _registers(epoll: Any, fd: int, mask: int) -> bool:
    try:
        epoll.register(fd, mask)
    except OSError:
        return False
    return True


def file_identity(fd: int) -> tuple[int, int] | None:
    """Return the device and inode number of the file behind a descriptor; None if it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino

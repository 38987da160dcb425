"""Queues of waiting tasks, from which each task can be removed without a search.

A waiter is a future that a task awaits. A ``deque`` of them costs the least, as long as tasks leave
it at its ends. To remove one from the middle takes a search, so that a thousand tasks that give up
would take a million steps. A long queue that is left in the middle is therefore replaced by
``ManyWaiters``, until it is empty.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from runtime.kernel.public_types import Future

_FEW: Final = 32
"""Number of waiters up to which a search costs less than another kind of queue."""


class ManyWaiters:
    """A queue with those methods of a ``deque`` that the primitives use."""

    __slots__ = ("_entries",)

    def __init__(self, waiters: Iterable[Future[None]]) -> None:
        # The first entry of a plain dictionary is found slowly if many before it were removed.
        self._entries: OrderedDict[Future[None], None] = OrderedDict.fromkeys(waiters)

    def append(self, waiter: Future[None]) -> None:
        """Add a waiter at the end."""
        self._entries[waiter] = None

    def popleft(self) -> Future[None]:
        """Remove and return the first waiter."""
        return self._entries.popitem(last=False)[0]

    def remove(self, waiter: Future[None]) -> None:
        """Remove a waiter, which must be there."""
        del self._entries[waiter]

    def discard(self, waiter: Future[None]) -> None:
        """Remove a waiter if it is there."""
        self._entries.pop(waiter, None)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Literal[0]) -> Future[None]:
        return next(iter(self._entries))

    def __iter__(self) -> Iterator[Future[None]]:
        return iter(self._entries)


Waiters: TypeAlias = deque[Future[None]] | ManyWaiters


def without(waiters: Waiters, waiter: Future[None]) -> Waiters:
    """Return the queue without a waiter that gives up; it takes the place of ``waiters``.

    The waiter need not be in the queue.
    """
    if isinstance(waiters, ManyWaiters):
        waiters.discard(waiter)
        return waiters or deque()
    if not waiters:
        return waiters
    if waiters[-1] is waiter:
        waiters.pop()
    elif waiters[0] is waiter:
        waiters.popleft()
    elif len(waiters) > _FEW:
        many = ManyWaiters(waiters)
        many.discard(waiter)
        return many
    elif waiter in waiters:
        waiters.remove(waiter)
    return waiters

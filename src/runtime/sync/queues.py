"""Queues: pass items from producer tasks to consumer tasks.

A waiter is a future in the queue of getters or in that of putters. A put wakes one getter, and a
get wakes one putter. A woken task checks again whether there is an item, or room, since another
task may have been faster. A task that is cancelled after it was woken wakes the next waiter, so
that no item is left in the queue while a task waits for one.

Nothing here is thread-safe. A queue belongs to no loop until a task has to wait for it: see
``binding.py``.

Source: "Queues" in the standard library's documentation of asyncio; ``shutdown`` as in Python 3.13.
"""

from __future__ import annotations

import functools
import heapq
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, TypeVar

from runtime.kernel.arguments.sizes import limit_of
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import format_repr, short_repr
from runtime.kernel.errors import QueueEmpty, QueueFull, QueueShutDown
from runtime.kernel.public_types import Future
from runtime.sync.binding import bind
from runtime.sync.waiters import Waiters, without

T = TypeVar("T")

_FULL = "the queue is full: 'await put()' waits until there is room"
_EMPTY = "the queue is empty: 'await get()' waits until there is an item"
_SHUT_DOWN = "the queue was shut down"


class Queue(Generic[T]):
    """A queue of items, first in, first out.

    ``maxsize`` is the number of items at which the queue is full, so that ``put`` waits. Zero or
    less means that there is no limit. Raises TypeError when it is not a number, and ValueError for
    NaN.
    """

    __slots__ = (
        "__weakref__",
        "_getters",
        "_is_shutdown",
        "_items",
        "_joiners",
        "_loop",
        "_maxsize",
        "_put_item",
        "_putters",
        "_take_item",
        "_unfinished",
    )

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize if isinstance(maxsize, int) else _checked_maxsize(maxsize)
        self._loop: LoopCore | None = None
        # The container of the items, and the functions that add an item and take the next one.
        # Methods that subclasses override would cost one more call for every put and get.
        self._items: deque[T] | list[T]
        self._put_item: Callable[[T], object]
        self._take_item: Callable[[], T]
        self._make_container()
        self._getters: Waiters = deque()
        self._putters: Waiters = deque()
        self._joiners: Waiters = deque()
        self._unfinished = 0
        self._is_shutdown = False

    def _make_container(self) -> None:
        """Set ``_items``, ``_put_item`` and ``_take_item``."""
        items: deque[T] = deque()
        self._items = items
        self._put_item = items.append
        self._take_item = items.popleft

    @property
    def maxsize(self) -> int:
        """The number of items at which the queue is full; zero or less if there is no limit."""
        return self._maxsize

    def qsize(self) -> int:
        """Return the number of items in the queue."""
        return len(self._items)

    def empty(self) -> bool:
        """Return whether the queue has no items."""
        return not self._items

    def full(self) -> bool:
        """Return whether the queue has ``maxsize`` items."""
        return 0 < self._maxsize <= len(self._items)

    async def put(self, item: T) -> None:
        """Add ``item``, waiting while the queue is full.

        Raises QueueShutDown when the queue is shut down, before or during the wait. Cancellation
        safe: a cancelled call has not added its item.
        """
        maxsize = self._maxsize
        if maxsize > 0:
            while len(self._items) >= maxsize:
                if self._is_shutdown:
                    raise QueueShutDown(_SHUT_DOWN)
                loop = self._loop
                if loop is None or loop._thread_id != get_ident():
                    loop = self._loop = bind(self, loop)
                putter: Future[None] = loop.create_future()
                # The garbage collector may have called a finalizer that uses the queue.
                if len(self._items) < maxsize or self._is_shutdown:
                    continue
                self._putters.append(putter)
                try:
                    await putter
                except BaseException:
                    self._putters = without(self._putters, putter)
                    if (
                        len(self._items) < maxsize
                        and not putter.cancelled()
                        and not loop.is_closed()
                    ):
                        _wake_next(self._putters)
                    raise
        if self._is_shutdown:
            raise QueueShutDown(_SHUT_DOWN)
        self._put_item(item)
        self._unfinished += 1
        getters = self._getters
        if getters:
            getter = getters.popleft()
            if getter._pending:
                getter.set_result(None)
            else:
                _wake_next(getters)

    def put_nowait(self, item: T) -> None:
        """Add ``item``. Raises QueueFull if the queue is full, QueueShutDown after a shutdown."""
        if self._is_shutdown:
            raise QueueShutDown(_SHUT_DOWN)
        if 0 < self._maxsize <= len(self._items):
            raise QueueFull(_FULL)
        self._put_item(item)
        self._unfinished += 1
        getters = self._getters
        if getters:
            getter = getters.popleft()
            if getter._pending:
                getter.set_result(None)
            else:
                _wake_next(getters)

    async def get(self) -> T:
        """Take the next item and return it, waiting while the queue is empty.

        Raises QueueShutDown when the queue is empty and is shut down, before or during the wait.
        Cancellation safe: a cancelled call has taken no item.
        """
        while not self._items:
            if self._is_shutdown:
                raise QueueShutDown(_SHUT_DOWN)
            loop = self._loop
            if loop is None or loop._thread_id != get_ident():
                loop = self._loop = bind(self, loop)
            getter: Future[None] = loop.create_future()
            # The garbage collector may have called a finalizer that uses the queue.
            if self._items or self._is_shutdown:
                continue
            self._getters.append(getter)
            try:
                await getter
            except BaseException:
                self._getters = without(self._getters, getter)
                if self._items and not getter.cancelled() and not loop.is_closed():
                    _wake_next(self._getters)
                raise
        item = self._take_item()
        putters = self._putters
        if putters:
            putter = putters.popleft()
            if putter._pending:
                putter.set_result(None)
            else:
                _wake_next(putters)
        return item

    def get_nowait(self) -> T:
        """Take the next item and return it.

        Raises QueueEmpty when the queue is empty, or QueueShutDown when it was also shut down.
        """
        if not self._items:
            if self._is_shutdown:
                raise QueueShutDown(_SHUT_DOWN)
            raise QueueEmpty(_EMPTY)
        item = self._take_item()
        putters = self._putters
        if putters:
            putter = putters.popleft()
            if putter._pending:
                putter.set_result(None)
            else:
                _wake_next(putters)
        return item

    def task_done(self) -> None:
        """Count one item as processed, for ``join``.

        A consumer calls it when it has processed an item that it took. Raises ValueError when it is
        called more often than items were put.
        """
        if self._unfinished <= 0:
            raise ValueError("task_done() called too many times: each item is done once")
        self._unfinished -= 1
        if self._unfinished == 0 and self._joiners:
            _wake_all(self._joiners)

    async def join(self) -> None:
        """Wait until all items that were put have been processed: see ``task_done``.

        Cancellation safe.
        """
        if self._unfinished == 0:
            return
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        joiner: Future[None] = loop.create_future()
        if self._unfinished == 0:  # By a finalizer that the garbage collector has called.
            return
        self._joiners.append(joiner)
        try:
            await joiner
        except BaseException:
            self._joiners = without(self._joiners, joiner)
            raise

    def shutdown(self, immediate: bool = False) -> None:
        """Shut the queue down: from now on ``put``, and ``get`` on the empty queue, raise.

        Tasks that wait in ``put`` or ``get`` are woken, and raise QueueShutDown. With ``immediate``
        the items that are left are dropped, and count as processed.
        """
        self._is_shutdown = True
        if immediate:
            while self._items:
                self._take_item()
                if self._unfinished > 0:
                    self._unfinished -= 1
            if self._unfinished == 0:
                _wake_all(self._joiners)
        _wake_all(self._getters)
        _wake_all(self._putters)

    def __repr__(self) -> str:
        name = f"{type(self).__name__} at {id(self):#x}"
        return format_repr(name, self._describe, self._describe_briefly)

    def __str__(self) -> str:
        return format_repr(type(self).__name__, self._describe, self._describe_briefly)

    def _describe(self) -> list[str]:
        words = self._describe_briefly()
        if self._items:
            words.insert(1, f"items={short_repr(list(self._items))}")
        return words

    def _describe_briefly(self) -> list[str]:
        words = [f"maxsize={self._maxsize!r}"]
        if self._getters:
            words.append(f"getters={len(self._getters)}")
        if self._putters:
            words.append(f"putters={len(self._putters)}")
        if self._unfinished:
            words.append(f"unfinished={self._unfinished}")
        if self._is_shutdown:
            words.append("shutdown")
        return words


class PriorityQueue(Queue[T]):
    """A queue that returns the smallest item first. Items are often ``(priority, data)`` tuples."""

    __slots__ = ()

    def _make_container(self) -> None:
        # Loosely typed: the type of the items does not say whether they can be compared.
        items: list[Any] = []
        self._items = items
        self._put_item = functools.partial(heapq.heappush, items)
        self._take_item = functools.partial(heapq.heappop, items)


class LifoQueue(Queue[T]):
    """A queue that returns the newest item first: a stack."""

    __slots__ = ()

    def _make_container(self) -> None:
        items: list[T] = []
        self._items = items
        self._put_item = items.append
        self._take_item = items.pop


def _checked_maxsize(maxsize: Any) -> Any:
    """Return a limit that is not an ``int``. A fraction is kept: 2.5 means three items."""
    limit = limit_of(maxsize, "maxsize")
    return limit if hasattr(maxsize, "__index__") else maxsize


def _wake_next(waiters: Waiters) -> None:
    """Wake the first waiter that was not cancelled, if there is one."""
    while waiters:
        waiter = waiters.popleft()
        if waiter._pending:
            waiter.set_result(None)
            return


def _wake_all(waiters: Waiters) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)

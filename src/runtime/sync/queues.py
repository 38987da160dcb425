"""Queues: items handed from tasks that put them to tasks that get them.

A waiter is a future in a queue of getters or of putters. One put wakes one getter, and one get one
putter; a woken task looks again, since another may have been faster. One that is cancelled after it
was woken wakes the next, so that no item lies there while somebody waits for it.

Nothing here is thread-safe. Each queue belongs to no loop until a task has to wait for it.

Source: "Queues" in the standard library's documentation of asyncio; ``shutdown`` as in Python 3.13.
"""

from __future__ import annotations

import functools
import heapq
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, TypeVar

from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import described, shown
from runtime.kernel.errors import QueueEmpty, QueueFull, QueueShutDown
from runtime.kernel.public_types import Future
from runtime.sync.binding import bind

T = TypeVar("T")

_Waiters = deque[Future[None]]

_FULL = "The queue is full: 'await put()' waits until there is room."
_EMPTY = "The queue is empty: 'await get()' waits until there is an item."
_SHUT_DOWN = "The queue was shut down."


class Queue(Generic[T]):
    """A queue of items, first in, first out.

    ``maxsize`` is how many items it holds at most: with so many, ``put`` waits. Zero or less means
    any number.
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
        self._maxsize = maxsize
        self._loop: LoopCore | None = None
        # Where the items are, and the functions that add one and take the next one. Methods that
        # subclasses override would cost a call on every put and get.
        self._items: deque[T] | list[T]
        self._put_item: Callable[[T], object]
        self._take_item: Callable[[], T]
        self._make_container()
        self._getters: _Waiters = deque()
        self._putters: _Waiters = deque()
        self._joiners: _Waiters = deque()
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
        """How many items it holds at most; zero or less: any number."""
        return self._maxsize

    def qsize(self) -> int:
        """Return how many items are in the queue."""
        return len(self._items)

    def empty(self) -> bool:
        """Return whether there is no item."""
        return not self._items

    def full(self) -> bool:
        """Return whether there are ``maxsize`` items."""
        return 0 < self._maxsize <= len(self._items)

    async def put(self, item: T) -> None:
        """Add ``item``, waiting until there is room.

        Raises QueueShutDown when the queue was shut down, also meanwhile. Cancellation safe: the
        item of a cancelled call is not in the queue.
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
                self._putters.append(putter)
                try:
                    await putter
                except BaseException:
                    _leave(self._putters, putter)
                    if len(self._items) < maxsize and not putter.cancelled():
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
        """Add ``item``. Raises QueueFull when there is no room, QueueShutDown after a shutdown."""
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
        """Take the next item and return it, waiting until there is one.

        Raises QueueShutDown when the queue was shut down and is empty, also meanwhile. Cancellation
        safe: a cancelled call takes no item.
        """
        while not self._items:
            if self._is_shutdown:
                raise QueueShutDown(_SHUT_DOWN)
            loop = self._loop
            if loop is None or loop._thread_id != get_ident():
                loop = self._loop = bind(self, loop)
            getter: Future[None] = loop.create_future()
            self._getters.append(getter)
            try:
                await getter
            except BaseException:
                _leave(self._getters, getter)
                if self._items and not getter.cancelled():
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

        Raises QueueEmpty when there is none; QueueShutDown when, besides, the queue was shut down.
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
        """Say that one of the items that were taken has been dealt with; ``join`` counts them.

        Raises ValueError when that was said more often than items were put.
        """
        if self._unfinished <= 0:
            raise ValueError("task_done() called too many times: each item is done once.")
        self._unfinished -= 1
        if self._unfinished == 0 and self._joiners:
            _wake_all(self._joiners)

    async def join(self) -> None:
        """Wait until every item that was put has been taken, and ``task_done`` called for it.

        Cancellation safe.
        """
        if self._unfinished == 0:
            return
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        joiner: Future[None] = loop.create_future()
        self._joiners.append(joiner)
        try:
            await joiner
        except BaseException:
            _leave(self._joiners, joiner)
            raise

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue: every put from now on, and every get from the empty queue, raises.

        With ``immediate`` the items that are left are dropped, each counting as done. Tasks that
        wait in ``put`` or ``get`` are woken, and raise QueueShutDown.
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
        return described(name, self._describe, self._describe_briefly)

    def __str__(self) -> str:
        return described(type(self).__name__, self._describe, self._describe_briefly)

    def _describe(self) -> list[str]:
        words = self._describe_briefly()
        if self._items:
            words.insert(1, f"items={shown(list(self._items))}")
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
    """A queue that gives the smallest item first. Items are often ``(priority, data)`` tuples."""

    __slots__ = ()

    def _make_container(self) -> None:
        # Loosely typed: that the items can be compared shows when they are.
        items: list[Any] = []
        self._items = items
        self._put_item = functools.partial(heapq.heappush, items)
        self._take_item = functools.partial(heapq.heappop, items)


class LifoQueue(Queue[T]):
    """A queue that gives the newest item first: a stack."""

    __slots__ = ()

    def _make_container(self) -> None:
        items: list[T] = []
        self._items = items
        self._put_item = items.append
        self._take_item = items.pop


def _wake_next(waiters: _Waiters) -> None:
    """Wake the first waiter that was not cancelled, if there is one."""
    while waiters:
        waiter = waiters.popleft()
        if waiter._pending:
            waiter.set_result(None)
            return


def _wake_all(waiters: _Waiters) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)


def _leave(waiters: _Waiters, waiter: Future[None]) -> None:
    """Take a waiter that gives up out of its queue, where it is not any more if it was woken."""
    if waiter in waiters:
        waiters.remove(waiter)

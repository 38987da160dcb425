"""Channels: pass items from tasks that send to tasks that receive, until one side is closed.

A channel has ends of two kinds, each of which can be cloned and closed. The last end of one kind
that closes tells the other side::

    SendChannel, SendChannel  ---->  items, up to the capacity  ---->  ReceiveChannel
          the last is closed:  EndOfChannel is raised when no items are left
          the last of the receivers is closed:  BrokenChannel is raised in senders

Invariants:

- Tasks wait to receive only while there are no items and no waiting senders; tasks wait to send
  only while the channel is full, and no task waits to receive.
- An item is passed to a waiting receiver directly, as the result of the future that it awaits. So
  the order of the receivers is the order of their calls. A receiver that is cancelled at that
  moment still returns the item, and is cancelled at its next ``await``. A sender whose item was
  taken is treated alike. Therefore an item is always with exactly one task, or in the channel.

Nothing here is thread-safe. Source: "Using channels to pass values between tasks" in trio's
documentation.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from threading import get_ident
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from runtime.kernel.arguments.sizes import Size, limit_of
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import format_repr, safe_repr
from runtime.kernel.errors import QueueEmpty, QueueFull
from runtime.kernel.public_types import Future
from runtime.sync.binding import bind
from runtime.sync.deferring import defer

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class EndOfChannel(Exception):
    """Raised when receiving: all sending ends are closed, and no items are left."""


class BrokenChannel(Exception):
    """Raised when sending: all receiving ends are closed."""


class ClosedChannel(Exception):
    """Raised when an end is used that was closed itself, also while a task waits in it."""


class ChannelStatistics(NamedTuple):
    """The state of a channel, as ``statistics()`` of its ends returns it."""

    items: int
    """Number of items that were sent and not received yet, without those of waiting senders."""

    capacity: int
    """Number of items at which ``send`` waits; ``sys.maxsize`` if there is no limit."""

    senders: int
    """Number of open sending ends."""

    receivers: int
    """Number of open receiving ends."""

    waiting_senders: int
    """Number of tasks that wait in ``send``."""

    waiting_receivers: int
    """Number of tasks that wait in ``receive``."""


class _Waiter:
    """A task that waits in one of the ends; ``item`` is what it sends."""

    __slots__ = ("future", "item")

    def __init__(self, future: Future[Any], item: Any = None) -> None:
        self.future = future
        self.item = item


# The order is that of the calls. A waiter that gives up is found without a search; the first entry
# of a plain dictionary is found slowly if many before it were removed.
_Waiters: TypeAlias = OrderedDict[_Waiter, None]


class _Channel:
    """The state that all ends of a channel share."""

    __slots__ = ("capacity", "items", "loop", "receivers", "receiving", "senders", "sending")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: deque[Any] = deque()
        self.loop: LoopCore | None = None
        self.senders = 0
        self.receivers = 0
        self.sending: _Waiters = OrderedDict()
        self.receiving: _Waiters = OrderedDict()

    def future_for(self, end: object) -> Future[Any]:
        """Return a new future for a task that waits in ``end``."""
        loop = self.loop
        if loop is None or loop._thread_id != get_ident():
            loop = self.loop = bind(end, loop)
        return loop.create_future()

    def offer(self, item: Any) -> bool:
        """Pass an item to a waiting receiver, or add it if there is room; return whether."""
        waiter = _next(self.receiving)
        if waiter is not None:
            waiter.future.set_result(item)
        elif len(self.items) < self.capacity:
            self.items.append(item)
        else:
            return False
        return True

    def take(self) -> tuple[Any] | None:
        """Take the next item, also of a waiting sender; return it in a tuple, or None."""
        if self.items:
            item = self.items.popleft()
            while len(self.items) < self.capacity and (sender := _next(self.sending)) is not None:
                self.items.append(sender.item)
                sender.future.set_result(None)
            return (item,)
        sender = _next(self.sending)
        if sender is None:
            return None
        sender.future.set_result(None)
        return (sender.item,)

    def put_back(self, item: Any) -> None:
        """Add an item that was taken, and could not be received, as the first one."""
        is_closed = self.loop is not None and self.loop.is_closed()
        waiter = None if is_closed else _next(self.receiving)
        if waiter is not None:
            waiter.future.set_result(item)
        else:
            self.items.appendleft(item)

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            len(self.items),
            self.capacity,
            self.senders,
            self.receivers,
            len(self.sending),
            len(self.receiving),
        )


def _next(waiters: _Waiters) -> _Waiter | None:
    """Remove and return the first waiter that was not cancelled; None if there is none."""
    while waiters:
        waiter, _ = waiters.popitem(last=False)
        if not waiter.future.done():
            return waiter
    return None


def _fail(waiters: _Waiters, chosen: Iterable[_Waiter], error: type[Exception], words: str) -> None:
    """Raise an error in those of ``chosen`` that still wait."""
    for waiter in list(chosen):
        if waiter in waiters:
            del waiters[waiter]
            if not waiter.future.done():
                waiter.future.set_exception(error(words))


class _End:
    """The methods that both kinds of ends have."""

    __slots__ = ("__weakref__", "_channel", "_closed", "_waiting")

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._closed = False
        # The tasks that wait in this end, and those that were woken and have not run yet.
        self._waiting: dict[_Waiter, None] = {}

    def statistics(self) -> ChannelStatistics:
        """Return the state of the channel: the numbers of items, ends and waiting tasks."""
        return self._channel.statistics()

    def close(self) -> None:
        """Close this end. Closing it twice is fine."""
        raise NotImplementedError

    def _check(self) -> None:
        if self._closed:
            raise ClosedChannel(f"{self!r} was closed")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return format_repr(type(self).__name__, self._describe, self._describe)

    def _describe(self) -> list[str]:
        state = self._channel.statistics()
        words = ["closed"] if self._closed else []
        words.append(f"items={state.items}")
        words.append(f"senders={state.senders} receivers={state.receivers}")
        if state.waiting_senders:
            words.append(f"waiting_senders={state.waiting_senders}")
        if state.waiting_receivers:
            words.append(f"waiting_receivers={state.waiting_receivers}")
        return words


class SendChannel(_End, Generic[T_contra]):
    """A sending end of a channel. ``open_channel`` and ``clone`` make objects of this class.

    ``with`` and ``async with`` close it at the end of the block.
    """

    __slots__ = ()

    def __init__(self, channel: Any) -> None:
        _End.__init__(self, channel)
        self._channel.senders += 1

    def __enter__(self) -> SendChannel[T_contra]:
        return self

    async def __aenter__(self) -> SendChannel[T_contra]:
        return self

    async def send(self, item: T_contra) -> None:
        """Send ``item``, waiting while the channel is full.

        Raises ClosedChannel if this end is closed, before or during the wait, and BrokenChannel if
        all receiving ends are. Cancellation safe: a cancelled call has not sent its item. If the
        item was taken at the same time, CancelledError is raised at the next ``await``.
        """
        self._check_open()
        channel = self._channel
        if channel.offer(item):
            return
        waiter = _Waiter(channel.future_for(self), item)
        # The garbage collector may have called a finalizer that uses the channel.
        if (
            len(channel.items) < channel.capacity
            or channel.receiving
            or self._closed
            or not channel.receivers
        ):
            await self.send(item)
            return
        channel.sending[waiter] = self._waiting[waiter] = None
        try:
            await waiter.future
        except BaseException as interruption:
            channel.sending.pop(waiter, None)  # If it was woken, it was removed already.
            future = waiter.future
            if not future.done() or future.cancelled() or future.exception() is not None:
                raise
            # The item was taken.
            if not defer(interruption):
                raise
        finally:
            del self._waiting[waiter]

    def send_nowait(self, item: T_contra) -> None:
        """Send ``item``. Raises QueueFull if the channel is full; otherwise like ``send``."""
        self._check_open()
        if not self._channel.offer(item):
            raise QueueFull("the channel is full: 'await send()' waits until there is room")

    def _check_open(self) -> None:
        self._check()
        if not self._channel.receivers:
            raise BrokenChannel(_BROKEN)

    def clone(self) -> SendChannel[T_contra]:
        """Return another sending end of the channel, which is closed separately.

        Raises ClosedChannel if this end is closed.
        """
        self._check()
        return SendChannel(self._channel)

    def close(self) -> None:
        """Close this end. Tasks that wait in it raise ClosedChannel.

        When the last sending end is closed, receivers get the items that are left, and then
        EndOfChannel. Closing it twice is fine.
        """
        if self._closed:
            return
        self._closed = True
        channel = self._channel
        channel.senders -= 1
        if self._waiting:
            text = f"{self!r} was closed meanwhile."
            _fail(channel.sending, self._waiting, ClosedChannel, text)
        if not channel.senders:
            _fail(channel.receiving, channel.receiving, EndOfChannel, _END)


class ReceiveChannel(_End, Generic[T_co]):
    """A receiving end of a channel. ``open_channel`` and ``clone`` make objects of this class.

    ``async for item in channel:`` receives items until the sending ends are closed. ``with`` and
    ``async with`` close it at the end of the block.
    """

    __slots__ = ()

    def __init__(self, channel: Any) -> None:
        _End.__init__(self, channel)
        self._channel.receivers += 1

    def __enter__(self) -> ReceiveChannel[T_co]:
        return self

    async def __aenter__(self) -> ReceiveChannel[T_co]:
        return self

    def __aiter__(self) -> ReceiveChannel[T_co]:
        return self

    async def __anext__(self) -> T_co:
        try:
            return await self.receive()
        except EndOfChannel:
            raise StopAsyncIteration from None

    async def receive(self) -> T_co:
        """Receive the next item, waiting while there is none.

        Raises EndOfChannel if no items are left and all sending ends are closed, and ClosedChannel
        if this end is closed, before or during the wait. Cancellation safe: a cancelled call has
        taken no item. If an item was passed to the task at the same time, it is returned, and
        CancelledError is raised at the next ``await``.
        """
        self._check()
        channel = self._channel
        item: T_co
        taken = channel.take()
        if taken is not None:
            item = taken[0]
            return item
        if not channel.senders:
            raise EndOfChannel(_END)
        waiter = _Waiter(channel.future_for(self))
        # The garbage collector may have called a finalizer that uses the channel.
        if channel.items or channel.sending or self._closed or not channel.senders:
            return await self.receive()
        channel.receiving[waiter] = self._waiting[waiter] = None
        try:
            item = await waiter.future
        except BaseException as interruption:
            channel.receiving.pop(waiter, None)  # If it was woken, it was removed already.
            future = waiter.future
            if not future.done() or future.cancelled() or future.exception() is not None:
                raise
            item = future.result()
            if not defer(interruption):
                channel.put_back(item)
                raise
        finally:
            del self._waiting[waiter]
        return item

    def receive_nowait(self) -> T_co:
        """Receive the next item. Raises QueueEmpty if there is none; otherwise like ``receive``."""
        self._check()
        taken = self._channel.take()
        if taken is not None:
            item: T_co = taken[0]
            return item
        if not self._channel.senders:
            raise EndOfChannel(_END)
        raise QueueEmpty("the channel is empty: 'await receive()' waits until there is an item")

    def clone(self) -> ReceiveChannel[T_co]:
        """Return another receiving end of the channel, which is closed separately.

        Each item is received by one end. Raises ClosedChannel if this end is closed.
        """
        self._check()
        return ReceiveChannel(self._channel)

    def close(self) -> None:
        """Close this end. Tasks that wait in it raise ClosedChannel.

        When the last receiving end is closed, the items that are left are dropped, and senders
        raise BrokenChannel. Closing it twice is fine.
        """
        if self._closed:
            return
        self._closed = True
        channel = self._channel
        channel.receivers -= 1
        if self._waiting:
            text = f"{self!r} was closed meanwhile."
            _fail(channel.receiving, self._waiting, ClosedChannel, text)
        if not channel.receivers:
            channel.items.clear()
            _fail(channel.sending, channel.sending, BrokenChannel, _BROKEN)


_END = "all sending ends of the channel are closed"
_BROKEN = "all receiving ends of the channel are closed"


class open_channel(tuple[SendChannel[T], ReceiveChannel[T]]):
    """Return the two ends of a new channel: ``send, receive = open_channel[int](10)``.

    ``capacity`` is the number of items at which ``send`` waits. With 0 each ``send`` waits until
    its item is received; infinity means no limit. Raises TypeError for a capacity that is not a
    number, and ValueError if it is negative or NaN.

    >>> import runtime
    >>> async def main():
    ...     send, receive = runtime.open_channel[int](1)
    ...     async def produce():
    ...         with send:
    ...             for number in range(3):
    ...                 await send.send(number)
    ...     async with runtime.TaskGroup() as group:
    ...         group.create_task(produce())
    ...         return [number async for number in receive]
    >>> runtime.run(main())
    [0, 1, 2]
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]  # The two ends are returned, and not a subclass of tuple.
        cls, capacity: Size
    ) -> tuple[SendChannel[T], ReceiveChannel[T]]:
        """Make the channel."""
        limit = limit_of(capacity, "capacity")
        if limit < 0:
            raise ValueError(f"capacity must not be negative, got {safe_repr(capacity)}")
        channel = _Channel(limit)
        return SendChannel(channel), ReceiveChannel(channel)

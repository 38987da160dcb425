"""Locks, events, conditions and semaphores, for the tasks of one loop.

All of them are fair: the task that has waited longest is served first. A waiter is a future in a
queue. It stays in the queue until its task runs again, so that a task that arrives between the
wake-up and that moment cannot overtake it. A task that was woken, and cancelled before it could
run, wakes the next one.

Nothing here is thread-safe. A primitive belongs to no loop until a task has to wait for it: see
``binding.py``.

Source: "Synchronization Primitives" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Sized
from threading import get_ident
from types import TracebackType
from typing import Any, Literal, TypeVar

from runtime.kernel.api.running import current_task
from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.arguments.sizes import float_or_infinity
from runtime.kernel.core import LoopCore
from runtime.kernel.errors import CancelledError
from runtime.sync.binding import bind
from runtime.sync.waiters import Waiters, without

T = TypeVar("T")


class Lock(OnlyAsynchronous):
    """A lock that one task holds at a time. Use it in an ``async with`` statement.

    ::

        UNLOCKED --acquire--> LOCKED --release--> UNLOCKED, and the first waiter is woken: it gets
                                                  the lock, since no other task overtakes a waiter

    Invariant: if there are waiters in the queue, and not all of them are cancelled, then the lock
    is held, or the first waiter was woken and its task is about to run.
    """

    __slots__ = ("__weakref__", "_locked", "_loop", "_waiters")

    def __init__(self) -> None:
        self._locked = False
        self._loop: LoopCore | None = None
        # An empty deque takes 700 bytes, and most locks are never waited for.
        self._waiters: Waiters | None = None

    def locked(self) -> bool:
        """Return whether the lock is held."""
        return self._locked

    async def acquire(self) -> Literal[True]:
        """Take the lock, waiting until it is free and all earlier waiters have had it.

        Returns True. Cancellation safe: a cancelled task does not hold the lock, and the next
        waiter takes its place.
        """
        if self._locked or self._waiters:
            await self.__aenter__()
        else:
            self._locked = True
        return True

    def release(self) -> None:
        """Release the lock, and wake the first task that waits for it.

        Any task may release it. Raises RuntimeError when the lock is not held.
        """
        if not self._locked:
            raise RuntimeError(f"{self!r} is not acquired: it cannot be released")
        self._locked = False
        if self._waiters:
            self._wake_first()

    def _wake_first(self) -> None:
        if self._waiters:
            first = self._waiters[0]
            # If it is done, it was woken already, or was cancelled and will wake the next waiter.
            if not first.done():
                first.set_result(None)

    # Locks are mostly used with ``async with``: so the wait itself is here, and not in acquire(),
    # which would be a second coroutine inside this one.

    async def __aenter__(self) -> None:
        waiters = self._waiters
        if not self._locked and (not waiters or _all_cancelled(waiters)):
            self._locked = True
            return
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        waiter = loop.create_future()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        if not self._locked:
            # A finalizer may have released the lock before this waiter was in the queue.
            self._wake_first()
        try:
            await waiter
        except BaseException:
            assert self._waiters is not None
            self._waiters = without(self._waiters, waiter)
            if not self._locked and not loop.is_closed():
                self._wake_first()
            raise
        # Only the first waiter is ever woken, and it is this one.
        self._waiters.popleft()
        self._locked = True

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return _describe(self, "locked" if self._locked else "unlocked", self._waiters)


class Event:
    """A flag that tasks can wait for. It is false at first."""

    __slots__ = ("__weakref__", "_loop", "_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._loop: LoopCore | None = None
        self._waiters: Waiters | None = None

    def is_set(self) -> bool:
        """Return whether the flag is true."""
        return self._set

    def set(self) -> None:
        """Make the flag true, and wake every task that waits for it."""
        if self._set:
            return
        self._set = True
        waiters = self._waiters
        if waiters:
            self._waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def clear(self) -> None:
        """Make the flag false: from now on ``wait()`` waits until it is set again."""
        self._set = False

    async def wait(self) -> Literal[True]:
        """Wait until the flag is true. Returns True, at once when it is true already.

        A task that was woken continues even if the flag was cleared meanwhile. Cancellation safe.
        """
        if self._set:
            return True
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        waiter = loop.create_future()
        if self._waiters is None:
            self._waiters = deque()
        if self.is_set():  # By a finalizer that the garbage collector has called.
            return True
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if self._waiters:  # Otherwise set() has taken the queue.
                self._waiters = without(self._waiters, waiter)
            raise
        return True

    def __repr__(self) -> str:
        return _describe(self, "set" if self._set else "unset", self._waiters)


class Condition(OnlyAsynchronous):
    """A lock, and a queue of tasks that wait for a change of the state that the lock protects.

    ``lock`` is the ``Lock`` to use, by default a new one; raises TypeError for an object without
    its methods. Use the condition itself in an ``async with`` statement.
    """

    __slots__ = ("__weakref__", "_lock", "_loop", "_waiters")

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = Lock() if lock is None else _checked_lock(lock)
        self._loop: LoopCore | None = None
        self._waiters: Waiters = deque()

    def locked(self) -> bool:
        """Return whether the lock is held."""
        return self._lock.locked()

    async def acquire(self) -> Literal[True]:
        """Take the lock: see ``Lock.acquire``. Cancellation safe."""
        return await self._lock.acquire()

    def release(self) -> None:
        """Release the lock: see ``Lock.release``."""
        self._lock.release()

    async def wait(self) -> Literal[True]:
        """Release the lock, wait to be notified, and take the lock again. Returns True.

        The task holds the lock whenever this ends, also by an exception. Another task may have
        changed the state again before this one got the lock: check the state, and wait again if
        necessary, as ``wait_for`` does. Raises RuntimeError when the lock is not held. Cancellation
        safe: if the cancelled task was notified already, the next one is notified in its place.
        """
        lock = self._lock
        if not lock.locked():
            raise RuntimeError(f"cannot wait on {self!r}: acquire it first")
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        waiter = loop.create_future()
        lock.release()
        self._waiters.append(waiter)
        try:
            try:
                await waiter
                self._waiters.remove(waiter)
            except BaseException:
                self._waiters = without(self._waiters, waiter)
                raise
            finally:
                await _acquire_despite_interruptions(lock)
        except BaseException:
            if waiter.done() and not waiter.cancelled() and not loop.is_closed():
                self._wake(1)
            raise
        return True

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until ``predicate()`` returns a true value, and return that value.

        ``predicate`` is called with the lock held, first at once and then after each notification.
        Cancellation safe, as ``wait`` is.
        """
        result = predicate()
        while not result:
            await self.wait()
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the first ``n`` waiting tasks. Each continues when it has acquired the lock.

        Raises RuntimeError when the lock is not held.
        """
        if not self._lock.locked():
            raise RuntimeError(f"cannot notify on {self!r}: acquire it first")
        self._wake(n)

    def notify_all(self) -> None:
        """Wake all waiting tasks. Raises RuntimeError when the lock is not held."""
        self.notify(len(self._waiters))

    def _wake(self, n: int) -> None:
        for waiter in list(self._waiters):
            if n <= 0:
                return
            if not waiter.done():
                n -= 1
                waiter.set_result(None)

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __repr__(self) -> str:
        state = "locked" if self._lock.locked() else "unlocked"
        return _describe(self, state, self._waiters)


def _checked_lock(lock: Any) -> Lock:
    """Return an object that has the methods of a lock, such as a lock of asyncio."""
    methods = ("acquire", "locked", "release")
    if isinstance(lock, type) or not all(hasattr(lock, name) for name in methods):
        raise TypeError(f"lock must be a Lock or None, got {lock!r}")
    checked: Lock = lock
    return checked


async def _acquire_despite_interruptions(lock: Lock) -> None:
    """Acquire ``lock`` despite interruptions of the wait; then raise the last, if there were any.

    They are cancellations, and the errors about scopes that generators hold at a ``yield``. With
    each such error a scope is removed; the next wait may be refused because of another scope.
    """
    interruption: CancelledError | RuntimeError | None = None
    scopes: int | None = None
    while True:
        try:
            await lock.acquire()
            break
        except CancelledError as error:
            interruption = error
        except RuntimeError as error:
            left = _number_of_scopes()
            if scopes is not None and left >= scopes:
                raise  # It is about the lock itself, and would be raised again and again.
            scopes = left
            interruption = error
    if interruption is not None:
        try:
            raise interruption
        finally:
            del interruption  # Its traceback refers to this frame: break the reference cycle.


def _number_of_scopes() -> int:
    """Return the number of scopes that the running task is in."""
    number = 0
    scope: Any = getattr(current_task(), "_scope", None)
    while scope is not None:
        number += 1
        scope = scope._parent
    return number


class Semaphore(OnlyAsynchronous):
    """A number of permits: ``acquire`` takes one, or waits for one; ``release`` adds one.

    ``value`` is the initial number of permits, a whole number or infinity. Use it in an
    ``async with`` statement. Raises TypeError when ``value`` is not a number, and ValueError when
    it is negative or not whole: half a permit would be taken as one.

    Invariant: ``_value`` is the number of free permits: those that no task holds, and that were
    promised to no waiter. A waiter is promised a permit when its future gets a result.
    """

    __slots__ = ("__weakref__", "_loop", "_value", "_waiters")

    def __init__(self, value: int = 1) -> None:
        self._value = value if isinstance(value, int) else _checked_permits(value)
        if self._value < 0:
            raise ValueError(f"Semaphore initial value must be >= 0, got {value!r}")
        self._loop: LoopCore | None = None
        self._waiters: Waiters | None = None

    def locked(self) -> bool:
        """Return whether ``acquire`` would wait, for a permit or behind earlier waiters."""
        if self._value == 0:
            return True
        waiters = self._waiters
        if not waiters:
            return False
        return not _all_cancelled(waiters)

    async def acquire(self) -> Literal[True]:
        """Take a permit, waiting until one is free and all earlier waiters have theirs.

        Returns True. Cancellation safe: a permit that was promised to a cancelled task goes to the
        next waiter.
        """
        waiters = self._waiters
        if self._value > 0 and (not waiters or _all_cancelled(waiters)):
            self._value -= 1
            return True
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        waiter = loop.create_future()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        if self._value > 0 and self._waiters[0] is waiter:
            # A finalizer may have released a permit before this waiter was in the queue. (Behind
            # others it has to wait: the one before it hands out the permits that are left.)
            self._hand_out()
        try:
            await waiter
        except BaseException:
            assert self._waiters is not None
            self._waiters = without(self._waiters, waiter)
            if waiter.done() and not waiter.cancelled():
                self._value += 1
            if not loop.is_closed():
                self._hand_out()
            raise
        self._waiters.remove(waiter)
        if self._value > 0:
            # Permits were released while all waiters had been woken or cancelled, so that none of
            # them could be promised one. Others may have come since.
            self._hand_out()
        return True

    def release(self) -> None:
        """Add a permit; if tasks are waiting, the first one gets it."""
        self._value += 1
        if self._waiters:
            self._promise()

    def _hand_out(self) -> None:
        """Promise free permits to waiters, until there are no more permits or no more waiters."""
        while self._value > 0 and self._promise():
            pass

    def _promise(self) -> bool:
        """Promise a permit to the first waiter without one; return False if there is none."""
        for waiter in self._waiters or ():
            if not waiter.done():
                self._value -= 1
                waiter.set_result(None)
                return True
        return False

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "locked" if self.locked() else f"unlocked, value:{self._value}"
        return _describe(self, state, self._waiters)


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than initially: one release too many is an error.

    Raises ValueError also when ``value`` is infinity, which bounds nothing.
    """

    __slots__ = ("_bound",)

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        if self._value == math.inf:
            raise ValueError(f"value must be finite, got {value!r}: use Semaphore for no limit")
        self._bound = self._value

    def release(self) -> None:
        """Return a permit. Raises ValueError when no permit is taken."""
        if self._value >= self._bound:
            raise ValueError(f"{self!r} is released too many times: it has {self._bound} permits")
        super().release()


def _checked_permits(value: Any) -> int:
    """Return a number of permits that is not an ``int`` as an int, or infinity."""
    if hasattr(value, "__index__"):
        return operator.index(value)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"value must be a whole number, got {value!r}")
    number: Any = float_or_infinity(value)
    if math.isinf(number):
        return number  # type: ignore[no-any-return]  # It behaves like an int.
    if number != value or not number.is_integer():
        raise ValueError(f"value must be a whole number, got {value!r}")
    return int(number)


def _all_cancelled(waiters: Waiters) -> bool:
    """Return whether all waiters of a queue were cancelled, so that a new task need not wait.

    The queue must not be empty.
    """
    # Mostly the first waiter decides; a generator for it would cost as much as all the rest.
    return waiters[0].cancelled() and all(waiter.cancelled() for waiter in waiters)


def _describe(primitive: object, state: str, waiters: Sized | None) -> str:
    if waiters:
        state = f"{state}, waiters:{len(waiters)}"
    kind = type(primitive)
    return f"<{kind.__module__}.{kind.__qualname__} object at {id(primitive):#x} [{state}]>"

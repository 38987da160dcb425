"""``Barrier``: lets tasks continue together, when enough of them have arrived.

::

                       the last task arrives              the last task leaves
              FILLING ------------------------> DRAINING -----------------------> FILLING
                 |                                 |
                 +------ reset(), tasks inside ----+--> RESETTING --the last task leaves--> FILLING
                 +------ abort() ------------------+--> BROKEN ----- reset() -------------> FILLING

A task is inside from the moment that it has taken an index until its ``wait`` returns. Tasks that
arrive in DRAINING and RESETTING wait outside until the barrier is FILLING again. In RESETTING and
BROKEN the tasks inside leave with a BrokenBarrierError; so do tasks that arrive in BROKEN.

No method awaits anything between reading the state and changing it, so no lock is needed.

Source: ``asyncio.Barrier`` and ``threading.Barrier`` in the standard library's documentation.
"""

from __future__ import annotations

import enum
import operator
from threading import get_ident
from types import TracebackType

from runtime.kernel.arguments.refusals import OnlyAsynchronous
from runtime.kernel.core import LoopCore
from runtime.kernel.errors import BrokenBarrierError
from runtime.kernel.public_types import Future
from runtime.sync.binding import bind


class _State(enum.Enum):
    FILLING = "filling"
    DRAINING = "draining"
    RESETTING = "resetting"
    BROKEN = "broken"


class Barrier(OnlyAsynchronous):
    """A point that ``parties`` tasks must reach before any of them continues; it can be used again.

    ``async with barrier as index:`` calls ``wait`` on entering the block. Raises TypeError unless
    ``parties`` is an integer, and ValueError unless it is at least 1.
    """

    __slots__ = ("__weakref__", "_indices", "_loop", "_parties", "_state", "_waiters")

    def __init__(self, parties: int) -> None:
        try:
            self._parties = operator.index(parties)
        except TypeError:
            raise TypeError(f"parties must be a whole number, got {parties!r}") from None
        if self._parties < 1:
            raise ValueError(f"parties must be >= 1, got {parties!r}")
        self._state = _State.FILLING
        self._loop: LoopCore | None = None
        # The indices of the tasks that are inside.
        self._indices: set[int] = set()
        # The futures of all waiting tasks, in order; every change of the state wakes all of them. A
        # waiter that gives up is found in a dictionary without a search.
        self._waiters: dict[Future[None], None] = {}

    @property
    def parties(self) -> int:
        """The number of tasks that must arrive."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """The number of tasks that wait for others to arrive."""
        return len(self._indices) if self._state is _State.FILLING else 0

    @property
    def broken(self) -> bool:
        """Whether the barrier was aborted, and not reset since."""
        return self._state is _State.BROKEN

    async def wait(self) -> int:
        """Wait until ``parties`` tasks wait; return a number from 0 to ``parties - 1``.

        Each task gets a different number. Raises BrokenBarrierError when the barrier is broken, or
        is aborted or reset meanwhile. Cancellation safe: a cancelled task does not count as
        arrived, and the others wait for another task instead.
        """
        state = self._state
        while state in (_State.DRAINING, _State.RESETTING):
            state = await self._next_state(state)
        if state is _State.BROKEN:
            raise BrokenBarrierError(f"{self!r} was aborted: reset() makes it usable again")
        index = self._take_index()
        try:
            if len(self._indices) == self._parties:
                self._enter_state(_State.DRAINING)
                return index
            while state is _State.FILLING:
                state = await self._next_state(state)
            if state is not _State.DRAINING:
                raise BrokenBarrierError(f"{self!r} was aborted or reset while a task waited")
            return index
        finally:
            self._indices.remove(index)
            if not self._indices and self._state in (_State.DRAINING, _State.RESETTING):
                self._enter_state(_State.FILLING)

    async def reset(self) -> None:
        """Return the barrier to its initial state. Waiting tasks get a BrokenBarrierError.

        It never suspends.
        """
        self._enter_state(_State.RESETTING if self._indices else _State.FILLING)

    async def abort(self) -> None:
        """Break the barrier: tasks that wait, now or later, get a BrokenBarrierError.

        ``reset`` makes it usable again. It never suspends.
        """
        self._enter_state(_State.BROKEN)

    def _take_index(self) -> int:
        """Return an index that no task inside has: the next, or one that a cancelled task had."""
        indices = self._indices
        index = len(indices)
        if index in indices:
            index = next(free for free in range(index) if free not in indices)
        indices.add(index)
        return index

    def _enter_state(self, state: _State) -> None:
        self._state = state
        waiters = self._waiters
        self._waiters = {}
        # A copy, because the garbage collector may end tasks that wait here.
        for waiter in list(waiters):
            if not waiter.done():
                waiter.set_result(None)

    async def _next_state(self, seen: _State) -> _State:
        """Wait until the state is no longer ``seen``; return the new state."""
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        waiter: Future[None] = loop.create_future()
        if self._state is not seen:
            # The garbage collector has ended other waits, or called a finalizer.
            return self._state
        waiters = self._waiters
        waiters[waiter] = None
        try:
            await waiter
        except BaseException:
            # From the dictionary that it was added to: a change of the state makes a new one.
            del waiters[waiter]
            raise
        return self._state

    async def __aenter__(self) -> int:
        return await self.wait()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def __repr__(self) -> str:
        waiting = "" if self.broken else f", waiters:{self.n_waiting}/{self._parties}"
        kind = type(self)
        return (
            f"<{kind.__module__}.{kind.__qualname__} object at {id(self):#x} "
            f"[{self._state.value}{waiting}]>"
        )

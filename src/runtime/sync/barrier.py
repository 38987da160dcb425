"""``Barrier``: tasks that go on together, when enough of them have come.

::

                        the last party comes               the last one leaves
              FILLING ------------------------> DRAINING -----------------------> FILLING
                 |                                 |
                 +------ reset(), with parties ----+--> RESETTING --the last one leaves--> FILLING
                 +------ abort() ------------------+--> BROKEN ----- reset() ------------> FILLING

While it drains or is being reset, who comes waits outside. In RESETTING and BROKEN those who are
inside leave with a BrokenBarrierError; in BROKEN so does everybody who comes.

Between a look at the state and a change of it nothing is awaited: no lock is needed.

Source: ``asyncio.Barrier`` and ``threading.Barrier`` in the standard library's documentation.
"""

from __future__ import annotations

import enum
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
    """A point that ``parties`` tasks must reach before any of them goes on; then it starts anew.

    In an ``async with`` statement entering it waits, and gives the index that ``wait`` returns.
    """

    __slots__ = ("__weakref__", "_indices", "_loop", "_parties", "_state", "_waiters")

    def __init__(self, parties: int) -> None:
        if parties < 1:
            raise ValueError(f"parties must be >= 1, not {parties!r}.")
        self._parties = parties
        self._state = _State.FILLING
        self._loop: LoopCore | None = None
        # Those inside, by the index that each has.
        self._indices: set[int] = set()
        # Woken, all of them, at every change of the state.
        self._waiters: list[Future[None]] = []

    @property
    def parties(self) -> int:
        """How many tasks it takes."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many tasks are waiting for the others to come."""
        return len(self._indices) if self._state is _State.FILLING else 0

    @property
    def broken(self) -> bool:
        """Whether it was aborted, and not reset since."""
        return self._state is _State.BROKEN

    async def wait(self) -> int:
        """Wait until ``parties`` tasks wait; return a number from 0 to ``parties - 1``.

        Each of them gets another number. Raises BrokenBarrierError when the barrier is broken or
        reset meanwhile. Cancellation safe: a cancelled task has not come, and the others go on
        waiting for one more.
        """
        state = self._state
        while state in (_State.DRAINING, _State.RESETTING):
            state = await self._next_state()
        if state is _State.BROKEN:
            raise BrokenBarrierError(f"{self!r} was aborted: reset() makes it usable again.")
        index = self._take_index()
        try:
            if len(self._indices) == self._parties:
                self._enter_state(_State.DRAINING)
                return index
            while state is _State.FILLING:
                state = await self._next_state()
            if state is not _State.DRAINING:
                raise BrokenBarrierError(f"{self!r} was aborted or reset while a task waited.")
            return index
        finally:
            self._indices.remove(index)
            if not self._indices and self._state in (_State.DRAINING, _State.RESETTING):
                self._enter_state(_State.FILLING)

    async def reset(self) -> None:
        """Make it as new. Tasks that wait now get a BrokenBarrierError. Never waits itself."""
        self._enter_state(_State.RESETTING if self._indices else _State.FILLING)

    async def abort(self) -> None:
        """Break it: tasks that wait now, or later, get a BrokenBarrierError. Never waits itself."""
        self._enter_state(_State.BROKEN)

    def _take_index(self) -> int:
        """Return a number that nobody inside has: the next, or that of one who was cancelled."""
        indices = self._indices
        index = len(indices)
        if index in indices:
            index = next(free for free in range(index) if free not in indices)
        indices.add(index)
        return index

    def _enter_state(self, state: _State) -> None:
        self._state = state
        waiters = self._waiters
        self._waiters = []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _next_state(self) -> _State:
        """Wait for a change of the state; return the state that it then has."""
        loop = self._loop
        if loop is None or loop._thread_id != get_ident():
            loop = self._loop = bind(self, loop)
        waiters = self._waiters
        waiter: Future[None] = loop.create_future()
        waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            # From the list that it was put in: a change of the state begins a new one.
            waiters.remove(waiter)
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

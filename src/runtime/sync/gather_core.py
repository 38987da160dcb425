"""The future behind ``gather``: it counts its children's ends, and ends with their results.

``GatheringCore`` is the behaviour, compiled where a compiler was found; the class that users hold,
and the typed function, are in ``gather.py``.

Invariants: each distinct child is subscribed to once, and reported in a turn of the loop after the
one that it ended in, in the order of the ends. ``_unfinished`` is the number of distinct children
that were not reported yet. While the gathering is pending ``_children`` has one entry for each
argument; after that nothing, so that a gathering that ended keeps no child alive. Nor does a child
keep a gathering that ended before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import CoroutineType
from typing import Any, Final

from runtime.kernel.api.awaitables import ensure_future
from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import describe_several
from runtime.kernel.errors import CancelledError
from runtime.kernel.future import (
    FutureCore,
    cancel_future,
    fail_future,
    failure_of,
    finish_future,
    init_future,
    subscribe,
    unsubscribe,
)
from runtime.kernel.handles import Runnable
from runtime.kernel.native.mypyc import mypyc_attr

_CoroutineType: Final = CoroutineType


@mypyc_attr(allow_interpreted_subclasses=True)
class GatheringCore(FutureCore):
    """The behaviour of what ``gather`` returns."""

    __slots__ = ("_cancel_requested", "_children", "_return_exceptions", "_unfinished")

    _children: list[Any]
    _unfinished: int
    _return_exceptions: bool
    _cancel_requested: bool

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the children; the gathering itself ends, with a CancelledError, when they have.

        Returns False when there was nothing to cancel.
        """
        if not self._pending:
            return False
        # Those that are gatherings themselves are walked through, for they may be many in a row.
        around: list[_Walk] = []
        walk = _Walk(self)
        while True:
            child = walk.next_child()
            if isinstance(child, GatheringCore) and type(child).cancel is GatheringCore.cancel:
                if child._pending:
                    around.append(walk)
                    walk = _Walk(child)
            elif child is not None:
                if child.cancel(msg=msg):
                    walk.cancelled = True
            else:
                cancelled = walk.cancelled
                if cancelled:
                    walk.gathering._cancel_requested = True
                if not around:
                    return cancelled
                walk = around.pop()
                if cancelled:
                    walk.cancelled = True

    def _describe_state(self) -> list[str]:
        """Return the words of the ``repr``, in order."""
        words = FutureCore._describe_state(self)
        if self._pending:
            children = {child for child in self._children if not child.done()}
            names = f": {describe_several(children)}" if children else ""
            words.insert(1, f"unfinished={self._unfinished}{names}")
        return words

    def _describe_briefly(self) -> list[str]:
        """Return the words of the ``repr`` within that of another object, which refer to none."""
        words = FutureCore._describe_briefly(self)
        if self._pending:
            words.append(f"unfinished={self._unfinished}")
        return words

    def child_ended(self, child: Any) -> None:
        """Take note that ``child`` is done, however it ended."""
        self._unfinished -= 1
        if not self._pending:
            # It ended before, with an exception: what comes after that, nobody is to hear of.
            if not child.cancelled():
                child.exception()
            return
        if not self._return_exceptions:
            error = _error_of(child)
            if error is not None:
                children = self._children
                self._children = []
                fail_future(self, error)
                for other in children:
                    if isinstance(other, FutureCore) and other._pending:
                        _leave(self, other)
                return
        if self._unfinished == 0:
            self._finish()

    def _finish(self) -> None:
        """End with the results of all the children."""
        children = self._children
        self._children = []
        results: list[Any] = []
        for child in children:
            if not isinstance(child, FutureCore):
                results.append(_foreign_outcome(child))
            elif not child._failed:
                results.append(child._result)
            elif child._cancelled:
                results.append(_cancelled_outcome(child))
            else:
                results.append(child.exception())
        if self._cancel_requested:
            # Whatever the children made of it, and whether or not exceptions are results.
            last: Any = children[-1]
            error = _error_of(last) if last.cancelled() else None
            fail_future(self, CancelledError() if error is None else error)
        else:
            finish_future(self, results)


class _Walk:
    """The place in a gathering's children that a cancellation has come to."""

    __slots__ = ("_children", "_next", "cancelled", "gathering")

    def __init__(self, gathering: GatheringCore) -> None:
        self.gathering = gathering
        # Whether there was anything to cancel.
        self.cancelled = False
        # These very ones: the gathering gets another list when it ends.
        self._children = gathering._children
        self._next = 0

    def next_child(self) -> Any:
        """Return the next child; None after the last."""
        if self._next == len(self._children):
            return None
        self._next += 1
        return self._children[self._next - 1]


class _ChildEnd(Runnable):
    """Queued when a child ends, to report it: a callback without a handle or a context."""

    __slots__ = ("_child", "_gathering")

    def __init__(self, gathering: GatheringCore, child: FutureCore) -> None:
        self._gathering = gathering
        self._child = child

    def _run(self) -> None:
        """Report the child's end."""
        gathering = self._gathering
        if self._child._failed or not gathering._pending:
            gathering.child_ended(self._child)
        else:
            gathering._unfinished -= 1
            if gathering._unfinished == 0:
                gathering._finish()

    def _short_name(self) -> str:
        """Return what a child shows of who waits for it."""
        return "gather()"

    def _on_behalf_of(self) -> Any:
        """Return the gathering; None once it has ended, as it does when another child fails."""
        gathering = self._gathering
        return gathering if gathering._pending else None


class _Silence(Runnable):
    """Queued when a child ends whose gathering has ended before: nobody is to hear of it."""

    __slots__ = ("_child",)

    def __init__(self, child: FutureCore) -> None:
        self._child = child

    def _run(self) -> None:
        """Count the child's exception as retrieved."""
        if not self._child._cancelled:
            self._child.exception()

    def _short_name(self) -> str:
        """Return what a child shows of who waited for it."""
        return "gather() that has ended"


def _leave(gathering: GatheringCore, child: FutureCore) -> None:
    """Let go of a child: one that outlives many gatherings is to keep nothing of each of them."""
    is_silent = False
    for subscriber in child._list_subscribers():
        if isinstance(subscriber, _ChildEnd) and subscriber._gathering is gathering:
            unsubscribe(child, subscriber)
        elif isinstance(subscriber, _Silence):
            is_silent = True
    if not is_silent:
        subscribe(child, _Silence(child))


def loop_for(first: Any) -> LoopCore:
    """Return the loop in which ``first`` and all that is gathered with it belong."""
    if not asyncio.isfuture(first):
        return get_running_loop()
    loop: object = first.get_loop()
    if isinstance(loop, LoopCore):
        return loop
    raise ValueError(f"{first!r} belongs to {loop!r}, which is not one of runtime's event loops.")


def start_gathering(
    gathering: GatheringCore, loop: LoopCore, aws: Sequence[Any], return_exceptions: bool
) -> None:
    """Initialise a bare gathering: start the awaitables that are no futures yet, subscribe to all.

    Those that are done already count at once, so that the gathering may be done on return.
    """
    init_future(gathering, loop)
    children: list[Any] = []
    gathering._children = children
    gathering._unfinished = 0
    gathering._return_exceptions = return_exceptions
    gathering._cancel_requested = False
    done: list[Any] = []
    distinct = _are_distinct(aws)
    started: dict[Any, Any] = {}
    try:
        for awaitable in aws:
            child: Any = None if distinct else started.get(awaitable)
            if child is None:
                child = _start(loop, awaitable)
                if not distinct:
                    started[awaitable] = child
                gathering._unfinished += 1
                if child.done():
                    done.append(child)
                elif isinstance(child, FutureCore):
                    subscribe(child, _ChildEnd(gathering, child))
                else:
                    child.add_done_callback(gathering.child_ended)
            children.append(child)
    except BaseException:
        # What was started goes on. Nobody will ask how it ended.
        gathering._children = []
        cancel_future(gathering, None)
        raise
    for child in done:
        gathering.child_ended(child)


def _are_distinct(aws: Sequence[Any]) -> bool:
    """Return whether none is given twice; nothing can tell of what has no hash."""
    try:
        return len(set(aws)) == len(aws)
    except TypeError:
        return True


def _start(loop: LoopCore, awaitable: Any) -> Any:
    """Return the future that ``awaitable`` is, or the task that runs it."""
    child: Any
    if type(awaitable) is _CoroutineType:
        child = loop.create_task(awaitable)
    else:
        child = ensure_future(awaitable, loop=loop)
    if child is not awaitable:
        # The caller cannot see to it that it ends before the loop is closed.
        child._log_destroy_pending = False
    return child


def _error_of(child: Any) -> BaseException | None:
    """Return what a child that is done would raise, or None when it has a result."""
    if isinstance(child, FutureCore):
        return failure_of(child)
    try:
        error: BaseException | None = child.exception()
    except CancelledError as cancelled:
        return cancelled
    return error


def _foreign_outcome(child: Any) -> object:
    """Return the result of a child that is no future of ours, or the exception in its place."""
    if child.cancelled():
        return _cancelled_outcome(child)
    error: object = child.exception()
    return child.result() if error is None else error


def _cancelled_outcome(child: Any) -> CancelledError:
    """Return the exception that stands for a cancelled child among the results."""
    message: object = getattr(child, "_cancel_message", None)
    return CancelledError("" if message is None else message)

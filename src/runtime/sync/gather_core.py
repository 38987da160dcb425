"""The future behind ``gather``: it counts the children that end, and ends with their results.

A gathering is the future that ``gather`` returns; its children are the futures and tasks that it
waits for. ``GatheringCore`` is the behaviour, compiled where a compiler was found; the public class
and the typed function are in ``gather.py``.

Invariants:

- A gathering subscribes to each distinct child once. The end of a child is reported to it in a
  later turn of the loop than the one in which the child ended, in the order of the ends.
- ``_unfinished`` is the number of distinct children whose ends were not reported yet.
- ``_children`` has one entry for each argument while the gathering is pending, and is empty
  afterwards, so that a gathering that has ended keeps no child alive.
- A child keeps no gathering alive that has ended before the child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
    """The behaviour of the future that ``gather`` returns."""

    __slots__ = ("_cancel_requested", "_children", "_return_exceptions", "_unfinished")

    _children: list[Any]
    _unfinished: int
    _return_exceptions: bool
    _cancel_requested: bool

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the children; when they have ended, the gathering ends with a CancelledError.

        Returns False when there was nothing to cancel.
        """
        if not self._pending:
            return False
        # Children that are gatherings themselves are visited by this loop, and not by recursion:
        # they may be nested deeper than the interpreter allows calls to be.
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
        """Return the words of the ``repr`` within that of another object; no child is named."""
        words = FutureCore._describe_briefly(self)
        if self._pending:
            words.append(f"unfinished={self._unfinished}")
        return words

    def child_ended(self, child: Any) -> None:
        """Take note that ``child`` is done, with a result or an exception, or cancelled."""
        self._unfinished -= 1
        if not self._pending:
            # The gathering has ended with the exception of another child. The exceptions of the
            # remaining children are not reported: mark this one as retrieved.
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
            # A requested cancellation ends the gathering with CancelledError in any case, also if
            # the children have returned results, or exceptions count as results.
            last: Any = children[-1]
            error = _error_of(last) if last.cancelled() else None
            fail_future(self, CancelledError() if error is None else error)
        else:
            finish_future(self, results)


class _Walk:
    """The progress of a cancellation through the children of one gathering."""

    __slots__ = ("_children", "_next", "cancelled", "gathering")

    def __init__(self, gathering: GatheringCore) -> None:
        self.gathering = gathering
        # Whether any child could be cancelled.
        self.cancelled = False
        # The list is kept: the gathering replaces its own by an empty one when it ends.
        self._children = gathering._children
        self._next = 0

    def next_child(self) -> Any:
        """Return the next child; None after the last."""
        if self._next == len(self._children):
            return None
        self._next += 1
        return self._children[self._next - 1]


class _ChildEnd(Runnable):
    """Entry of the ready queue that reports the end of a child to a gathering.

    It does the work of a done callback, without the cost of a handle and a context.
    """

    __slots__ = ("_child", "_gathering")

    def __init__(self, gathering: GatheringCore, child: FutureCore) -> None:
        self._gathering = gathering
        self._child = child

    def _run(self) -> None:
        """Report the end of the child."""
        gathering = self._gathering
        if self._child._failed or not gathering._pending:
            gathering.child_ended(self._child)
        else:
            gathering._unfinished -= 1
            if gathering._unfinished == 0:
                gathering._finish()

    def _short_name(self) -> str:
        """Return the name by which the ``repr`` of the child shows the gathering."""
        return "gather()"

    def _on_behalf_of(self) -> Any:
        """Return the gathering; None if it has ended, because another child has failed."""
        gathering = self._gathering
        return gathering if gathering._pending else None


class _Silence(Runnable):
    """Entry of the ready queue for a child that ends after its gathering: it keeps it silent."""

    __slots__ = ("_child",)

    def __init__(self, child: FutureCore) -> None:
        self._child = child

    def _run(self) -> None:
        """Mark the exception of the child as retrieved, so that it is not reported."""
        if not self._child._cancelled:
            self._child.exception()

    def _short_name(self) -> str:
        """Return the name by which the ``repr`` of the child shows a former gathering."""
        return "gather() that has ended"


def _leave(gathering: GatheringCore, child: FutureCore) -> None:
    """Unsubscribe from a child that outlives its gathering, and keep its exception silent.

    A child can outlive many gatherings; it gets a single ``_Silence`` for all of them.
    """
    is_silent = False
    for subscriber in child._list_subscribers():
        if isinstance(subscriber, _ChildEnd) and subscriber._gathering is gathering:
            unsubscribe(child, subscriber)
        elif isinstance(subscriber, _Silence):
            is_silent = True
    if not is_silent:
        subscribe(child, _Silence(child))


def loop_for(first: Any) -> LoopCore:
    """Return the loop for a gathering: that of ``first``, or the running loop if it has none.

    Raises ValueError when it is not one of runtime's loops.
    """
    if not asyncio.isfuture(first):
        return get_running_loop()
    loop: object = first.get_loop()
    if isinstance(loop, LoopCore):
        return loop
    raise ValueError(f"{first!r} belongs to {loop!r}, which is not one of runtime's event loops")


def start_gathering(
    gathering: GatheringCore, loop: LoopCore, aws: Sequence[Any], return_exceptions: bool
) -> None:
    """Initialise a bare gathering: start the awaitables that are not futures, subscribe to all.

    Children that are done already are counted at once, so that the gathering may be done on return.
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
    # Looked up once: a program may subclass the loop, and override it.
    create_task: Callable[[Any], Any] = loop.create_task
    try:
        for awaitable in aws:
            child: Any = None if distinct else started.get(awaitable)
            if child is None:
                child = _start(loop, create_task, awaitable)
                if not distinct:
                    started[awaitable] = child
                gathering._unfinished += 1
                if isinstance(child, FutureCore):
                    if child._pending:
                        subscribe(child, _ChildEnd(gathering, child))
                    else:
                        done.append(child)
                elif child.done():
                    done.append(child)
                else:
                    child.add_done_callback(gathering.child_ended)
            children.append(child)
    except BaseException:
        # The tasks that were started continue. The caller gets no gathering: a cancelled one marks
        # the exceptions of its children as retrieved, so that they are not reported.
        gathering._children = []
        cancel_future(gathering, None)
        raise
    for child in done:
        gathering.child_ended(child)


def _are_distinct(aws: Sequence[Any]) -> bool:
    """Return whether no awaitable is given twice; awaitables without a hash count as distinct."""
    try:
        return len(set(aws)) == len(aws)
    except TypeError:
        return True


def _start(loop: LoopCore, create_task: Callable[[Any], Any], awaitable: Any) -> Any:
    """Return ``awaitable`` if it is a future, else a new task that runs it."""
    child: Any
    if type(awaitable) is _CoroutineType:
        child = create_task(awaitable)
    else:
        child = ensure_future(awaitable, loop=loop)
    if child is not awaitable:
        # The caller has no reference to this task, and could not wait for its end: do not report it
        # when the loop is closed.
        child._log_destroy_pending = False
    return child


def _error_of(child: Any) -> BaseException | None:
    """Return the exception of a child that is done, also of a cancelled one; None for a result."""
    if isinstance(child, FutureCore):
        return failure_of(child)
    try:
        error: BaseException | None = child.exception()
    except CancelledError as cancelled:
        return cancelled
    return error


def _foreign_outcome(child: Any) -> object:
    """Return the result of a child that is not one of runtime's futures, or its exception."""
    if child.cancelled():
        return _cancelled_outcome(child)
    error: object = child.exception()
    return child.result() if error is None else error


def _cancelled_outcome(child: Any) -> CancelledError:
    """Return the exception that takes the place of a cancelled child's result."""
    message: object = getattr(child, "_cancel_message", None)
    return CancelledError("" if message is None else message)

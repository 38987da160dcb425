"""Running loops in the child of a fork: they belong to the parent, and must not disturb it.

A fork duplicates the descriptors of a process, and not the files behind them. So the selector of a
loop, an epoll or another file of the system, is one for both processes: if the child unregistered a
descriptor, because it closes a connection or a server, the parent would wait for its events for
ever. The same holds for the pipe that wakes the loop: a signal that reaches the child must not
write there. So in the child the loop gives both up, and takes no more work.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from runtime.kernel.scheduler import FORKED
from runtime.kernel.signals import set_wakeup_fd

if TYPE_CHECKING:
    from typing import Protocol

    class Leavable(Protocol):
        """The attributes of a loop that this module uses."""

        _idle_collector: Any
        _poller: Any
        _stopping: bool

        def _refuse_work(self, reason: str) -> None:
            """Take no more work: every later attempt raises ``RuntimeError(reason)``."""

        def _wakeup_fd(self) -> int:
            """Return the descriptor for ``signal.set_wakeup_fd``."""


class LeftSelector(selectors.BaseSelector):
    """Stands for a selector that is left to the parent: nothing can be registered with it.

    ``selector`` is that selector if the program gave it to the loop, which closes it at its end.
    """

    def __init__(self, selector: Any) -> None:
        self._selector = selector

    def register(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:
        """Raise RuntimeError."""
        raise RuntimeError(FORKED)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:
        """Raise RuntimeError."""
        raise RuntimeError(FORKED)

    def unregister(self, fileobj: Any) -> NoReturn:
        """Raise KeyError: nothing is registered."""
        raise KeyError(fileobj)

    def select(self, timeout: float | None = None) -> NoReturn:
        """Raise RuntimeError."""
        raise RuntimeError(FORKED)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return an empty mapping."""
        return {}

    def close(self) -> None:
        """Close the program's selector, for the child only."""
        if self._selector is not None:
            self._selector.close()


def leave_in_child(loop: Leavable) -> None:
    """Stop a running loop in the child of a fork, without an effect on the parent.

    The rest of the current turn is dropped, since the parent runs it.
    """
    loop._refuse_work(FORKED)
    loop._poller.writers.clear()
    loop._stopping = True
    _leave_wakeup_fd(loop._wakeup_fd())
    loop._poller.leave(LeftSelector)
    if loop._idle_collector is not None:
        loop._idle_collector.end_run()


def _leave_wakeup_fd(number: int) -> None:
    """Have signals write nothing to the descriptor ``number``, if they do."""
    try:
        installed = set_wakeup_fd(-1)
        if installed not in (-1, number):
            set_wakeup_fd(installed)
    except (OSError, ValueError):
        pass  # The other descriptor is closed, or this is an interpreter without signals.

"""State of a cancel scope: the part that tasks and the scheduler know. See ``kernel/scopes.py``.

A task refers to its innermost scope, and the functions of scopes change tasks. So the state, which
both need, is in a module below them.
"""

from __future__ import annotations

from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.reasons import CancelReason, place_of_instruction

if TYPE_CHECKING:
    from runtime.kernel.suspensions import Interruptions


@mypyc_attr(allow_interpreted_subclasses=True)
class ScopeState:
    """The state of a scope, and its links to its task and to the scope around it."""

    __slots__ = (
        "_called",
        "_code",
        "_deadline",
        "_deferred",
        "_effective",
        "_generator",
        "_instruction",
        "_interruptions",
        "_members",
        "_parent",
        "_reason",
        "_requests",
        "_shield",
        "_task",
    )

    # Compiled, flags that stand together share eight bytes.
    _shield: bool
    _called: bool
    _effective: bool

    def __init__(self, deadline: float, shield: bool) -> None:
        self._deadline = deadline
        self._shield = shield
        # The task that has entered the scope, and the scope around it, while it is in force.
        self._task: Any = None
        self._parent: ScopeState | None = None
        # The value of Task.cancelling() on entry, without the request of scopes around this one. It
        # is lower if the task has taken such a request back since.
        self._requests = 0
        # The tasks of the group whose scope this is: the same dictionary as the group's.
        self._members: dict[Any, None] | None = None
        # Whether the scope was cancelled, and whether it or a scope around it was.
        self._called = False
        self._effective = False
        self._reason: CancelReason | None = None
        # Where tasks were interrupted since the scope was cancelled; made at the first time.
        self._interruptions: Interruptions | None = None
        # The frame of the asynchronous generator that holds the scope, if it is to be watched.
        self._generator: FrameType | None = None
        # The reason of a request to cancel the task that waits until it has left this shield.
        self._deferred: Any = None
        # Where the scope was entered: a code object, and the instruction in it.
        self._code: Any = None
        self._instruction = 0

    def _place(self) -> str:
        """Return the line at which the scope was entered."""
        code: CodeType | None = self._code
        return "an unknown line" if code is None else place_of_instruction(code, self._instruction)

    def _held_at_yield(self, task: Any) -> str:
        """Return an error if the scope's generator is suspended at a ``yield``, or an empty string.

        The scope is no longer in force then.
        """
        raise NotImplementedError

    def _admit(self, task: Any) -> bool:
        """Return whether the task is to be interrupted where it is suspended, by this scope."""
        interruptions = self._interruptions
        if interruptions is None:
            from runtime.kernel.suspensions import Interruptions

            interruptions = self._interruptions = Interruptions()
        return interruptions.admit(task)

    def _take_back(self, task: Any, requests: int, has_own: bool) -> bool:
        """Note that ``task``, whose innermost scope this is, has just taken a request back.

        ``requests`` is the number of requests left, and ``has_own`` tells whether it included one
        for the cancelled scope. ``uncancel()`` does not say which request is meant. It is one that
        came from outside since the scope was entered, if there is one; else that of the cancelled
        scope, and True is returned; else one that came before the scope was entered, so that the
        scope takes the next one for a new one.
        """
        if has_own:
            if requests <= (self._requests if self._task is task else 0):
                return True
            requests -= 1
        each: ScopeState | None = self
        while each is not None and each._task is task and each._requests > requests:
            each._requests = requests
            each = each._parent
        return False


def is_suspended(coro: object) -> bool:
    """Return whether a coroutine is suspended: it has begun, and is not running."""
    for name in ("cr_suspended", "gi_suspended"):
        suspended = getattr(coro, name, None)
        if suspended is not None:
            return bool(suspended)
    return True

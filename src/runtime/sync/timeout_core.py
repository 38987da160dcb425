"""The behaviour of ``Timeout`` that each use costs, compiled where a compiler was found.

The public class, with the ``async`` methods, and the diagram of the states are in ``timeouts.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, Final

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.arguments.seconds import seconds
from runtime.kernel.compat.registry import loop_of_thread
from runtime.kernel.native.mypyc import mypyc_attr
from runtime.kernel.reasons import CancelReason, place_of_instruction
from runtime.kernel.scopes import running_task
from runtime.kernel.task import request_cancel

CREATED: Final = 0
ACTIVE: Final = 1
EXPIRING: Final = 2
EXPIRED: Final = 3
EXITED: Final = 4
"""The states of a timeout."""

STATES: Final = ("created", "active", "expiring", "expired", "finished")
"""Their names."""

_loop_of_thread: Final[Callable[[int], Any]] = loop_of_thread
_get_ident: Final[Callable[[], int]] = get_ident


@mypyc_attr(allow_interpreted_subclasses=True)
class TimeoutCore:
    """The behaviour of a ``Timeout``, without its ``async`` methods."""

    __slots__ = (
        "_cancelling",
        "_code",
        "_handle",
        "_instruction",
        "_state",
        "_task",
        "_when",
    )

    def __init__(self, when: Any) -> None:
        self._state = CREATED
        self._when: float | None = None if when is None else seconds(when, "timeout_at()")
        self._task: Any = None
        self._handle: Any = None
        self._cancelling = 0
        # Where the deadline was set: a code object, and the instruction in it.
        self._code: Any = None
        self._instruction = 0

    def when(self) -> float | None:
        """Return the deadline, on the loop's clock; None if there is none."""
        return self._when

    def expired(self) -> bool:
        """Return whether the deadline came while the body ran."""
        return self._state == EXPIRING or self._state == EXPIRED

    def _on_deadline(self) -> None:
        assert self._task is not None
        code: CodeType | None = self._code
        place = None if code is None else place_of_instruction(code, self._instruction)
        request_cancel(self._task, CancelReason("deadline", "", place))
        self._state = EXPIRING
        self._handle = None


def _running_loop() -> Any:
    """Return the running loop, as ``get_running_loop`` does, which is slower to call."""
    loop: Any = _loop_of_thread(_get_ident())
    return get_running_loop() if loop is None else loop


def after(delay: Any) -> float | None:
    """Return the time ``delay`` seconds from now, on the running loop's clock; None for None."""
    if delay is None:
        return None
    now: float = _running_loop().time()
    return now + seconds(delay, "timeout()")


def note_place(timeout: TimeoutCore, frame: FrameType) -> None:
    """Note the line of the program that has set a deadline, for the reason of the cancellation."""
    timeout._code = frame.f_code
    timeout._instruction = frame.f_lasti


def set_deadline(timeout: TimeoutCore, when: float | None) -> None:
    """Set or move the deadline of an active timeout; None removes it."""
    timeout._when = when
    if timeout._handle is not None:
        timeout._handle.cancel()
        timeout._handle = None
    if when is None:
        return
    loop = _running_loop()
    now: float = loop.time()
    if when <= now:
        timeout._handle = loop.call_soon(timeout._on_deadline)
    else:
        timeout._handle = loop.call_at(when, timeout._on_deadline)


def enter(timeout: TimeoutCore) -> None:
    """Let the deadline count, for the running task."""
    if timeout._state != CREATED:
        raise RuntimeError("Timeout has already been entered")
    loop = _running_loop()
    task: Any = running_task(loop)
    if task is None:
        task = current_task(loop)
        if task is None:
            raise RuntimeError("Timeout should be used inside a task")
    timeout._state = ACTIVE
    timeout._task = task
    timeout._cancelling = task.cancelling()
    set_deadline(timeout, timeout._when)


def leave(timeout: TimeoutCore) -> Any:
    """End an active timeout; return its task if the deadline has passed, and None otherwise."""
    if timeout._handle is not None:
        timeout._handle.cancel()
        timeout._handle = None
    task = timeout._task
    timeout._task = None
    if timeout._state != EXPIRING:
        timeout._state = EXITED
        return None
    timeout._state = EXPIRED
    assert task is not None
    return task

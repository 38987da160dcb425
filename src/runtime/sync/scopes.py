"""Cancel scopes: ``CancelScope``, and functions that make scopes with a deadline.

The behaviour is in ``runtime.kernel.scopes``, which explains it.

Source: "Cancellation and timeouts" in trio's documentation; PEP 789 for scopes in generators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.arguments.seconds import NEVER, Seconds, seconds
from runtime.kernel.reasons import CancelReason
from runtime.kernel.scopes import ScopeCore, effective_deadline
from runtime.kernel.task import TaskCore


class CancelScope(ScopeCore):
    """A block of code whose cancellation stays in force until the block is left.

    Used as ``with CancelScope() as scope:`` in a coroutine. When the scope is cancelled, by
    ``cancel()`` or because its deadline passes, every ``await`` in the block that would suspend
    raises CancelledError. The exception ends at the scope, unless a scope around it, or a request
    by ``Task.cancel()``, cancels the task as well. The tasks of a ``TaskGroup`` that is entered in
    the block are in the scope, too.

    ``deadline`` is a time on the clock of ``loop.time()``, in seconds, by default infinity. A scope
    with ``shield=True`` protects its block from the cancellation of the scopes around it, though
    not from ``Task.cancel()``. Both can be changed while the scope is in force. ``reason`` is a
    text that the CancelledError tells when the deadline has passed.

    A scope is entered once, and left in the task that has entered it, in the reverse order;
    otherwise RuntimeError is raised, as it is for a scope that an asynchronous generator holds
    across a ``yield``. Raises TypeError for a deadline that is not a real number, for a ``shield``
    that is not a bool, and for a reason that is not a text.

    A wait that has ended already when the scope is cancelled still gives its result, and the next
    ``await`` raises. Code that catches CancelledError and awaits again at the same place waits the
    second time. To cancel a scope from another thread, use
    ``loop.call_soon_threadsafe(scope.cancel)``.

    >>> import runtime
    >>> async def main():
    ...     with runtime.CancelScope() as scope:
    ...         runtime.get_running_loop().call_later(0.01, scope.cancel)
    ...         await runtime.sleep_forever()
    ...     return scope.cancelled_caught
    >>> runtime.run(main())
    True
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self,
        *,
        deadline: Seconds = NEVER,
        shield: bool = False,
        reason: str | CancelReason | None = None,
    ) -> None:
        ScopeCore.__init__(self, deadline=deadline, shield=shield, reason=reason)

    if TYPE_CHECKING:

        def __enter__(self) -> CancelScope: ...

        def __exit__(
            self,
            exc_type: object,
            exc: BaseException | None,
            traceback: object,
        ) -> bool: ...

        @property
        def deadline(self) -> float:
            """The time on the loop's clock, in seconds, at which the scope is cancelled.

            It can be set, to a later or an earlier time, or to infinity; a time in the past cancels
            the scope at once.
            """

        @deadline.setter
        def deadline(self, value: Seconds) -> None: ...

        @property
        def shield(self) -> bool:
            """Whether the block is protected from scopes around this one. It can be set."""

        @shield.setter
        def shield(self, value: bool) -> None: ...

    def cancel(self, reason: str | CancelReason | None = None) -> None:
        """Cancel the scope; ``reason`` is a text for the CancelledErrors and the reports.

        A scope that was not entered yet is cancelled on entry. If the scope was cancelled before,
        or was left, nothing happens. Raises TypeError for a reason that is not a text.
        """
        ScopeCore.cancel(self, reason)


def move_on_after(delay: Seconds, *, shield: bool = False) -> CancelScope:
    """Return a scope that is cancelled ``delay`` seconds from now, and is then left silently.

    ``cancelled_caught`` tells whether that was the case. Raises RuntimeError if no loop is running,
    TypeError for a delay that is not a real number, ValueError for NaN, and OverflowError for a
    delay that no float can hold.

    >>> import runtime
    >>> async def main():
    ...     with runtime.move_on_after(0.01) as scope:
    ...         await runtime.sleep_forever()
    ...     return scope.cancelled_caught
    >>> runtime.run(main())
    True
    """
    when = get_running_loop().time() + seconds(delay, "move_on_after()")
    return CancelScope(deadline=when, shield=shield)


def move_on_at(when: Seconds, *, shield: bool = False) -> CancelScope:
    """Return a scope that is cancelled at ``when``, in seconds on the clock of ``loop.time()``.

    Otherwise like ``move_on_after``.
    """
    return CancelScope(deadline=seconds(when, "move_on_at()"), shield=shield)


def fail_after(delay: Seconds, *, shield: bool = False) -> CancelScope:
    """Return a scope that is cancelled ``delay`` seconds from now, and then raises TimeoutError.

    TimeoutError is raised at the end of the block, if it ends with the CancelledError of the
    deadline. If it ends because of ``scope.cancel()``, it is left silently. Raises RuntimeError if
    no loop is running, TypeError for a delay that is not a real number, ValueError for NaN, and
    OverflowError for a delay that no float can hold.

    >>> import runtime
    >>> async def main():
    ...     with runtime.fail_after(0.01):
    ...         await runtime.sleep_forever()
    >>> runtime.run(main())
    Traceback (most recent call last):
    ...
    TimeoutError
    """
    when = get_running_loop().time() + seconds(delay, "fail_after()")
    scope = CancelScope(deadline=when, shield=shield)
    scope._raises_timeout = True
    return scope


def fail_at(when: Seconds, *, shield: bool = False) -> CancelScope:
    """Return a scope that is cancelled at ``when``, on the clock of ``loop.time()``, and fails.

    Otherwise like ``fail_after``.
    """
    scope = CancelScope(deadline=seconds(when, "fail_at()"), shield=shield)
    scope._raises_timeout = True
    return scope


def current_effective_deadline() -> float:
    """Return the soonest deadline of the scopes in force, in seconds on the loop's clock.

    Infinity means that there is none, and minus infinity that the running task is in a cancelled
    scope. Scopes around a shield do not count. Raises RuntimeError if no loop is running.

    >>> import runtime
    >>> async def main():
    ...     with runtime.move_on_at(100.0), runtime.move_on_at(200.0):
    ...         return runtime.current_effective_deadline()
    >>> runtime.run(main()) <= 100
    True
    """
    task = current_task()
    return effective_deadline(task) if isinstance(task, TaskCore) else NEVER

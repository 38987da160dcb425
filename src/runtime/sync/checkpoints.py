"""Checkpoints: let other tasks run, and raise CancelledError if the task is cancelled.

They are for authors of libraries, whose functions should give other tasks a turn even if they do
not have to wait. Source: "Checkpoints" in trio's documentation.
"""

from __future__ import annotations

from runtime.kernel.api.running import current_task
from runtime.kernel.errors import CancelledError
from runtime.kernel.task import IN_CANCELLED_SCOPE, MUST_CANCEL, TaskCore
from runtime.sync.deferring import defer
from runtime.sync.scopes import CancelScope
from runtime.sync.sleep import yield_to_others


async def checkpoint() -> None:
    """Let everything else that is ready run once; raise CancelledError if the task is cancelled.

    It is the same as ``sleep(0)``.

    >>> import runtime
    >>> async def main():
    ...     with runtime.move_on_after(0) as scope:
    ...         await runtime.checkpoint()
    ...     return scope.cancelled_caught
    >>> runtime.run(main())
    True
    """
    await yield_to_others()


async def checkpoint_if_cancelled() -> None:
    """Raise CancelledError if the task is cancelled; otherwise do nothing, and do not suspend.

    A task is cancelled if it is in a cancelled scope, or if a request by ``Task.cancel()`` has not
    been raised yet.
    """
    task = current_task()
    if isinstance(task, TaskCore):
        if task._cancel_state & (IN_CANCELLED_SCOPE | MUST_CANCEL):
            await yield_to_others()
    elif getattr(task, "_must_cancel", False):
        await yield_to_others()


async def cancel_shielded_checkpoint() -> None:
    """Let everything else that is ready run once, without raising CancelledError.

    A request to cancel the task that comes meanwhile is raised at the next ``await``.
    """
    with CancelScope(shield=True):
        try:
            await yield_to_others()
        except CancelledError as error:
            if not defer(error):
                raise

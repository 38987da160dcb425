"""Deferral of a cancellation, for waits that have their result already when they are cancelled."""

from __future__ import annotations

from runtime.kernel.api.running import current_task
from runtime.kernel.errors import CancelledError
from runtime.kernel.reasons import cancel_reason
from runtime.kernel.task import request_cancel


def defer(interruption: BaseException) -> bool:
    """Move a cancellation to the next await of the running task; return False if it cannot be.

    GeneratorExit cannot be moved. The coroutine may be closed anywhere, also without a loop.
    """
    task = current_task() if isinstance(interruption, CancelledError) else None
    if task is None or not task.cancelling():
        return False
    reason = None if interruption.args else cancel_reason(interruption)
    task.uncancel()
    if reason is not None:
        request_cancel(task, reason)
    else:
        task.cancel(*interruption.args[:1])
    return True

"""Binding of synchronization primitives to a loop: at the first wait, not before.

A lock or a queue can be made anywhere, also where no loop is running. It is bound to a loop when a
task has to wait for it for the first time, and belongs to that loop from then on.

Asking for the running loop takes a system call on some versions of Python. A primitive therefore
asks only if ``loop._thread_id`` of the loop that it is bound to differs from the identity of the
current thread: a thread runs one loop at a time, and ``_thread_id`` is zero while a loop does not
run.
"""

from __future__ import annotations

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore


def bind(owner: object, bound: LoopCore | None) -> LoopCore:
    """Return the running loop, for ``owner`` to be bound to.

    ``bound`` is the loop that ``owner`` is bound to already, or None. Raises RuntimeError when it
    is another loop than the running one, or when no loop is running.
    """
    loop = get_running_loop()
    if bound is not None and bound is not loop:
        raise RuntimeError(
            f"{owner!r} is bound to a different event loop: tasks of {bound!r} have waited for it; "
            "make one for each loop"
        )
    return loop

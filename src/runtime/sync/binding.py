"""How a primitive comes to belong to a loop: when a task first has to wait for it, not before.

So a lock or a queue can be made anywhere, also where no loop runs, and as long as nobody waits the
loop does not matter. From then on it belongs to that loop.

To ask for the running loop takes a system call on some versions of Python. So a primitive asks only
when ``loop._thread_id`` of the loop that it belongs to is not the identity of the thread: a thread
runs one loop at a time, and that number is zero while the loop does not run.
"""

from __future__ import annotations

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.core import LoopCore


def bind(owner: object, bound: LoopCore | None) -> LoopCore:
    """Return the running loop, which ``owner`` belongs to from now on.

    ``bound`` is the loop that it belonged to before. Raises RuntimeError when that is another one,
    or when no loop is running.
    """
    loop = get_running_loop()
    if bound is not None and bound is not loop:
        raise RuntimeError(
            f"{owner!r} is bound to a different event loop: tasks of {bound!r} have waited for it. "
            "Make one for each loop."
        )
    return loop

"""The argument ``loop`` of the functions that observe a loop."""

from __future__ import annotations

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.core import LoopCore


def loop_of(loop: object, caller: str) -> LoopCore:
    """Return ``loop``, or the running loop for None.

    Raises TypeError, which names the function ``caller``, if it is not a loop of this package, and
    RuntimeError if no loop is given and none is running.
    """
    if loop is None:
        return get_running_loop()
    return instance_of(LoopCore, loop, caller, "a loop of runtime or None")

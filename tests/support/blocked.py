"""Waiting until all other tasks are blocked, on any event loop."""

from __future__ import annotations

import asyncio

import runtime
from runtime.testing import wait_all_tasks_blocked

_TURNS = 10
"""Turns of another loop in which the few tasks of a test get as far as they can."""


async def all_tasks_blocked() -> None:
    """Wait until no other task of the running loop can continue by itself.

    Only runtime's loop can tell. Other loops, with which it is compared, get some turns.
    """
    if isinstance(asyncio.get_running_loop(), runtime.Loop):
        await wait_all_tasks_blocked()
    else:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

"""Plugin of pytest for anyio's own tests: makes their parameter for uvloop's loop mean runtime's.

anyio's ``conftest.py`` runs each test on asyncio's loop, on one with eager tasks, and on the loop
of the module ``uvloop``, if it can be imported. This plugin provides a module of that name. It is
imported by its file name alone, because anyio's tests are a package ``tests`` as well.
"""

from __future__ import annotations

import asyncio
import os
import sys
from types import ModuleType

import runtime


def new_event_loop() -> runtime.Loop:
    """Return a new loop, whose tasks start eagerly if ``EAGER_TASKS`` is set."""
    loop = runtime.new_event_loop()
    if os.environ.get("EAGER_TASKS") and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


class _StandIn(ModuleType):
    Loop = runtime.Loop
    new_event_loop = staticmethod(new_event_loop)


_uvloop = _StandIn("uvloop")
_uvloop.loop = _uvloop  # type: ignore[attr-defined]
sys.modules["uvloop"] = _uvloop

"""The event loop policy: the way in for programs that never name a loop.

Before Python 3.14 deprecated them, a policy told ``asyncio.run()``, ``asyncio.new_event_loop()``
and ``asyncio.get_event_loop()`` what loops to make. The last of these knows one loop for each
thread; whether it makes one in the main thread, and warns, is a matter of the Python version, so
the policy here is the standard one but for the loops that it makes.

Source: "Policies" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from typing import TYPE_CHECKING, Any

from runtime.loop import Loop, new_event_loop

if TYPE_CHECKING or sys.version_info < (3, 14):
    _StandardPolicy = asyncio.DefaultEventLoopPolicy
else:
    # To ask for it is deprecated: the warning belongs where a policy is set, and asyncio issues it
    # there. In a version without policies the class serves whoever calls it directly.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _StandardPolicy = getattr(asyncio, "DefaultEventLoopPolicy", object)


class EventLoopPolicy(_StandardPolicy):
    """An event loop policy whose loops are ``runtime.Loop``; otherwise asyncio's default one.

    For Python 3.11 to 3.13, and for tools that ask for a policy. From 3.14 asyncio deprecates
    policies: give a loop factory instead.
    """

    def new_event_loop(self) -> Loop:
        """Return a new ``Loop``, which is not made the current one."""
        return new_event_loop()


def install() -> None:
    """Have asyncio make ``runtime.Loop`` wherever it makes a loop: sets an ``EventLoopPolicy``.

    Call it first in a program that uses ``asyncio.run()`` or ``asyncio.get_event_loop()``. Where
    the loop can be named, ``asyncio.Runner(loop_factory=runtime.Loop)`` needs no global state.
    Python 3.14 and 3.15 warn that policies are deprecated; where asyncio has none any more,
    RuntimeError is raised.
    """
    set_policy: Any = getattr(asyncio, "set_event_loop_policy", None)
    if set_policy is None:
        raise RuntimeError(
            "This version of asyncio has no event loop policies: use runtime.run(), or "
            "asyncio.run(main(), loop_factory=runtime.Loop)."
        )
    with warnings.catch_warnings():
        if sys.version_info >= (3, 14):
            warnings.warn(
                "runtime.install() sets an event loop policy, which Python 3.14 deprecates and "
                "3.16 removes: use runtime.run(), or asyncio.run(main(), "
                "loop_factory=runtime.Loop).",
                DeprecationWarning,
                stacklevel=2,
            )
            # asyncio's own warning would name this line, not the caller's.
            warnings.simplefilter("ignore", DeprecationWarning)
        set_policy(EventLoopPolicy())

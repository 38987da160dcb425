"""Event loop policy, for programs that let asyncio choose the class of the loop.

Until Python 3.14 deprecated policies, a policy chose the class of the loops that ``asyncio.run()``,
``asyncio.new_event_loop()`` and ``asyncio.get_event_loop()`` make. The last of these returns the
current loop of a thread; whether it makes one in the main thread, and whether it warns then,
depends on the Python version. The policy here is therefore a subclass of the standard one, and
changes the class of the loops only.

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
    # Reading the attribute issues a deprecation warning. It belongs where a policy is set, and
    # asyncio issues it there as well. In a version without policies the class below can still be
    # called directly.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _StandardPolicy = getattr(asyncio, "DefaultEventLoopPolicy", object)


class EventLoopPolicy(_StandardPolicy):
    """An event loop policy that makes ``runtime.Loop``; otherwise the same as asyncio's default.

    It is for Python 3.11 to 3.13, and for tools that need a policy. From 3.14 on asyncio deprecates
    policies: pass a loop factory instead.
    """

    def new_event_loop(self) -> Loop:
        """Return a new ``Loop``, without making it the current one."""
        return new_event_loop()


def install() -> None:
    """Set an ``EventLoopPolicy``, so that asyncio makes ``runtime.Loop`` wherever it makes a loop.

    Call it at the start of a program that uses ``asyncio.run()`` or ``asyncio.get_event_loop()``.
    Where the program can choose the class of the loop itself,
    ``asyncio.Runner(loop_factory=runtime.Loop)`` does the same without global state. On Python 3.14
    and 3.15 a DeprecationWarning is issued. Raises RuntimeError when this version of asyncio has no
    policies any more.
    """
    set_policy: Any = getattr(asyncio, "set_event_loop_policy", None)
    if set_policy is None:
        raise RuntimeError(
            "this version of asyncio has no event loop policies: use runtime.run(), or "
            "asyncio.run(main(), loop_factory=runtime.Loop)"
        )
    with warnings.catch_warnings():
        if sys.version_info >= (3, 14):
            warnings.warn(
                "runtime.install() sets an event loop policy, which Python 3.14 deprecates and "
                "3.16 removes: use runtime.run(), or asyncio.run(main(), "
                "loop_factory=runtime.Loop)",
                DeprecationWarning,
                stacklevel=2,
            )
            # asyncio's own warning would name this line, not the caller's.
            warnings.simplefilter("ignore", DeprecationWarning)
        set_policy(EventLoopPolicy())

"""``run`` for tests: runs a coroutine on a virtual clock, and reports deadlocks."""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from typing import Literal, TypeVar

from runtime.kernel.arguments.seconds import Seconds
from runtime.loop import Loop
from runtime.runner import run as run_for_real
from runtime.testing.clock import PATIENCE, RealIO, VirtualClock

T = TypeVar("T")

Clock = VirtualClock | Literal["virtual", "real"]


def new_event_loop(
    clock: Clock = "virtual", *, real_io: RealIO = "refuse", patience: Seconds | None = PATIENCE
) -> Loop:
    """Return a new loop for a test, which the caller closes.

    The arguments are those of ``run``. Raises ValueError for invalid ones.
    """
    if clock == "virtual":
        clock = VirtualClock(real_io=real_io, patience=patience)
    elif (real_io, patience) != ("refuse", PATIENCE):
        raise ValueError("real_io and patience are for a virtual clock that is made here")
    if isinstance(clock, VirtualClock):
        loop = clock.new_event_loop()
    elif clock == "real":
        loop = Loop()
    else:
        raise ValueError(f'clock must be a VirtualClock, "virtual" or "real", got {clock!r}')
    loop.set_deadlock_reports(True)
    return loop


def run(
    main: Awaitable[T],
    *,
    clock: Clock = "virtual",
    real_io: RealIO = "refuse",
    patience: Seconds | None = PATIENCE,
    debug: bool | None = None,
    until: Literal["done", "idle"] = "done",
) -> T:
    """Run a coroutine, or another awaitable, as ``runtime.run`` does, for a test.

    ``clock`` is a ``VirtualClock``; or ``"virtual"``, for a new one with ``real_io`` and
    ``patience``; or ``"real"``, for the clock of ``runtime.run``. On a virtual clock sleeps,
    timeouts and ``call_later``, and asyncio's functions of this kind, take no time, and end in the
    exact order of their deadlines. ``debug`` and ``until`` are those of ``runtime.run``.

    Raises DeadlockError when no task can ever run again, in debug mode or not, unless the test
    calls ``loop.set_deadlock_reports(False)``; otherwise the exceptions of ``runtime.run``.

    >>> import runtime
    >>> async def main():
    ...     loop = runtime.get_running_loop()
    ...     try:
    ...         async with runtime.timeout(3600):
    ...             await runtime.sleep(86400)
    ...     except TimeoutError:
    ...         return loop.time()
    >>> runtime.testing.run(main())
    3600.0
    """
    factory = functools.partial(new_event_loop, clock, real_io=real_io, patience=patience)
    return run_for_real(main, debug=debug, loop_factory=factory, until=until)

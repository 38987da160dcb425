"""Replacement for ``test_asyncio.utils.TestLoop``: a loop whose clock the test advances.

The test passes a generator function. For each timer that is set, the generator receives the timer's
deadline at the end of the turn, and yields the number of seconds by which the clock advances. The
loop never waits. It is closed when the generator has ended, or if there is none. The tests also use
the private names ``_run_once`` and ``_ready`` of their own loop.
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

import runtime

Generated = Generator[float, float, None]


def _no_times() -> Generator[Any, float, None]:
    yield


class NeverWaiting(selectors.SelectSelector):
    """Selector that returns at once without events, and lets the clock advance."""

    def __init__(self, between_turns: Callable[[], None]) -> None:
        super().__init__()
        self._between_turns = between_turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._between_turns()
        return super().select(0)


class VirtualLoop(runtime.Loop):
    """A loop of ``runtime`` with the interface of the tests' own loop."""

    def __init__(self, gen: Callable[[], Generator[Any, float, None]] | None = None) -> None:
        self._now = 0.0
        self._deadlines: list[float] = []
        self._must_end = gen is not None
        self._times = (gen or _no_times)()
        next(self._times)
        super().__init__(NeverWaiting(self._let_time_pass), lambda: self._now)

    def advance_time(self, advance: float | None) -> None:
        """Advance the clock by ``advance`` seconds."""
        self._now += advance or 0.0

    def _let_time_pass(self) -> None:
        deadlines, self._deadlines = self._deadlines, []
        for deadline in deadlines:
            self.advance_time(self._times.send(deadline))

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> runtime.TimerHandle:
        self._deadlines.append(when)
        return super().call_at(when, callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> runtime.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def run_forever(self) -> None:
        try:
            super().run_forever()
        finally:
            self._let_time_pass()

    def _run_once(self) -> None:
        self.call_soon(self.stop)
        self.run_forever()

    def close(self) -> None:
        super().close()
        if self._must_end:
            self._must_end = False
            with contextlib.suppress(StopIteration):
                self._times.send(0)
                raise AssertionError("the generator of times has not ended")

"""The loop of a test, or of several that share it: what runs on it, how it ends, what is left.

A loop lives for the widest of its *scopes*: a test, or the class, module, package or session of a
fixture. Narrower ones begin and end on it meanwhile, one within the other::

    scope of the module    set-up of ``server`` ........................... its tear-down, close()
    scope of test_1                  set-up of ``client``, test_1, tear-down
    scope of test_2                                                   test_2

Invariant: whatever is open belongs to one scope, which is told of it when it ends. What a fixture's
set-up leaves running is that of the fixture's scope, whichever test was the first to ask for it;
all else is that of the narrowest scope that there is.

Whatever test framework there is stands above this module, and knows it; it knows none.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from runtime.kernel.describe import safe_repr
from runtime.loop import Loop
from runtime.runner import Runner
from runtime.sync.sleep import sleep
from runtime.sync.waiting import wait
from runtime.testing.leaks import Open, what_is_open
from runtime.testing.running import new_event_loop

T = TypeVar("T")

_TURNS = 10
"""Turns that what is about to end gets: a connection is closed some turns after ``close()``."""

_PATIENCE = 0.5
"""Real seconds that descriptors get, which other threads and peers may be about to give back."""


class LoopOfTest:
    """A loop and the scopes that are on it. ``options`` are those of ``new_event_loop``.

    The first scope that begins is the loop's own, and is the last to end: with it, the loop closes.
    """

    def __init__(self, *, debug: bool | None = None, **options: Any) -> None:
        self._reports: list[dict[str, Any]] = []
        self._scopes: list[Scope] = []
        self._runner = Runner(
            debug=debug, loop_factory=functools.partial(new_event_loop, **options)
        )
        self._loop: Loop = self._runner.get_loop()
        self._loop.set_exception_handler(self._take_note)

    def _take_note(self, loop: Loop, context: dict[str, Any]) -> None:
        self._reports.append(context)
        loop.default_exception_handler(context)

    def begin(self, *, width: int, for_test: bool) -> Scope:
        """Begin a scope. ``width`` tells the wide, which have a small one, from the narrow.

        That of a test within a wider one has a context of its own, a copy of the loop's.
        """
        context = None
        if self._scopes:
            # What the wider ones began comes to rest first, so that it is seen to be theirs.
            self.turn(_TURNS)
            if for_test:
                context = self.run(_copy_context(), None)
        scope = Scope(self, width, context)
        self._scopes.append(scope)
        return scope

    def end(self, scope: Scope) -> None:
        """Take note that a scope is over; close the loop when that was its own."""
        if scope is not self._scopes[0]:
            self._scopes.remove(scope)
            return
        self._scopes.clear()
        self._runner.close()

    def is_the_loops_own(self, scope: Scope) -> bool:
        """Return whether the loop closes with this scope."""
        return scope is self._scopes[0]

    def others(self, scope: Scope) -> list[Scope]:
        """Return the scopes within this one, and around it."""
        return [each for each in self._scopes if each is not scope]

    def run(self, awaitable: Awaitable[T], context: contextvars.Context | None) -> T:
        """Run something, in the loop's own context if no other is given."""
        return self._runner.run(awaitable, context=context)

    def turn(self, turns: int = 1) -> None:
        """Let what is ready run, unless the loop is closed."""
        for _ in range(turns):
            if not self._loop.is_closed():
                self.run(sleep(0), None)

    def what_is_open(self) -> Open:
        """Return what is open now."""
        return what_is_open(self._loop)

    def take_failures(self) -> list[str]:
        """Describe what was reported to the loop since the last time, and forget it."""
        gc.collect(1)  # A failed future that is part of a circle reports when it is collected.
        self.turn()
        reports, self._reports = self._reports, []
        return [
            f"{report.get('message')}: {safe_repr(report['exception'])}"
            if "exception" in report
            else str(report.get("message"))
            for report in reports
        ]


class Scope:
    """The time of a test, or of what is wider, on a loop. Made by ``LoopOfTest.begin``."""

    def __init__(
        self, loop: LoopOfTest, width: int, context: contextvars.Context | None = None
    ) -> None:
        self.width = width
        self._loop = loop
        self._context = context
        # What is not this scope's; and what is, but was told already.
        self._others = loop.what_is_open()
        self._told = Open()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a part of a fixture; all that is of one scope shares one context."""
        return self._loop.run(awaitable, self._context)

    def set_up(self, awaitable: Awaitable[T]) -> T:
        """Run the set-up of a fixture of this scope."""
        within = [each for each in self._loop.others(self) if each.width > self.width]
        if not within:
            return self.run(awaitable)
        before = self._loop.what_is_open()
        try:
            return self.run(awaitable)
        finally:
            self._loop.turn(_TURNS)
            ours = self._loop.what_is_open() - before
            for scope in within:
                scope.leave_to_others(ours)

    def leave_to_others(self, what: Open) -> None:
        """Have this scope not be asked for something that is open."""
        self._others |= what

    def run_test(self, test: Awaitable[object], *, defer: bool = False) -> list[str]:
        """Run the test itself; return what it left behind, described.

        What the fixtures began is looked for at the end of the scope, with what tests left that
        ``defer``.
        """
        before = self._loop.what_is_open()
        try:
            self.run(test)
        except BaseException:
            # What it left behind may come of its failure, which is to be seen alone.
            self._told |= self._loop.what_is_open() - before
            self._loop.take_failures()
            raise
        if defer:
            return self._loop.take_failures()
        left = self._left_since(before)
        found = [*left.describe(), *self._loop.take_failures()]
        self._told |= self._loop.what_is_open() - before
        return found

    def end(self, *, defer: bool = False) -> list[str]:
        """Cancel what still runs, and close the loop if it is this scope's; return what was left.

        With ``defer`` it is left to the widest scope.
        """
        loop = self._loop
        if loop.is_the_loops_own(self):
            # Descriptors may well be those of tasks which are about to be cancelled.
            left = self._left_since(self._others | self._told, descriptors=False)
            found = [*left.describe(), *loop.take_failures()]
            loop.end(self)
            left = self._left_since(self._others | self._told)
            return [*found, *loop.take_failures(), *left.describe()]
        if defer:
            loop.end(self)
            return loop.take_failures()
        left = self._left_since(self._others | self._told)
        found = [*left.describe(), *loop.take_failures()]
        loop.end(self)
        try:
            loop.run(_cancel((loop.what_is_open() - self._others).tasks), None)
        finally:
            # It was told of, or is seen to raise: that is enough of it.
            rest = loop.what_is_open() - self._others
            for scope in loop.others(self):
                scope.leave_to_others(rest)
        return found + loop.take_failures()

    def _left_since(self, before: Open, *, descriptors: bool = True) -> Open:
        """Return what was not there before; after giving it the time to go."""

        def left() -> Open:
            new = (self._loop.what_is_open() - before).without_daemons()
            return new if descriptors else Open(new.tasks)

        for _ in range(_TURNS):
            if not left():
                return Open()
            self._loop.turn()
        self._wait_while(lambda: bool(left().descriptors))
        return left()

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while condition() and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.005)
            self._loop.turn()


async def _copy_context() -> contextvars.Context:
    return contextvars.copy_context()


async def _cancel(tasks: set[Any]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await wait(tasks)
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                task.get_loop().call_exception_handler(
                    {
                        "message": "unhandled exception while a task was cancelled",
                        "exception": task.exception(),
                        "task": task,
                    }
                )

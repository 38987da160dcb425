"""The loop of a test, or of several that share it: what runs on it, how it ends, what is left.

A loop lives for the widest of its *scopes*: a test, or the class, module, package or session of a
fixture. Narrower ones begin and end on it meanwhile, one within the other::

    scope of the module    set-up of ``server`` ........................... its tear-down, close()
    scope of test_1                  set-up of ``client``, test_1, tear-down
    scope of test_2                                                   test_2

Invariant: whatever is open belongs to one scope, which is told of it when it ends. What a fixture's
set-up leaves running is that of the fixture's scope, whichever test was the first to ask for it. So
is what that begins later, such as the handlers of a server: tasks run in copies of the context that
they were begun in, where a variable names the scope. So are the tasks that a fixture waits for,
those of a group around its ``yield``, whoever began them, and the connections that its listening
sockets accepted. All else is that of the narrowest scope that there is.

Whatever test framework there is stands above this module, and knows it; it knows none.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.diagnostics.awaited_by import waiters_of
from runtime.kernel.diagnostics.deadlock import DeadlockError
from runtime.kernel.diagnostics.describe import safe_repr
from runtime.kernel.errors import CancelledError
from runtime.kernel.task import cancel_all
from runtime.loop import Loop
from runtime.runner import Runner
from runtime.sync.sleep import sleep
from runtime.sync.waiting import wait
from runtime.testing.forgotten import ForgottenAwaits, excuse_what_is_there
from runtime.testing.leaks import Open, accepted_by, descriptors_of, open_resources
from runtime.testing.places import from_the_program, place_of_wait, without_our_tasks
from runtime.testing.running import new_event_loop

T = TypeVar("T")

_TURNS = 10
"""Turns that what is about to end gets: a connection is closed some turns after ``close()``."""

_PATIENCE = 0.5
"""Real seconds that descriptors get, which other threads and peers may be about to give back."""


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("scope", default=None)
"""The scope of which a fixture is being set up or torn down; None in a test itself."""


_loops: weakref.WeakSet[ScopedLoop] = weakref.WeakSet()
"""All that there are: while one runs, the others don't."""


class ScopedLoop:
    """A loop and the scopes that are on it. ``options`` are those of ``new_event_loop``.

    The first scope that begins is the loop's own, and is the last to end: with it, the loop closes.
    """

    def __init__(self, *, debug: bool | None = None, **options: Any) -> None:
        self._reports: list[dict[str, Any]] = []
        self._scopes: list[Scope] = []
        self._forgotten = ForgottenAwaits()
        self._runner = Runner(
            debug=debug, loop_factory=functools.partial(new_event_loop, **options)
        )
        self._loop: Loop = self._runner.get_loop()
        self._context = contextvars.copy_context()
        _loops.add(self)
        self._loop.set_exception_handler(self._take_note)

    def _take_note(self, loop: Loop, context: dict[str, Any]) -> None:
        self._reports.append(context)
        loop.default_exception_handler(context)

    def begin(self, *, width: int, for_test: bool) -> Scope:
        """Begin a scope. ``width`` tells the wide, which have a small one, from the narrow.

        That of a test within a wider one has a context of its own, a copy of the loop's.
        """
        context = self._context
        if self._scopes:
            # What the wider ones began comes to rest first, so that it is seen to be theirs.
            self.turn(_TURNS)
            if for_test:
                context = context.copy()
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

    def idle_threads(self) -> list[threading.Thread]:
        """Return the threads of the loop, if none of them works for it."""
        loop = self._loop
        if loop.is_closed() or loop._external_work:
            return []
        loop._idle_threads = []
        return loop._own_threads()

    def scope_of(self, task: Any) -> Scope | None:
        """Return the scope of the fixture that began a task, or waits for it; None if none does."""
        reached = [task]
        for future in reached:
            owner = self._own_scope_of(future)
            if owner is not None:
                return owner
            reached += [waiter for waiter in waiters_of(future) if waiter not in reached]
        return None

    def _own_scope_of(self, future: Any) -> Scope | None:
        for scope in self._scopes:
            if future in scope.fixtures:
                return scope
        return self.scope_in(future.get_context() if hasattr(future, "get_context") else None)

    def scope_in(self, context: object) -> Scope | None:
        """Return the scope of the fixture that began something in ``context``."""
        owner = context.get(_scope) if isinstance(context, contextvars.Context) else None
        return owner if owner in self._scopes else None

    def run(self, awaitable: Awaitable[T], context: contextvars.Context | None = None) -> T:
        """Run something, in the loop's own context if no other is given.

        When it did not end by itself, because nothing can ever wake it, or an exception came out of
        the loop's wait, it is cancelled first, and the exception is raised from where it was: the
        test is over before its fixtures are torn down.
        """
        __tracebackhide__ = True
        others = [each for each in _loops if each is not self]
        self._loop._idle_threads = [thread for each in others for thread in each.idle_threads()]
        try:
            with self._forgotten.noticed():
                return self._runner.run(awaitable, context=context or self._context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raised = error
        # Not while it is being handled, or it would be the context of whatever the tasks raise now.
        try:
            raise self._as_the_program_sees_it(raised, awaitable)
        finally:
            del raised

    def _as_the_program_sees_it(self, error: BaseException, awaitable: object) -> BaseException:
        """Return what came out of a run, with a traceback of places in the program."""
        task = self._task_of(awaitable)
        if task is None:
            return error.with_traceback(from_the_program(error.__traceback__))
        if isinstance(error, DeadlockError):
            error = without_our_tasks(error)
        where = self._interrupt(task)
        return error.with_traceback(from_the_program(where, only=True))

    def _task_of(self, coro: object) -> Any:
        """Return the task that runs a coroutine; None when it has ended."""
        tasks: set[Any] = asyncio.all_tasks(self._loop)
        return next((task for task in tasks if task.get_coro() is coro), None)

    def _interrupt(self, task: Any) -> TracebackType | None:
        """Cancel a task under which the loop was left; return where it was."""
        where = place_of_wait(task)
        task.cancel()
        try:
            self._loop.run_until_complete(task)
        except CancelledError as error:
            # It knows more, when the task waited for another one.
            where = error.__traceback__
        except Exception:
            pass  # Whatever its end raises comes second.
        if not task.done():
            self._runner.run(_close([task]), context=self._context)
        return where

    def cancel(self, tasks: set[Any]) -> list[str]:
        """Cancel tasks, and wait until they have ended; describe those that did not.

        They wait for what never comes, though they were cancelled. They are closed, so that
        whatever they hold is free for the tests that follow.
        """
        if not tasks:
            return []
        stubborn = Open()
        try:
            self.run(_cancel(tasks))
        except DeadlockError:
            stubborn.tasks.update(task for task in tasks if not task.done())
        lines = [f"{line}\n  though it was cancelled" for line in stubborn.describe()]
        if stubborn:
            self.run(_close(stubborn.tasks))
        for task in tasks - stubborn.tasks:
            if not task.cancelled() and task.exception() is not None:
                self._loop.call_exception_handler(
                    {
                        "message": "unhandled exception while a task was cancelled",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
        return lines

    def turn(self, turns: int = 1) -> None:
        """Let what is ready run, unless the loop is closed."""
        for _ in range(turns):
            if not self._loop.is_closed():
                self.run(sleep(0))

    def open_resources(self) -> Open:
        """Return what is open now."""
        return open_resources(self._loop)

    def take_failures(self) -> list[str]:
        """Describe what was reported to the loop since the last time, and forget it."""
        with self._forgotten.noticed():
            # A failed future that is part of a cycle reports when it is collected.
            gc.collect(1)
            self.turn()
        reports, self._reports = self._reports, []
        return [
            f"{report.get('message')}: {safe_repr(report['exception'])}"
            if "exception" in report
            else str(report.get("message"))
            for report in reports
        ] + self._forgotten.take()

    def forget_failures(self) -> None:
        """Forget what was reported so far, and whatever a test that failed has yet to let go of."""
        self.take_failures()
        excuse_what_is_there()


class Scope:
    """The time of a test, or of what is wider, on a loop. Made by ``ScopedLoop.begin``."""

    def __init__(self, loop: ScopedLoop, width: int, context: contextvars.Context) -> None:
        self.width = width
        # The tasks that fixtures run in from their set-up to their tear-down.
        self.fixtures: set[Any] = set()
        self._loop = loop
        self._context = context
        # What is not this scope's; and what is, but was told already.
        self._others = loop.open_resources()
        self._told = Open()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a part of a fixture; all that is of one scope shares one context."""
        __tracebackhide__ = True
        self._context.run(_scope.set, self)
        return self._loop.run(awaitable, self._context)

    def set_up(self, awaitable: Awaitable[T]) -> T:
        """Run the set-up of a fixture of this scope."""
        __tracebackhide__ = True
        within = [each for each in self._loop.others(self) if each.width > self.width]
        if not within:
            return self.run(awaitable)
        before = self._loop.open_resources()
        try:
            return self.run(awaitable)
        finally:
            self._loop.turn(_TURNS)
            ours = self._loop.open_resources() - before
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
        __tracebackhide__ = True
        before = self._loop.open_resources()
        self._context.run(_scope.set, None)
        try:
            self._loop.run(test, self._context)
        except BaseException as error:
            # What it left behind may come of its failure, which is to be seen alone.
            left = self._of_test(before)
            self._told |= left
            if isinstance(error, DeadlockError):
                # It may hold what the fixtures need in order to be torn down.
                self._loop.cancel(left.tasks)
            self._loop.forget_failures()
            raise
        finally:
            self._context.run(_scope.set, self)
        if defer:
            return self._loop.take_failures()
        found = [*self._left(lambda: self._of_test(before)).describe(), *self._loop.take_failures()]
        self._told |= self._of_test(before)
        return found

    def end(self, *, defer: bool = False) -> list[str]:
        """Cancel what still runs, and close the loop if it is this scope's; return what was left.

        With ``defer`` it is left to the widest scope.
        """
        loop = self._loop
        if loop.is_the_loops_own(self):
            # Descriptors may well be those of tasks which are about to be cancelled.
            left = self._left(lambda: replace(self._of_scope(), descriptors=set()))
            found = [*left.describe(), *loop.take_failures()]
            self._told.descriptors.update(descriptors_of(left.processes))
            found += loop.cancel(loop.open_resources().tasks)
            loop.end(self)
            left = self._left(self._of_scope)
            return [*found, *loop.take_failures(), *left.describe()]
        if defer:
            loop.end(self)
            return loop.take_failures()
        found = [*self._left(self._of_scope).describe(), *loop.take_failures()]
        loop.end(self)
        try:
            found += loop.cancel(self._of_scope(also_told=True).tasks)
        finally:
            # It was told of, or is seen to raise: that is enough of it.
            rest = self._of_scope(also_told=True)
            for scope in loop.others(self):
                scope.leave_to_others(rest)
        return found + loop.take_failures()

    def _of_test(self, before: Open) -> Open:
        """Return what the test opened, rather than a fixture of this scope or another."""
        return self._new_of((None,), before)

    def _of_scope(self, *, also_told: bool = False) -> Open:
        """Return what is open of this scope, ``also_told`` with what was told already."""
        ours = self._new_of((self, None), self._others)
        return ours if also_told else ours - self._told

    def _new_of(self, owners: tuple[Scope | None, ...], before: Open) -> Open:
        """Return what is open now, was not ``before``, and is that of one of ``owners``."""
        loop = self._loop
        new = loop.open_resources() - before
        processes = {each for each in new.processes if loop.scope_in(each.context) in owners}
        of_others = accepted_by(before.descriptors, new.descriptors)
        of_others.update(descriptors_of(new.processes - processes))
        return Open(
            {task for task in new.tasks if loop.scope_of(task) in owners},
            processes,
            new.descriptors - of_others,
        )

    def _left(self, what: Callable[[], Open]) -> Open:
        """Return what is left of something; after giving it the time to go."""

        def left() -> Open:
            return what().without_daemons()

        for _ in range(_TURNS):
            if not left():
                return Open()
            self._loop.turn()
        self._wait_while(lambda: bool(left().descriptors or left().processes))
        return left()

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while condition() and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.005)
            self._loop.turn()


async def _cancel(tasks: Iterable[Any]) -> None:
    """Cancel tasks, and wait until they have ended."""
    cancel_all(get_running_loop(), tasks)
    await wait(tasks)


async def _close(tasks: Collection[Any]) -> None:
    """End tasks that a cancellation does not end: close their coroutines."""
    for task in tasks:
        coro = task.get_coro()
        for _ in range(_TURNS):
            try:
                coro.close()
            except RuntimeError:
                continue  # It awaits something again, in a `finally`.
            except Exception:  # Nobody waits for it any more.
                break
            else:
                break
        # One that waits for a task that swallows its cancellation ends with that one.
        task.add_done_callback(_retrieve)
        task.cancel()
    for _ in range(_TURNS):
        if not all(task.done() for task in tasks):
            await sleep(0)


def _retrieve(task: Any) -> None:
    """Take the exception of a task whose coroutine was closed, which says no more than that."""
    if not task.cancelled():
        task.exception()

"""The loop of a test, or of several tests that share it: its runs, its end, and its leftovers.

A loop lives as long as the widest of its *scopes*. A scope is a test, or the class, module, package
or session of a fixture. Narrower scopes begin and end within wider ones::

    scope of the module    set-up of ``server`` ........................... its tear-down, close()
    scope of test_1                  set-up of ``client``, test_1, tear-down
    scope of test_2                                                   test_2

Invariant: every open resource (a task, a process, a descriptor) belongs to exactly one scope, which
reports it at its end, if it is still open then. To the scope of a fixture, whichever test was the
first to use the fixture, belong

- the resources that are open after its set-up, and were not before;
- the resources that its tasks and callbacks open later, such as the handlers of a server: they run
  in copies of the context of the fixture, in which a variable names the scope;
- the tasks that the fixture waits for, such as those of a task group around its ``yield``, also if
  the test has started them;
- the connections that its listening sockets have accepted.

All other resources belong to the narrowest scope at the time.

This module knows no test framework: the pytest plugin uses it, and not the other way round.
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
from runtime.kernel.reasons import CancelReason
from runtime.kernel.task import cancel_all
from runtime.loop import Loop
from runtime.runner import Runner
from runtime.sync.sleep import sleep
from runtime.sync.waiting import wait
from runtime.testing.forgotten import ForgottenAwaits, ignore_existing_coroutines
from runtime.testing.leaks import Open, accepted_descriptors, descriptors_of, open_resources
from runtime.testing.places import place_of_wait, program_traceback, without_plugin_tasks
from runtime.testing.running import new_event_loop

T = TypeVar("T")

_TURNS = 10
"""Turns for which leftovers are waited for: a connection is closed some turns after ``close()``."""

_PATIENCE = 0.5
"""Real seconds for which open descriptors are waited for: threads and peers may close them."""


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("scope", default=None)
"""The scope whose fixture is being set up or torn down; None in a test itself."""


_loops: weakref.WeakSet[ScopedLoop] = weakref.WeakSet()
"""All loops of this kind. One of them runs at a time."""


class ScopedLoop:
    """A loop and its scopes. ``options`` are those of ``new_event_loop``, or ``factory`` makes it.

    ``background()`` returns descriptors that belong to no scope.
    The first scope that begins is the loop's own. It is the last to end, and the loop closes then.
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        factory: Callable[[], Loop] | None = None,
        background: Callable[[], set[int]] | None = None,
        **options: Any,
    ) -> None:
        self._reports: list[dict[str, Any]] = []
        self._scopes: list[Scope] = []
        self._forgotten = ForgottenAwaits()
        self._background = background
        if factory is None:
            factory = functools.partial(new_event_loop, **options)
        self._runner = Runner(debug=debug, loop_factory=factory)
        self._loop: Loop = self._runner.get_loop()
        self._context = contextvars.copy_context()
        _loops.add(self)
        self._loop.set_exception_handler(self._on_report)

    def _on_report(self, loop: Loop, context: dict[str, Any]) -> None:
        self._reports.append(context)
        loop.default_exception_handler(context)

    def begin(self, *, width: int, for_test: bool) -> Scope:
        """Begin a scope. ``width`` is a number that is smaller for a wider scope.

        The scope of a test within a wider scope has its own context, a copy of that of the loop.
        """
        context = self._context
        if self._scopes:
            # Let the fixtures of wider scopes finish opening resources first, so that these count
            # as resources of the wider scopes.
            self.turn(_TURNS)
            if for_test:
                context = context.copy()
        scope = Scope(self, width, context)
        self._scopes.append(scope)
        return scope

    def end(self, scope: Scope) -> None:
        """Take note that a scope has ended; close the loop if it was the loop's own scope."""
        if scope is not self._scopes[0]:
            self._scopes.remove(scope)
            return
        self._scopes.clear()
        self._runner.close()

    def is_outermost(self, scope: Scope) -> bool:
        """Return whether the loop closes with this scope."""
        return scope is self._scopes[0]

    def others(self, scope: Scope) -> list[Scope]:
        """Return all scopes but this one: those within it, and those around it."""
        return [each for each in self._scopes if each is not scope]

    def idle_threads(self) -> list[threading.Thread]:
        """Return the threads of the loop, if none of them is working for it."""
        loop = self._loop
        if loop.is_closed() or loop._external_work:
            return []
        loop._idle_threads = []
        return loop._own_threads()

    def scopes_of(self, tasks: Iterable[Any]) -> dict[Any, Scope | None]:
        """Return for each task the scope of the fixture that started it, or waits for it, or None.

        Each future is examined once, apart from those of a fixture: there may be a long chain of
        tasks that wait for one another.
        """
        without: set[Any] = set()
        return {task: None if task in without else self._scope_of(task, without) for task in tasks}

    def _scope_of(self, task: Any, without: set[Any]) -> Scope | None:
        """Return the scope of one task; ``without`` are futures that belong to no scope."""
        reached = [task]
        seen = {task}
        for future in reached:
            owner = self._own_scope_of(future)
            if owner is not None:
                return owner
            waiters = [
                each for each in waiters_of(future) if each not in seen and each not in without
            ]
            seen.update(waiters)
            reached += waiters
        without |= seen
        return None

    def _own_scope_of(self, future: Any) -> Scope | None:
        for scope in self._scopes:
            if future in scope.fixtures:
                return scope
        return self.scope_in(future.get_context() if hasattr(future, "get_context") else None)

    def scope_in(self, context: object) -> Scope | None:
        """Return the scope of the fixture to which ``context`` belongs, or None."""
        owner = context.get(_scope) if isinstance(context, contextvars.Context) else None
        return owner if owner in self._scopes else None

    def run(self, awaitable: Awaitable[T], context: contextvars.Context | None = None) -> T:
        """Run an awaitable, in ``context``, by default that of the loop; return its result.

        If its task has not ended, because nothing can ever wake it, or because an exception left
        the loop, the task is cancelled, and the exception is raised with a traceback of the place
        where the task was. The test has therefore ended before its fixtures are torn down.
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
        # Outside of the except block: otherwise the exception would become the __context__ of the
        # exceptions that the tasks raise now.
        try:
            raise self._without_library_frames(raised, awaitable)
        finally:
            del raised

    def _without_library_frames(self, error: BaseException, awaitable: object) -> BaseException:
        """Return the exception of a run, with a traceback of places in the program."""
        task = self._task_of(awaitable)
        if task is None:
            return error.with_traceback(program_traceback(error.__traceback__))
        if isinstance(error, DeadlockError):
            error = without_plugin_tasks(error)
        where = self._interrupt(task)
        return error.with_traceback(program_traceback(where, only=True))

    def _task_of(self, coro: object) -> Any:
        """Return the task that runs a coroutine; None if it has ended."""
        tasks: set[Any] = asyncio.all_tasks(self._loop)
        return next((task for task in tasks if task.get_coro() is coro), None)

    def _interrupt(self, task: Any) -> TracebackType | None:
        """Cancel a task that was running when the loop was left.

        Returns a traceback of the place where it was.
        """
        where = place_of_wait(task)
        task.cancel()
        try:
            self._loop.run_until_complete(task)
        except CancelledError as error:
            # This traceback is longer, if the task waited for another task.
            where = error.__traceback__
        except Exception:
            pass  # The exception that left the loop matters more.
        if not task.done():
            self._runner.run(_close([task]), context=self._context)
        return where

    def cancel(self, tasks: set[Any]) -> list[str]:
        """Cancel tasks, and wait until they have ended; return descriptions of those that did not.

        The latter wait for an event that never comes, although they were cancelled. Their
        coroutines are closed, so that the locks and other resources that they hold are free for the
        tests that follow.
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
        """Let everything that is ready run, ``turns`` times, unless the loop is closed."""
        for _ in range(turns):
            if not self._loop.is_closed():
                self.run(sleep(0))

    def open_resources(self) -> Open:
        """Return the resources that are open now."""
        found = open_resources(self._loop)
        if self._background is not None:
            found.descriptors -= self._background()
        return found

    def take_failures(self) -> list[str]:
        """Return descriptions of the failures that were reported since the last call."""
        with self._forgotten.noticed():
            # A failed future that is part of a reference cycle is reported when it is collected.
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
        """Forget all reports, also the later ones about coroutines that a failed test has made."""
        self.take_failures()
        ignore_existing_coroutines()


class Scope:
    """The lifetime of a test, or of fixtures for several tests, on a loop.

    Scopes are made by ``ScopedLoop.begin``.
    """

    def __init__(self, loop: ScopedLoop, width: int, context: contextvars.Context) -> None:
        self.width = width
        # The tasks in which the fixtures of this scope run, from their set-up to their tear-down.
        self.fixtures: set[Any] = set()
        self._loop = loop
        self._context = context
        # Resources of other scopes; and resources of this scope that were reported already.
        self._others = loop.open_resources()
        self._reported = Open()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a part of a fixture, in the context that everything in this scope shares."""
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
            opened = self._loop.open_resources() - before
            for scope in within:
                scope.exclude(opened)

    def exclude(self, resources: Open) -> None:
        """Count open resources as those of other scopes from now on."""
        self._others |= resources

    def run_test(self, test: Awaitable[object], *, defer: bool = False) -> list[str]:
        """Run the test itself; return descriptions of the resources that it left open.

        Resources of the fixtures are looked for at the end of the scope; with ``defer``, those of
        the test as well.
        """
        __tracebackhide__ = True
        before = self._loop.open_resources()
        self._context.run(_scope.set, None)
        try:
            self._loop.run(test, self._context)
        except BaseException as error:
            # The leftovers may be consequences of the failure: report the failure only.
            left = self._opened_by_test(before)
            self._reported |= left
            if isinstance(error, DeadlockError):
                # The tasks may hold locks, for example, that the fixtures need for their tear-down.
                self._loop.cancel(left.tasks)
            self._loop.forget_failures()
            raise
        finally:
            self._context.run(_scope.set, self)
        if defer:
            return self._loop.take_failures()
        left = self._leftovers(lambda: self._opened_by_test(before))
        found = [*left.describe(), *self._loop.take_failures()]
        self._reported |= self._opened_by_test(before)
        return found

    def end(self, *, defer: bool = False) -> list[str]:
        """End the scope: cancel its tasks, and close the loop if it is the loop's own scope.

        Returns descriptions of its leftovers. With ``defer``, a narrower scope leaves them to the
        widest scope.
        """
        loop = self._loop
        if loop.is_outermost(self):
            try:
                # Without descriptors: they may belong to tasks that are cancelled below.
                left = self._leftovers(lambda: replace(self._opened_by_scope(), descriptors=set()))
                found = [*left.describe(), *loop.take_failures()]
                self._reported.descriptors.update(descriptors_of(left.processes))
                found += loop.cancel(loop.open_resources().tasks)
            finally:
                loop.end(self)  # Also if a task has raised SystemExit, or after Ctrl-C.
            left = self._leftovers(self._opened_by_scope)
            return [*found, *loop.take_failures(), *left.describe()]
        if defer:
            loop.end(self)
            return loop.take_failures()
        try:
            found = [*self._leftovers(self._opened_by_scope).describe(), *loop.take_failures()]
        finally:
            loop.end(self)
        try:
            found += loop.cancel(self._opened_by_scope(also_reported=True).tasks)
        finally:
            # All of it was reported, or its failures were: other scopes must not report it again.
            rest = self._opened_by_scope(also_reported=True)
            for scope in loop.others(self):
                scope.exclude(rest)
        return found + loop.take_failures()

    def _opened_by_test(self, before: Open) -> Open:
        """Return the resources that the test has opened, without those of fixtures."""
        return self._opened_by((None,), before)

    def _opened_by_scope(self, *, also_reported: bool = False) -> Open:
        """Return the open resources of this scope; by default without those reported already."""
        opened = self._opened_by((self, None), self._others)
        return opened if also_reported else opened - self._reported

    def _opened_by(self, owners: tuple[Scope | None, ...], before: Open) -> Open:
        """Return the resources of ``owners`` that are open now, and were not ``before``.

        None among the owners stands for code that belongs to no fixture.
        """
        loop = self._loop
        new = loop.open_resources() - before
        processes = {each for each in new.processes if loop.scope_in(each.context) in owners}
        excluded = accepted_descriptors(before.descriptors, new.descriptors)
        excluded.update(descriptors_of(new.processes - processes))
        return Open(
            {task for task, scope in loop.scopes_of(new.tasks).items() if scope in owners},
            processes,
            new.descriptors - excluded,
        )

    def _leftovers(self, collect: Callable[[], Open]) -> Open:
        """Return the resources that ``collect()`` finds, after they had some time to end."""

        def left() -> Open:
            return collect().without_daemons()

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
    cancel_all(get_running_loop(), tasks, CancelReason("end"))
    await wait(tasks)


async def _close(tasks: Collection[Any]) -> None:
    """End tasks that do not end when they are cancelled: close their coroutines."""
    for task in tasks:
        coro = task.get_coro()
        for _ in range(_TURNS):
            try:
                coro.close()
            except RuntimeError:
                continue  # The coroutine awaits something in a `finally` block: close it again.
            except Exception:  # The task has failed before its coroutine was closed: ignore that.
                break
            else:
                break
        # A task that waits for another task, which ignores its cancellation, ends when the other
        # task does.
        task.add_done_callback(_retrieve)
        task.cancel()
    for _ in range(_TURNS):
        if not all(task.done() for task in tasks):
            await sleep(0)


def _retrieve(task: Any) -> None:
    """Mark the exception of a closed task as retrieved: it only says that the task was closed."""
    if not task.cancelled():
        task.exception()

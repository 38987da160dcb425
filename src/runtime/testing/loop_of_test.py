"""The loop of one test: what runs on it, in which order it ends, and what was left behind.

Whatever test framework there is stands above this module, and knows it; it knows none.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from runtime.kernel.daemons import is_daemon
from runtime.kernel.deadlock import describe_wait
from runtime.kernel.running import current_task, get_running_loop
from runtime.kernel.types import Future, Task
from runtime.loop import Loop
from runtime.runner import Runner
from runtime.sync.locks import Event
from runtime.sync.sleep import sleep
from runtime.sync.waiting import FIRST_COMPLETED, wait
from runtime.testing.running import new_event_loop

T = TypeVar("T")

_TURNS = 10
"""Turns that what is about to end gets: a connection is closed some turns after ``close()``."""

_PATIENCE = 0.5
"""Real seconds that descriptors get, which other threads and peers may be about to give back."""


class LoopOfTest:
    """A loop for one test and its fixtures. ``options`` are those of ``new_event_loop``."""

    def __init__(self, *, debug: bool | None = None, **options: Any) -> None:
        self._descriptors = open_descriptors()
        self._reports: list[dict[str, Any]] = []
        # Tasks that were found before, so that the end need not find them.
        self._known: set[Any] = set()
        self._runner = Runner(
            debug=debug, loop_factory=functools.partial(new_event_loop, **options)
        )
        self._loop: Loop = self._runner.get_loop()
        self._loop.set_exception_handler(self._take_note)

    def _take_note(self, loop: Loop, context: dict[str, Any]) -> None:
        self._reports.append(context)
        loop.default_exception_handler(context)

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a part of the test, or of a fixture; all of them share one context."""
        return self._runner.run(awaitable)

    def run_test(self, test: Awaitable[object]) -> list[str]:
        """Run the test itself; return what it left behind, described."""
        tasks = asyncio.all_tasks(self._loop)
        descriptors = open_descriptors()
        try:
            self.run(test)
        except BaseException:
            # What it left behind may come of its failure, which is to be seen alone.
            self._know_all_but(tasks, descriptors)
            raise
        left = self._left_over(tasks, descriptors)
        self._know_all_but(tasks, descriptors)
        return left

    def _know_all_but(self, tasks: set[Any], descriptors: set[int]) -> None:
        """Have what is there now not be found at the end; what the fixtures began, only there."""
        self._known |= asyncio.all_tasks(self._loop) - tasks
        self._descriptors |= open_descriptors() - descriptors
        self._reports.clear()

    def close(self) -> list[str]:
        """Cancel what still runs, and close the loop; return what all of it left behind."""
        left = self._left_over(self._known, None)
        self._runner.close()
        self._wait_for(lambda: bool(open_descriptors() - self._descriptors))
        return left + self._failures() + _describe_descriptors(self._descriptors)

    def _left_over(self, tasks: set[Any], descriptors: set[int] | None) -> list[str]:
        """Describe what was not there before; after giving it the time to go."""
        for _ in range(_TURNS):
            if not self._new_tasks(tasks) and not (
                descriptors is not None and open_descriptors() - descriptors
            ):
                break
            self.run(sleep(0))
        if descriptors is not None:
            before = descriptors
            self._wait_for(lambda: bool(open_descriptors() - before))
        found = ["\n".join(["task " + line[0], *line[1:]]) for line in self._new_tasks(tasks)]
        found += self._failures()
        return found if descriptors is None else found + _describe_descriptors(descriptors)

    def _wait_for(self, left: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while left() and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.005)
            if not self._loop.is_closed():
                self.run(sleep(0))

    def _new_tasks(self, before: set[Any]) -> list[list[str]]:
        return [
            describe_wait(task)
            for task in sorted(asyncio.all_tasks(self._loop) - before, key=_name_of)
            if not (hasattr(task, "get_context") and is_daemon(task.get_context()))
        ]

    def _failures(self) -> list[str]:
        """Describe what was reported to the loop since the last time, and forget it."""
        gc.collect(1)  # A failed future that is part of a circle reports when it is collected.
        if not self._loop.is_closed():
            self.run(sleep(0))
        reports, self._reports = self._reports, []
        return [
            f"{report.get('message')}: {report['exception']!r}"
            if "exception" in report
            else str(report.get("message"))
            for report in reports
        ]


def _name_of(task: Any) -> str:
    return str(task.get_name())


class AsyncFixture(Generic[T]):
    """A fixture that yields once: set up, and later torn down, in one and the same task.

    So a task group or a timeout may stand around its ``yield``.
    """

    def __init__(self, loop: LoopOfTest, generator: AsyncGenerator[T, None], name: str) -> None:
        self._loop = loop
        self._generator = generator
        self._name = name
        self._over = Event()
        self._task: Task[None]

    def set_up(self) -> T:
        """Run it up to its ``yield``; return what it yields."""
        return self._loop.run(self._set_up())

    def tear_down(self) -> None:
        """Run the rest of it."""
        self._loop.run(self._tear_down())

    async def _set_up(self) -> T:
        loop = get_running_loop()
        here = current_task()
        assert here is not None
        value: Future[T] = loop.create_future()
        # In the very context of the test, which is to see the variables that it sets.
        self._task = loop.create_task(
            self._drive(value), context=here.get_context(), name=f"fixture {self._name}"
        )
        either: list[Future[Any]] = [self._task, value]
        await wait(either, return_when=FIRST_COMPLETED)
        if not value.done():
            await self._task
        return value.result()

    async def _drive(self, value: Future[T]) -> None:
        generator = self._generator
        try:
            value.set_result(await anext(generator))
        except StopAsyncIteration:
            raise ValueError(f"The fixture {self._name!r} did not yield a value.") from None
        try:
            try:
                await self._over.wait()
            except BaseException as error:
                # A task group around the yield ends its body.
                await generator.athrow(error)
            else:
                await anext(generator)
        except StopAsyncIteration:
            return
        raise ValueError(f"The fixture {self._name!r} yielded more than one value.")

    async def _tear_down(self) -> None:
        self._over.set()
        await self._task


def open_descriptors() -> set[int]:
    """Return the descriptors that are open in this process; none where that cannot be told."""
    folder = _descriptor_folder()
    found = set()
    for name in os.listdir(folder) if folder is not None else ():
        try:
            os.fstat(int(name))
        except OSError:
            continue  # It was that of the listing.
        found.add(int(name))
    return found


@functools.cache
def _descriptor_folder() -> str | None:
    folders = ("/proc/self/fd", "/dev/fd")
    return next((folder for folder in folders if os.path.isdir(folder)), None)


def _describe_descriptors(before: set[int]) -> list[str]:
    """Describe the open descriptors that are not among those of ``before``."""
    found = []
    for descriptor in sorted(open_descriptors() - before):
        try:
            target = f" -> {os.readlink(f'{_descriptor_folder()}/{descriptor}')}"
        except OSError:
            target = ""
        found.append(f"descriptor {descriptor}{target}")
    return found

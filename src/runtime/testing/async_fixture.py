"""Asynchronous fixtures that yield: one half runs before a test, and the other half after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

from runtime.kernel.api.running import current_task, get_running_loop
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Future, Task
from runtime.sync.locks import Event
from runtime.sync.waiting import FIRST_COMPLETED, wait
from runtime.testing.scoped_loop import Scope

T = TypeVar("T")


class AsyncFixture(Generic[T]):
    """A fixture that yields once, and is set up and torn down in the same task.

    Because it is the same task, the fixture may have a task group or a timeout around its
    ``yield``. ``name`` is the name of the fixture, for messages.
    """

    def __init__(self, scope: Scope, generator: AsyncGenerator[T, None], name: str) -> None:
        self._scope = scope
        self._generator = generator
        self._name = name
        self._over = Event()
        self._task: Task[None]

    def set_up(self) -> T:
        """Run the fixture up to its ``yield``; return the value that it yields."""
        __tracebackhide__ = True
        return self._scope.set_up(self._set_up())

    def tear_down(self) -> None:
        """Run the rest of the fixture."""
        __tracebackhide__ = True
        self._scope.run(self._tear_down())

    async def _set_up(self) -> T:
        loop = get_running_loop()
        here = current_task()
        assert here is not None
        value: Future[T] = loop.create_future()
        # In the context of the test itself, so that the test sees the variables that the fixture
        # sets.
        self._task = loop.create_task(
            self._drive(value), context=here.get_context(), name=f"fixture {self._name}"
        )
        self._scope.fixtures.add(self._task)
        either: list[Future[Any]] = [self._task, value]
        try:
            await wait(either, return_when=FIRST_COMPLETED)
        except CancelledError:
            # The loop was left while the fixture was being set up. Cancel its task as well: the
            # traceback then shows where the fixture was.
            self._task.cancel()
            await self._task
            raise
        if not value.done():
            await self._task
        return value.result()

    async def _drive(self, value: Future[T]) -> None:
        generator = self._generator
        try:
            value.set_result(await anext(generator))
        except StopAsyncIteration:
            raise ValueError(f"the fixture {self._name!r} did not yield a value") from None
        try:
            try:
                await self._over.wait()
            except BaseException as error:
                # A task group around the yield has cancelled its body, that is, this task.
                await generator.athrow(error)
            else:
                await anext(generator)
        except StopAsyncIteration:
            return
        raise ValueError(f"the fixture {self._name!r} yielded more than one value")

    async def _tear_down(self) -> None:
        self._over.set()
        await self._task

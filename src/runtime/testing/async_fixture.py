"""A fixture that is a coroutine, half of which runs before a test and half of it after."""

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
    """A fixture that yields once: set up, and later torn down, in one and the same task.

    So a task group or a timeout may stand around its ``yield``.
    """

    def __init__(self, scope: Scope, generator: AsyncGenerator[T, None], name: str) -> None:
        self._scope = scope
        self._generator = generator
        self._name = name
        self._over = Event()
        self._task: Task[None]

    def set_up(self) -> T:
        """Run it up to its ``yield``; return what it yields."""
        __tracebackhide__ = True
        return self._scope.set_up(self._set_up())

    def tear_down(self) -> None:
        """Run the rest of it."""
        __tracebackhide__ = True
        self._scope.run(self._tear_down())

    async def _set_up(self) -> T:
        loop = get_running_loop()
        here = current_task()
        assert here is not None
        value: Future[T] = loop.create_future()
        # In the very context of the test, which is to see the variables that it sets.
        self._task = loop.create_task(
            self._drive(value), context=here.get_context(), name=f"fixture {self._name}"
        )
        self._scope.fixtures.add(self._task)
        either: list[Future[Any]] = [self._task, value]
        try:
            await wait(either, return_when=FIRST_COMPLETED)
        except CancelledError:
            # The loop was left under it. The fixture ends as well, and tells where it was.
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

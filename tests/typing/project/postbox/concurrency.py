"""Generic helpers, whose argument types determine their result types."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

import runtime

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


async def map_limited(
    function: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int
) -> list[R]:
    """Call ``function`` for each item, ``limit`` at a time; return the results in order."""
    slots = runtime.Semaphore(limit)

    async def one(item: T) -> R:
        async with slots:
            return await function(item)

    async with runtime.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


async def first_of(*coroutines: Coroutine[object, object, T]) -> T:
    """Return the result of the first coroutine to end; cancel the others."""
    tasks = {runtime.create_task(coroutine) for coroutine in coroutines}
    try:
        done, _ = await runtime.wait(tasks, return_when=runtime.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()


def retrying(
    times: int, error: type[Exception]
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[object, object, R]]]:
    """Make a coroutine function that is retried after ``error``."""

    def decorate(
        function: Callable[P, Awaitable[R]],
    ) -> Callable[P, Coroutine[object, object, R]]:
        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for _ in range(times - 1):
                try:
                    return await function(*args, **kwargs)
                except error:
                    await runtime.sleep(0)
            return await function(*args, **kwargs)

        return call

    return decorate


class Batcher(Generic[T, R]):
    """Collects questions until no more arrive, and answers all of them at once."""

    def __init__(self, answer: Callable[[list[T]], list[R]]) -> None:
        self._answer = answer
        self._questions: runtime.Queue[tuple[T, runtime.Future[R]]] = runtime.Queue()
        self._task: runtime.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = runtime.create_task(self._work())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._questions.shutdown()
        if self._task is not None:
            await self._task

    async def ask(self, question: T) -> R:
        """Return the answer to one question."""
        answer: runtime.Future[R] = runtime.get_running_loop().create_future()
        await self._questions.put((question, answer))
        return await answer

    async def _work(self) -> None:
        while True:
            try:
                batch = [await self._questions.get()]
            except runtime.QueueShutDown:
                return
            while not self._questions.empty():
                batch.append(self._questions.get_nowait())
            answers = self._answer([question for question, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)

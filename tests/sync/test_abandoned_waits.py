"""Abandoned waits: no result is lost, and no exception is reported twice.

If a shield is cancelled, only the inner future reports its exception, and only if the exception is
never retrieved. If a step of ``as_completed()`` is cancelled, the next step takes its place.

Source: python/cpython#156321 and #158004.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

import runtime
from tests.support.asyncio_reference import MakeLoop, run, unless_faulty
from tests.support.blocked import all_tasks_blocked


def apis(*, since: tuple[int, int] = (3, 11)) -> pytest.MarkDecorator:
    """Run a test with ``make_loop`` and ``api``, a module with asyncio's functions."""
    works: dict[str, Any] = {} if sys.version_info >= since else {"works": False}
    loops = {"asyncio": asyncio.SelectorEventLoop, "asyncio_on_runtime": runtime.new_event_loop}
    return pytest.mark.parametrize(
        ("make_loop", "api"),
        [
            *(unless_faulty(loop, asyncio, name=name, **works) for name, loop in loops.items()),
            pytest.param(runtime.new_event_loop, runtime, id="runtime"),
        ],
    )


def collect_reports() -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


# -- Shields ---------------------------------------------------------------------------------------


class Shielded:
    """A future that will fail, or a task that waits for such a future."""

    def __init__(self, api: Any, kind: str) -> None:
        self.error = LookupError("expected")
        self._gate = asyncio.get_running_loop().create_future()
        self.inner = self._gate if kind == "future" else api.create_task(wait_for_it(self._gate))

    def fail(self) -> None:
        """Make the future fail: a task then fails in the next turn."""
        self._gate.set_exception(self.error)

    def reported(self, reports: list[dict[str, Any]]) -> list[object]:
        """Drop all references; return the exceptions reported so far."""
        del self.inner, self._gate
        gc.collect()
        return [report["exception"] for report in reports]


async def wait_for_it(future: Any) -> None:
    await future


kinds = pytest.mark.parametrize("kind", ["future", "task"])


@apis()
@kinds
@pytest.mark.parametrize("by", ["exception", "await", "another shield"])
def test_an_exception_that_is_retrieved_after_the_shield_was_cancelled_is_not_reported(
    make_loop: MakeLoop, api: Any, kind: str, by: str
) -> None:
    async def main() -> None:
        reports = collect_reports()
        shielded = Shielded(api, kind)
        outer = api.shield(shielded.inner)
        await all_tasks_blocked()
        outer.cancel()
        await all_tasks_blocked()
        shielded.fail()
        await all_tasks_blocked()
        assert reports == []
        if by == "exception":
            assert shielded.inner.exception() is shielded.error
        else:
            with pytest.raises(LookupError, match="expected"):
                await (shielded.inner if by == "await" else api.shield(shielded.inner))
        assert shielded.reported(reports) == []

    run(make_loop, main())


@apis()
@kinds
@pytest.mark.parametrize("shields", [1, 2])
def test_an_exception_that_is_not_retrieved_is_reported_once(
    make_loop: MakeLoop, api: Any, kind: str, shields: int
) -> None:
    async def main() -> None:
        reports = collect_reports()
        shielded = Shielded(api, kind)
        for _ in range(shields):
            outer = api.shield(shielded.inner)
            await all_tasks_blocked()
            outer.cancel()
            await all_tasks_blocked()
        shielded.fail()
        await all_tasks_blocked()
        assert reports == []
        error = shielded.error
        assert shielded.reported(reports) == [error]
        assert reports[0]["message"].endswith("exception was never retrieved")

    run(make_loop, main())


@apis()
@kinds
@pytest.mark.parametrize("first", ["failure", "cancellation"])
@pytest.mark.parametrize("retrieved", [False, True])
def test_a_shield_that_is_cancelled_in_the_turn_of_the_failure(
    make_loop: MakeLoop, api: Any, kind: str, first: str, retrieved: bool
) -> None:
    async def main() -> None:
        reports = collect_reports()
        shielded = Shielded(api, kind)
        outer = api.shield(shielded.inner)
        await all_tasks_blocked()
        if first == "failure":
            shielded.fail()
            if kind == "task":
                # The task ends in this turn, and calls back in the next one.
                await asyncio.sleep(0)
        outer.cancel()
        if first == "cancellation":
            shielded.fail()
        await all_tasks_blocked()
        assert outer.cancelled()
        if retrieved:
            assert shielded.inner.exception() is shielded.error
        error = shielded.error
        assert shielded.reported(reports) == ([] if retrieved else [error])

    run(make_loop, main())


@apis()
@kinds
def test_a_shield_that_is_awaited_gives_the_exception_to_its_task(
    make_loop: MakeLoop, api: Any, kind: str
) -> None:
    async def main() -> None:
        reports = collect_reports()
        shielded = Shielded(api, kind)

        async def wait() -> None:
            await api.shield(shielded.inner)

        given_up, waiting = api.create_task(wait()), api.create_task(wait())
        await all_tasks_blocked()
        given_up.cancel()
        shielded.fail()
        await all_tasks_blocked()
        assert given_up.cancelled()
        assert waiting.exception() is shielded.error
        assert shielded.reported(reports) == []

    run(make_loop, main())


# -- as_completed ----------------------------------------------------------------------------------


class Gates:
    """Futures that end one by one, in order, with their numbers as results."""

    def __init__(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        self.futures = [loop.create_future() for _ in range(count)]
        self._ended = 0

    def end_next(self) -> None:
        self.futures[self._ended].set_result(self._ended)
        self._ended += 1

    def end_all(self) -> None:
        while self._ended < len(self.futures):
            self.end_next()


def step_of(iterator: Any, form: str) -> Coroutine[Any, Any, Any]:
    """Return the next step of a plain or an asynchronous iteration as a coroutine."""
    if form == "for":
        step: Coroutine[Any, Any, Any] = next(iterator)
        return step

    async def step_of_async_for() -> Any:
        return (await anext(iterator)).result()

    return step_of_async_for()


async def left_in(iterator: Any, form: str) -> list[Any]:
    """Return the results of the remaining steps, with the types of exceptions for failures."""
    given: list[Any] = []
    while len(given) < 10:  # more steps than any of these tests has
        try:
            step = asyncio.ensure_future(step_of(iterator, form))
        except StopIteration:
            break
        done, _ = await asyncio.wait([step], timeout=10)
        assert done, "a step waits, although nothing is left to wait for"
        if step.cancelled():
            given.append(asyncio.CancelledError)
            continue
        error = step.exception()
        if isinstance(error, StopAsyncIteration):
            break
        given.append(step.result() if error is None else type(error))
    return given


forms = pytest.mark.parametrize(
    ("make_loop", "api", "form"),
    [
        pytest.param(*case.values, form, id=f"{case.id}-{form}", marks=case.marks)
        for form, since in (("for", (3, 11)), ("async for", (3, 13)))
        for case in apis(since=since).args[1]
    ],
)


@forms
@pytest.mark.parametrize(
    ("moment", "times"),
    [("waiting", 1), ("waiting", 3), ("woken", 1), ("closed", 1), ("closed", 3)],
)
def test_a_step_that_is_cancelled_takes_nothing(
    make_loop: MakeLoop, api: Any, form: str, moment: str, times: int
) -> None:
    async def main() -> None:
        gates = Gates(4)
        iterator = api.as_completed(gates.futures)
        for _ in range(times):
            if moment == "closed":
                coro = step_of(iterator, form)
                coro.send(None)
                coro.close()
                continue
            step = api.create_task(step_of(iterator, form))
            await all_tasks_blocked()
            if moment == "woken":
                gates.end_next()
                await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
        gates.end_all()
        assert await left_in(iterator, form) == [0, 1, 2, 3]

    run(make_loop, main())


@forms
def test_a_step_that_times_out_takes_nothing(make_loop: MakeLoop, api: Any, form: str) -> None:
    async def main() -> None:
        gates = Gates(3)
        iterator = api.as_completed(gates.futures)
        given = []
        for _ in range(3):
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await api.wait_for(step_of(iterator, form), 0.001)
            gates.end_next()
            given.append(await step_of(iterator, form))
        assert given == [0, 1, 2]
        assert await left_in(iterator, form) == []

    run(make_loop, main())


@forms
@pytest.mark.parametrize("moment", ["waiting", "closed"])
def test_one_of_several_steps_is_cancelled(
    make_loop: MakeLoop, api: Any, form: str, moment: str
) -> None:
    async def main() -> None:
        gates = Gates(3)
        iterator = api.as_completed(gates.futures)
        first: Any
        if moment == "closed":
            first = step_of(iterator, form)
            first.send(None)
        else:
            first = api.create_task(step_of(iterator, form))
        await all_tasks_blocked()
        steps = [api.create_task(step_of(iterator, form)) for _ in range(2)]
        await all_tasks_blocked()
        if moment == "closed":
            first.close()
        else:
            first.cancel()
        await all_tasks_blocked()
        gates.end_next()
        gates.end_next()
        done, _ = await asyncio.wait(steps, timeout=10)
        assert sorted(step.result() for step in done) == [0, 1]
        gates.end_next()
        assert await left_in(iterator, form) == [2]

    run(make_loop, main())


@forms
def test_a_step_that_is_cancelled_before_the_timeout_is_timed_out_by_the_next(
    make_loop: MakeLoop, api: Any, form: str
) -> None:
    async def main() -> None:
        gates = Gates(3)
        iterator = api.as_completed(gates.futures, timeout=0.01)
        step = api.create_task(step_of(iterator, form))
        await all_tasks_blocked()
        step.cancel()
        await all_tasks_blocked()
        gates.end_next()
        given = await left_in(iterator, form)
        if not step.cancelled():
            given.insert(0, type(step.exception()))  # the machine was too slow for the deadline
        assert given in ([0, TimeoutError, TimeoutError], [TimeoutError] * 3)

    run(make_loop, main())


@forms
def test_a_failed_and_a_cancelled_future_are_handed_out_once(
    make_loop: MakeLoop, api: Any, form: str
) -> None:
    async def main() -> None:
        gates = Gates(4)
        iterator = api.as_completed(gates.futures)
        gates.futures[1].set_exception(LookupError("expected"))
        gates.futures[2].cancel()
        await all_tasks_blocked()
        gates.end_next()
        await all_tasks_blocked()
        gates.futures[3].set_result(3)
        given = await left_in(iterator, form)
        assert given == [LookupError, asyncio.CancelledError, 0, 3]
        assert await left_in(iterator, form) == []

    run(make_loop, main())

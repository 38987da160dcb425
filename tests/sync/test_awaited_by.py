"""Tasks that wait for a future: the call graph shows them during the wait, and not afterwards.

``_asyncio_awaited_by``, which asyncio has since Python 3.14, names the waiters of a future. A
waiter may be another future, such as that of ``gather()``, which a task waits for in turn.
Therefore the tests follow the chain to its end.

Source: python/cpython#152569, #155143, #156523, #157058, #157213 and #158239; "Call graph
introspection" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime
from tests.support.asyncio_reference import FIXED, MakeLoop, run, unless_faulty
from tests.support.blocked import all_tasks_blocked


def apis(*, reference: bool = True, on_ours: bool = True) -> pytest.MarkDecorator:
    """Run a test with ``make_loop`` and ``api``: a module with asyncio's functions.

    asyncio's functions run on its own loop, unless ``reference`` is False, and on runtime's.
    """
    cases = [pytest.param(runtime.new_event_loop, runtime, id="runtime")]
    works = FIXED and sys.version_info >= (3, 14)
    if on_ours:
        loop = runtime.new_event_loop
        cases.append(unless_faulty(loop, asyncio, name="asyncio_on_runtime", works=works))
    if reference:
        own = asyncio.SelectorEventLoop
        cases.append(unless_faulty(own, asyncio, name="asyncio", works=works))
    return pytest.mark.parametrize(("make_loop", "api"), cases)


def awaiters(future: Any) -> set[Any]:
    """Return the futures and tasks that wait for ``future``, directly or through other futures."""
    found: set[Any] = set()
    left = [future]
    while left:
        waiting = getattr(left.pop(), "_asyncio_awaited_by", None) or set()
        left += waiting - found
        found |= waiting
    return found


def in_call_graph(future: Any) -> set[Any]:
    """Return the same set from asyncio's call graph; check that the graph can be printed."""
    call_graph: Any = asyncio
    if not hasattr(call_graph, "capture_call_graph"):
        return awaiters(future)
    found: set[Any] = set()
    left = [call_graph.capture_call_graph(future)]
    while left:
        for graph in left.pop().awaited_by:
            found.add(graph.future)
            left.append(graph)
    text = io.StringIO()
    call_graph.print_call_graph(future, file=text)
    for each in found:
        if hasattr(each, "get_name"):
            assert f"name={each.get_name()!r}" in text.getvalue()
    return found


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def ended(task: Any) -> None:
    """Wait for the end of ``task`` without awaiting the task itself."""
    async with asyncio.timeout(30):
        while not task.done():
            await asyncio.sleep(0)
    if not task.cancelled():
        task.exception()
    await all_tasks_blocked()


class Pair:
    """Two tasks, each of which ends when its gate is opened."""

    def __init__(self, api: Any) -> None:
        loop = asyncio.get_running_loop()
        self.gates = [loop.create_future(), loop.create_future()]
        self.child, self.other = (
            api.create_task(self._pass(gate), name=name)
            for gate, name in zip(self.gates, ("child", "other"), strict=True)
        )

    @staticmethod
    async def _pass(gate: Any) -> Any:
        return await gate

    async def end(self) -> None:
        """Open the gates that are still closed."""
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)
        await ended(self.child)
        await ended(self.other)


# -- Each way of waiting ---------------------------------------------------------------------------

Way = Callable[[Any, Any, Any], Coroutine[Any, Any, object]]
"""Waits for two tasks, with the functions of a module."""


async def by_await(_api: Any, child: Any, other: Any) -> None:
    await child
    await other


async def by_wait(api: Any, child: Any, other: Any) -> None:
    await api.wait([child, other])


async def by_wait_with_timeout(api: Any, child: Any, other: Any) -> None:
    await api.wait([child, other], timeout=3600)


async def by_wait_for(api: Any, child: Any, other: Any) -> None:
    await api.wait_for(child, 3600)
    await api.wait_for(other, None)


async def by_timeout(api: Any, child: Any, other: Any) -> None:
    async with api.timeout(3600):
        await child
        await other


async def by_shield(api: Any, child: Any, other: Any) -> None:
    await api.shield(child)
    await api.shield(other)


async def by_gather(api: Any, child: Any, other: Any) -> None:
    await api.gather(child, other)


async def by_gather_with_exceptions(api: Any, child: Any, other: Any) -> None:
    await api.gather(child, other, return_exceptions=True)


async def by_as_completed(api: Any, child: Any, other: Any) -> None:
    for each in api.as_completed([child, other]):
        await each


async def by_as_completed_with_timeout(api: Any, child: Any, other: Any) -> None:
    for each in api.as_completed([child, other], timeout=3600):
        await each


async def by_async_for(api: Any, child: Any, other: Any) -> None:
    async for each in api.as_completed([child, other]):
        await each


async def by_gather_of_shields(api: Any, child: Any, other: Any) -> None:
    await api.gather(api.shield(child), api.shield(other))


async def by_wait_for_of_gather(api: Any, child: Any, other: Any) -> None:
    await api.wait_for(api.gather(child, other), 3600)


async def by_shield_of_wait(api: Any, child: Any, other: Any) -> None:
    await api.shield(api.wait([child, other]))


WAYS: list[Way] = [
    by_await,
    by_wait,
    by_wait_with_timeout,
    by_wait_for,
    by_timeout,
    by_shield,
    by_gather,
    by_gather_with_exceptions,
    by_as_completed,
    by_as_completed_with_timeout,
    by_async_for,
    by_gather_of_shields,
    by_wait_for_of_gather,
    by_shield_of_wait,
]

each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@apis()
@each_way
def test_a_task_is_shown_while_it_waits_and_not_after_that(
    make_loop: MakeLoop, api: Any, way: Way
) -> None:
    async def main() -> None:
        pair = Pair(api)
        waiter = api.create_task(way(api, pair.child, pair.other), name="waiter")
        bystander = api.create_task(asyncio.sleep(3600), name="bystander")
        await all_tasks_blocked()
        assert waiter in awaiters(pair.child)
        assert waiter in in_call_graph(pair.child)
        pair.gates[0].set_result(None)
        await all_tasks_blocked()
        assert not awaiters(pair.child)
        assert waiter in awaiters(pair.other)
        assert waiter in in_call_graph(pair.other)
        assert bystander not in awaiters(pair.other)
        pair.gates[1].set_result(None)
        await ended(waiter)
        assert not awaiters(pair.child)
        assert not awaiters(pair.other)
        assert waiter.exception() is None
        bystander.cancel()
        await ended(bystander)

    run(make_loop, main())


@apis()
@each_way
def test_each_of_several_that_wait_is_shown(make_loop: MakeLoop, api: Any, way: Way) -> None:
    async def main() -> None:
        pair = Pair(api)
        waiters = {
            api.create_task(way(api, pair.child, pair.other), name=f"waiter {number}")
            for number in range(3)
        }
        chained = api.create_task(by_await(api, next(iter(waiters)), pair.other), name="chained")
        await all_tasks_blocked()
        assert waiters | {chained} <= awaiters(pair.child)
        assert waiters | {chained} <= in_call_graph(pair.child)
        await pair.end()
        for each in (*waiters, chained):
            await ended(each)
            assert not awaiters(each)

    run(make_loop, main())


@apis()
@each_way
@pytest.mark.parametrize("how", ["returned", "failed"])
def test_a_task_that_has_ended_is_not_kept_by_its_waiter(
    make_loop: MakeLoop, api: Any, way: Way, how: str
) -> None:
    async def wait_and_go_on(tasks: list[Any], gate: Any) -> None:
        try:
            await way(api, tasks.pop(), tasks.pop())
        except LookupError:
            pass
        await gate

    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        pair = Pair(api)
        references = [weakref.ref(pair.child), weakref.ref(pair.other)]
        waiter = api.create_task(wait_and_go_on([pair.other, pair.child], gate))
        await all_tasks_blocked()
        if how == "failed":
            pair.gates[1].set_exception(LookupError("expected"))
            pair.gates[0].set_exception(LookupError("expected"))
        await pair.end()
        await all_tasks_blocked()
        del pair
        gc.collect()
        assert [reference() for reference in references] == [None, None]
        assert not waiter.done()
        gate.set_result(None)
        await ended(waiter)

    run(make_loop, main())


# -- wait_for() with an expired timeout ------------------------------------------------------------


@apis()
@pytest.mark.parametrize("outcome", ["cancelled", "returned", "failed", "waiter cancelled"])
def test_wait_for_without_time_is_shown_while_it_waits_for_the_clean_up(
    make_loop: MakeLoop, api: Any, outcome: str
) -> None:
    async def clean_up(gate: Any) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await gate
            if outcome == "cancelled":
                raise
        return "all the same"

    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        child = api.create_task(clean_up(gate))
        await all_tasks_blocked()
        waiter = api.create_task(api.wait_for(child, 0), name="waiter")
        await all_tasks_blocked()
        assert waiter in awaiters(child)
        assert waiter in in_call_graph(child)
        if outcome == "waiter cancelled":
            waiter.cancel()
            await ended(waiter)
            assert not awaiters(child)
            assert not child.done()
        if outcome == "failed":
            gate.set_exception(LookupError("expected"))
        else:
            gate.set_result(None)
        await ended(child)
        await ended(waiter)
        assert not awaiters(child)

    run(make_loop, main())


# -- Task groups -----------------------------------------------------------------------------------


@apis()
@pytest.mark.parametrize("outcome", ["returned", "failed", "sibling failed", "parent cancelled"])
def test_the_parent_of_a_group_is_shown_until_its_tasks_have_ended(
    make_loop: MakeLoop, api: Any, outcome: str
) -> None:
    async def in_a_group(gates: list[Any], tasks: list[Any]) -> None:
        async with api.TaskGroup() as group:
            tasks += [group.create_task(by_await(api, gate, gate)) for gate in gates]
            await turns(3)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gates = [loop.create_future(), loop.create_future()]
        tasks: list[Any] = []
        parent = api.create_task(in_a_group(gates, tasks), name="parent")
        for _ in range(3):
            await turns(2)
            for task in tasks:
                assert awaiters(task) == {parent}
                assert in_call_graph(task) == {parent}
        if outcome == "parent cancelled":
            parent.cancel()
        elif outcome == "returned":
            gates[0].set_result(None)
            gates[1].set_result(None)
        else:
            gates[outcome == "sibling failed"].set_exception(LookupError("expected"))
        await ended(parent)
        for task in tasks:
            assert task.done()
            assert not awaiters(task)
            task.cancelled() or task.exception()

    run(make_loop, main())


# -- Waits that end before the awaited tasks -------------------------------------------------------

Wait = Callable[[Any, Pair], Coroutine[Any, Any, object]]
"""Begins to wait for a pair of tasks, the first of which outlives the wait."""


async def cancelled_wait(api: Any, pair: Pair) -> None:
    await cancel_soon(api, by_wait(api, pair.child, pair.other))


async def cancelled_shield(api: Any, pair: Pair) -> None:
    await cancel_soon(api, by_shield(api, pair.child, pair.other))


async def cancelled_gather_of_shields(api: Any, pair: Pair) -> None:
    await cancel_soon(api, by_gather_of_shields(api, pair.child, pair.other))


async def cancelled_as_completed(api: Any, pair: Pair) -> None:
    await cancel_soon(api, by_as_completed(api, pair.child, pair.other))


async def cancelled_async_for(api: Any, pair: Pair) -> None:
    await cancel_soon(api, by_async_for(api, pair.child, pair.other))


async def cancel_soon(api: Any, coro: Coroutine[Any, Any, object]) -> None:
    """Run ``coro``, and cancel the running task some turns later."""
    task = api.current_task()

    def cancel_after(number: int) -> None:
        if number:
            asyncio.get_running_loop().call_soon(cancel_after, number - 1)
        else:
            task.cancel()

    cancel_after(4)
    await coro


async def wait_that_times_out(api: Any, pair: Pair) -> None:
    await api.wait([pair.child, pair.other], timeout=0.001)


async def as_completed_that_times_out(api: Any, pair: Pair) -> None:
    for each in api.as_completed([pair.child, pair.other], timeout=0.001):
        await each


async def wait_for_that_times_out(api: Any, pair: Pair) -> None:
    await api.wait_for(api.shield(pair.child), 0.001)


async def timeout_around_a_shield(api: Any, pair: Pair) -> None:
    async with api.timeout(0.001):
        await api.shield(pair.child)


async def wait_for_the_first(api: Any, pair: Pair) -> None:
    pair.gates[1].set_result(None)
    await api.wait([pair.child, pair.other], return_when=api.FIRST_COMPLETED)


async def wait_for_the_first_exception(api: Any, pair: Pair) -> None:
    pair.gates[1].set_exception(LookupError("expected"))
    await api.wait([pair.child, pair.other], return_when=api.FIRST_EXCEPTION)


async def gather_with_a_failing_sibling(api: Any, pair: Pair) -> None:
    pair.gates[1].set_exception(LookupError("expected"))
    await api.gather(pair.child, pair.other)


async def gather_with_a_cancelled_sibling(api: Any, pair: Pair) -> None:
    pair.other.cancel()
    await api.gather(pair.child, pair.other)


async def shield_that_is_cancelled(api: Any, pair: Pair) -> None:
    outer = api.shield(pair.child)
    asyncio.get_running_loop().call_later(0.001, outer.cancel)
    await outer


TIMED: list[Wait] = [
    wait_that_times_out,
    as_completed_that_times_out,
    wait_for_that_times_out,
    timeout_around_a_shield,
    shield_that_is_cancelled,
]
OUTLIVED: list[Wait] = [
    *TIMED,
    cancelled_wait,
    cancelled_shield,
    cancelled_gather_of_shields,
    wait_for_the_first,
    wait_for_the_first_exception,
    gather_with_a_failing_sibling,
    gather_with_a_cancelled_sibling,
]
OUTLIVED_AS_COMPLETED: list[Wait] = [cancelled_as_completed, cancelled_async_for]
GATHERS = (gather_with_a_failing_sibling, gather_with_a_cancelled_sibling)


async def check_that_nothing_is_left(api: Any, wait: Wait) -> None:
    """Check that a task that outlives a wait neither shows nor keeps the task that waited."""
    pair = Pair(api)
    await all_tasks_blocked()
    before = len(pair.child._callbacks or ())
    waiter = api.create_task(wait(api, pair))
    await turns(2)
    assert wait in TIMED or waiter in awaiters(pair.child)
    await ended(waiter)
    assert waiter.done()
    assert not pair.child.done()
    assert not awaiters(pair.child)
    assert not in_call_graph(pair.child)
    # gather() handles the end of each task, so that an exception is not reported.
    if wait not in (*GATHERS, *OUTLIVED_AS_COMPLETED):
        assert len(pair.child._callbacks or ()) == before
    await pair.end()
    assert not awaiters(pair.child)


@apis()
@pytest.mark.parametrize("wait", OUTLIVED, ids=lambda wait: wait.__name__)
def test_nothing_is_left_of_a_wait_that_was_outlived(
    make_loop: MakeLoop, api: Any, wait: Wait
) -> None:
    run(make_loop, check_that_nothing_is_left(api, wait))


@apis(reference=False)
@pytest.mark.parametrize("wait", OUTLIVED_AS_COMPLETED, ids=lambda wait: wait.__name__)
def test_nothing_is_left_of_an_iteration_that_was_cancelled(
    make_loop: MakeLoop, api: Any, wait: Wait
) -> None:
    """With asyncio's own loop the ended task is shown until the last task ends."""
    run(make_loop, check_that_nothing_is_left(api, wait))


async def check_that_nothing_is_kept(api: Any, wait: Wait) -> None:
    pair = Pair(api)
    references = []
    for _ in range(20):
        pair.gates[1] = asyncio.get_running_loop().create_future()
        pair.other = api.create_task(pair._pass(pair.gates[1]))
        waiter = api.create_task(wait(api, pair))
        references.append(weakref.ref(waiter))
        await ended(waiter)
        del waiter
        pair.other.cancel()
        await ended(pair.other)
    gc.collect()
    assert not pair.child.done()
    assert [reference() for reference in references] == [None] * 20
    await pair.end()


@apis()
@pytest.mark.parametrize(
    "wait", [wait for wait in OUTLIVED if wait not in GATHERS], ids=lambda wait: wait.__name__
)
def test_no_task_that_waited_is_kept(make_loop: MakeLoop, api: Any, wait: Wait) -> None:
    run(make_loop, check_that_nothing_is_kept(api, wait))


@apis(reference=False, on_ours=False)
@pytest.mark.parametrize("wait", [*GATHERS, *OUTLIVED_AS_COMPLETED], ids=lambda wait: wait.__name__)
def test_no_task_that_gathered_or_iterated_is_kept(
    make_loop: MakeLoop, api: Any, wait: Wait
) -> None:
    """The callbacks of asyncio's own functions keep the task until the outliving task ends."""
    run(make_loop, check_that_nothing_is_kept(api, wait))


@apis()
def test_gather_adds_no_callback_to_the_future_that_it_returns(
    make_loop: MakeLoop, api: Any
) -> None:
    async def main() -> None:
        gate = asyncio.get_running_loop().create_future()
        outer = api.gather(api.create_task(by_await(api, gate, gate)))
        await all_tasks_blocked()
        assert not outer._callbacks
        gate.set_result(None)
        await outer

    run(make_loop, main())

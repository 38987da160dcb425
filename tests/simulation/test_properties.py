"""What programs say to the simulation: choices, conditions and cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import runtime
from runtime import simulation


def test_choices_are_explored() -> None:
    async def main() -> None:
        kind = simulation.choice(["usual", "rare", "rarest"])
        number = simulation.integer(3)
        happens = simulation.chance(0.5)
        assert (kind, number, happens) != ("rarest", 2, True)

    found = simulation.explore(main, runs=500, strategy="random", check=False)
    assert found.failure is not None
    assert found.failure.deviations == 3
    assert simulation.explore(main, strategy=simulation.exhaustive(2), runs=500).complete


def test_the_usual_choices_come_first() -> None:
    async def main() -> tuple[str, int, bool]:
        return simulation.choice("ab"), simulation.integer(7), simulation.chance(0.9)

    assert simulation.run(main) == ("a", 0, False)


@pytest.mark.parametrize(
    "call",
    [
        lambda: simulation.choice("ab"),
        lambda: simulation.integer(2),
        lambda: simulation.chance(0.5),
        lambda: simulation.invariant(bool),
    ],
)
def test_choices_need_a_run(call: object) -> None:
    with pytest.raises(RuntimeError, match="in a simulated run"):
        call()  # type: ignore[operator]


def test_no_options_are_refused() -> None:
    async def main() -> None:
        simulation.choice([])

    with pytest.raises(ValueError, match="at least one"):
        simulation.run(main)


@pytest.mark.parametrize(
    "call",
    [
        lambda: simulation.integer(2, label=3),  # type: ignore[arg-type]
        lambda: simulation.chance(0.5, label=None),  # type: ignore[arg-type]
        lambda: simulation.choice("ab", label=b"kind"),  # type: ignore[arg-type]
        lambda: simulation.choice("ab", label="two\0kinds"),
        lambda: simulation.choice("ab", label="\udc80"),
        lambda: simulation.choice({"a": 1}),  # type: ignore[arg-type]
        lambda: simulation.choice({"a", "b"}),  # type: ignore[arg-type]
        lambda: simulation.choice(3),  # type: ignore[arg-type]
    ],
)
def test_wrong_labels_and_options_are_refused(call: Callable[[], object]) -> None:
    async def main() -> None:
        call()

    with pytest.raises((TypeError, ValueError), match=r"label must be|expected a sequence"):
        simulation.run(main)


def test_an_invariant_that_is_a_coroutine_function_is_refused() -> None:
    async def check() -> bool:
        return False

    async def main() -> None:
        simulation.invariant(check)

    with pytest.raises(TypeError, match="not async"):
        simulation.run(main)


def test_an_invariant_is_checked_after_every_step() -> None:
    async def main() -> None:
        total = [5, 5]
        simulation.invariant(lambda: sum(total) == 10, "the total stays")
        await runtime.sleep(0)
        total[0] -= 1
        await runtime.sleep(0)
        total[1] += 1

    with pytest.raises(simulation.InvariantError, match="the total stays"):
        simulation.run(main)


class NotTrue:
    """A false value of another type than bool, such as comparisons of arrays return."""

    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize(("value", "holds"), [(NotTrue(), False), (0, False), (None, True)])
def test_an_invariant_fails_at_every_false_value_but_none(value: object, holds: bool) -> None:
    async def main() -> None:
        simulation.invariant(lambda: value, "it holds")
        await runtime.sleep(0)

    if holds:
        simulation.run(main)
    else:
        with pytest.raises(simulation.InvariantError, match="it holds"):
            simulation.run(main)


def test_an_invariant_that_returns_a_coroutine_is_refused() -> None:
    async def check() -> bool:
        return True

    async def main() -> None:
        simulation.invariant(lambda: check(), "it holds")
        await runtime.sleep(0)

    with pytest.raises(TypeError, match="'it holds' must return a value, got <coroutine object"):
        simulation.run(main)


def test_an_invariant_may_raise() -> None:
    async def main() -> None:
        def check() -> None:
            raise LookupError("broken")

        simulation.invariant(check)
        await runtime.sleep(0)

    with pytest.raises(LookupError, match="broken"):
        simulation.run(main)


def test_labels_that_were_never_reached_are_listed() -> None:
    async def main() -> None:
        simulation.sometimes(simulation.integer(2) == 1, "one")
        simulation.sometimes(False, "never")
        simulation.always(True, "fine")

    found = simulation.explore(main, runs=20)
    assert found.never_reached == ["never"]
    assert "never reached: never" in str(found)


def test_a_condition_that_does_not_always_hold_fails() -> None:
    async def main() -> None:
        simulation.always(simulation.integer(2) == 0, "zero")

    with pytest.raises(simulation.InvariantError, match="zero"):
        simulation.explore(main, runs=20)


async def test_outside_of_a_run_conditions_do_nothing() -> None:
    simulation.sometimes(False, "x")
    simulation.always(False, "x")
    simulation.cancel_anywhere()
    async with simulation.maybe_timeout(5) as entered:
        await runtime.sleep(0)
    assert not entered.expired()


async def take(lock: runtime.Lock, *, safe: bool) -> None:
    simulation.cancel_anywhere()
    await lock.acquire()
    if safe:
        try:
            await runtime.sleep(1)
        finally:
            lock.release()
    else:
        await runtime.sleep(1)
        lock.release()


@pytest.mark.parametrize("safe", [True, False])
def test_a_leak_at_a_cancellation_is_found(safe: bool) -> None:
    async def main() -> None:
        lock = runtime.Lock()
        await asyncio.gather(take(lock, safe=safe), return_exceptions=True)
        assert not lock.locked()

    found = simulation.explore(main, runs=100, check=False)
    assert (found.failure is None) is safe
    if found.failure is not None:
        assert found.failure.deviations == 1
        assert "is cancelled here" in str(found.failure.report)


def test_a_task_may_be_cancelled_when_its_result_is_there_already() -> None:
    async def main() -> None:
        queue: runtime.Queue[int] = runtime.Queue()
        taken: list[int] = []

        async def get() -> None:
            future = runtime.get_running_loop().create_future()
            runtime.get_running_loop().call_later(1, future.set_result, 1)
            simulation.cancel_anywhere()
            taken.append(await future)

        queue.put_nowait(1)
        results = await asyncio.gather(get(), return_exceptions=True)
        cancelled = isinstance(results[0], asyncio.CancelledError)
        late = runtime.get_running_loop().time() == 1.0
        simulation.sometimes(cancelled and late, "when woken")
        simulation.sometimes(cancelled and not late, "while waiting")

    assert simulation.explore(main, runs=100).never_reached == []


def test_a_timeout_may_expire_at_any_await() -> None:
    async def main() -> None:
        steps = 0
        try:
            async with simulation.maybe_timeout(100):
                for _ in range(3):
                    await runtime.sleep(1)
                    steps += 1
        except TimeoutError:
            assert runtime.get_running_loop().time() <= 3
        for number in range(4):
            simulation.sometimes(steps == number, f"{number} steps")

    assert simulation.explore(main, runs=100).never_reached == []


def test_invalid_arguments_are_refused_at_the_call() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="probability must be a number from 0 to 1, got 2"):
            simulation.chance(2)
        with pytest.raises(TypeError, match="probability must be a number from 0 to 1, got '1'"):
            simulation.chance("1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="count must be a whole number, at least 1, got 1.5"):
            simulation.integer(1.5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="check must be a function that is not async, got 3"):
            simulation.invariant(3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="times must be a whole number, at least 1, got 0"):
            simulation.cancel_anywhere(times=0)
        with pytest.raises(TypeError, match=r"cancel_anywhere\(\) expected a task, got 3"):
            simulation.cancel_anywhere(3)

    simulation.run(main)

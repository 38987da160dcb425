"""Tests of the example with a dataflow resolver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from docs.examples.dataflow import CycleError, Namespace, NeverSetError
from tests.support.programs import ROOT, run_program


def test_output() -> None:
    done = run_program(ROOT / "docs" / "examples" / "dataflow.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        "a cycle: hen needs egg needs hen",
        "area is 18",
        "colour: report waits, and no coroutine can set it",
        "refused: 'not a name' is not a name",
        "width is 6",
    ]


def sum_of(*needed: str) -> Callable[[Namespace], Awaitable[int]]:
    async def compute(names: Namespace) -> int:
        values: list[int] = [await names.get(name) for name in needed]
        return 1 + sum(values)

    return compute


def errors(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return list(group.exceptions)


@pytest.mark.parametrize("order", ["abc", "bca", "cba"])
def test_the_order_of_definitions_does_not_matter(order: str) -> None:
    needs = {"a": (), "b": ("a",), "c": ("a", "b")}

    async def main() -> dict[str, int]:
        async with Namespace() as names:
            for name in order:
                names.define(name, sum_of(*needs[name]))
            return {name: await names.get(name) for name in "abc"}

    assert runtime.run(main()) == {"a": 1, "b": 2, "c": 4}


async def test_several_wait_for_one_name() -> None:
    seen: list[object] = []

    async def read(names: Namespace) -> None:
        seen.append(await names.get("x"))

    async with Namespace() as names:
        for _ in range(3):
            names.start(read(names))
        await runtime.sleep(0)
        assert seen == []
        names.set("x", 5)
    assert seen == [5, 5, 5]


async def test_a_wait_that_is_cancelled_leaves_the_others_waiting() -> None:
    async with Namespace() as names:
        one, other = names.start(names.get("x")), names.start(names.get("x"))
        await runtime.sleep(0)
        one.cancel()
        await runtime.sleep(0)
        assert one.done()
        names.set("x", 5)
    assert await other == 5


@pytest.mark.parametrize("names_of_it", ["x", "xy", "xyz"])
def test_a_cycle_of_definitions_is_reported(names_of_it: str) -> None:
    async def main() -> None:
        async with Namespace() as names:
            for name, needed in zip(names_of_it, names_of_it[1:] + names_of_it[0], strict=True):
                names.define(name, sum_of(needed))

    with pytest.raises(ExceptionGroup) as caught:
        runtime.run(main())
    (error,) = errors(caught.value)
    assert isinstance(error, CycleError)
    assert set(str(error).split(" needs ")) == set(names_of_it)


def test_a_name_that_is_never_set() -> None:
    async def main() -> None:
        async with Namespace() as names:
            names.define("known", sum_of("unknown"))
            names.start(names.get("known"), name="reader")

    with pytest.raises(ExceptionGroup) as caught:
        runtime.run(main())
    assert "unknown: known waits" in str([str(error) for error in errors(caught.value)])
    assert all(isinstance(error, NeverSetError) for error in errors(caught.value))


def test_waiters_fail_when_the_last_possible_setter_has_ended() -> None:
    async def forgetful() -> None:
        await runtime.sleep(0)

    async def main() -> None:
        async with Namespace() as names:
            names.start(forgetful())
            await names.get("x")

    with pytest.raises(ExceptionGroup) as caught:
        runtime.run(main())
    assert isinstance(errors(caught.value)[0], NeverSetError)


def test_an_invalid_request_is_raised_inside_and_can_be_caught() -> None:
    async def main() -> str:
        async with Namespace() as names:
            for wrong in "two words", "", 5:
                with pytest.raises(ValueError, match="is not a name"):
                    await names.get(wrong)  # type: ignore[arg-type]
            return "went on"
        raise AssertionError

    assert runtime.run(main()) == "went on"


async def test_a_name_is_set_once() -> None:
    async with Namespace() as names:
        names.set("x", 1)
        with pytest.raises(ValueError, match="'x' is set already"):
            names.set("x", 2)
        with pytest.raises(ValueError, match="'x' is defined already"):
            names.define("x", sum_of())
        assert await names.get("x") == 1


def test_a_definition_that_fails_ends_the_others() -> None:
    async def broken(names: Namespace) -> int:
        raise ArithmeticError("broken")

    async def main() -> None:
        async with Namespace() as names:
            names.define("broken", broken)
            await names.get("broken")

    with pytest.raises(ExceptionGroup) as caught:
        runtime.run(main())
    assert any(isinstance(error, ArithmeticError) for error in errors(caught.value))

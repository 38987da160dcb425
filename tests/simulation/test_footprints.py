"""Footprints: two steps that share something are never independent, however they reach it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import io
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from logging import getLogger
from pathlib import Path
from typing import Any

import runtime
from runtime import simulation

Work = Callable[[asyncio.Event], Awaitable[None]]

number = 1
"""A global number, which the programs below double in one task, and increase in another."""


def set_number(value: int) -> None:
    global number  # noqa: PLW0603 - it is what the tasks share
    number = value


async def in_two_tasks(
    first: Work, second: Work, context: contextvars.Context | None = None
) -> None:
    """Run two tasks, whose last steps have an event of their own and are not made together."""
    events = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(call_of(work, event), context=context)
        for work, event in zip((first, second), events, strict=True)
    ]
    await runtime.sleep(1)
    for event in events:
        event.set()
    for task in tasks:
        await task


async def call_of(work: Work, event: asyncio.Event) -> None:
    await work(event)


def assert_found(main: Callable[[], Awaitable[None]]) -> None:
    """Check that a reduced search finds the order in which an assertion of ``main`` fails."""
    found = simulation.explore(
        main, strategy="reduced", order="tasks", runs=200, shrink=0, check=False
    )
    assert found.failure is not None, found
    assert isinstance(found.failure.error, AssertionError)


def hidden(function: Callable[..., Awaitable[None]]) -> Any:
    """Decorate a function so that the names of its module no longer show it."""

    class Decorated:
        def __call__(self, *args: object) -> Awaitable[None]:
            return function(*args)

    return Decorated()


@hidden
async def double_hidden(event: asyncio.Event) -> None:
    global hidden_number  # noqa: PLW0603 - it is what the tasks share
    await runtime.sleep(0)
    hidden_number *= 2
    await event.wait()


@hidden
async def increase_hidden(event: asyncio.Event) -> None:
    global hidden_number  # noqa: PLW0603 - it is what the tasks share
    await runtime.sleep(0)
    hidden_number += 1
    await event.wait()


hidden_number = 1


def test_global_names_of_decorated_functions_are_shared() -> None:
    async def main() -> None:
        globals()["hidden_number"] = 1
        await in_two_tasks(double_hidden, increase_hidden)
        assert hidden_number == 3

    assert_found(main)


@functools.wraps(asyncio.sleep)
async def double_like_sleep(event: asyncio.Event) -> None:
    await runtime.sleep(0)
    set_number(number * 2)
    await event.wait()


@functools.wraps(asyncio.sleep)
async def increase_like_sleep(event: asyncio.Event) -> None:
    await runtime.sleep(0)
    set_number(number + 1)
    await event.wait()


def test_global_names_of_wrappers_of_library_functions_are_shared() -> None:
    async def main() -> None:
        set_number(1)
        await in_two_tasks(double_like_sleep, increase_like_sleep)
        assert number == 3

    assert_found(main)


def test_files_that_are_reached_through_pathlib_are_shared(tmp_path: Path) -> None:
    name = str(tmp_path / "number")

    async def double(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        Path(name).write_text(str(int(Path(name).read_text()) * 2))
        await event.wait()

    async def increase(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        Path(name).write_text(str(int(Path(name).read_text()) + 1))
        await event.wait()

    async def main() -> None:
        Path(name).write_text("1")
        await in_two_tasks(double, increase)
        assert Path(name).read_text() == "3"

    assert_found(main)


def test_state_behind_functions_of_the_standard_library_is_shared() -> None:
    async def double(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        getLogger("footprints").setLevel(getLogger("footprints").level * 2)
        await event.wait()

    async def increase(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        getLogger("footprints").setLevel(getLogger("footprints").level + 1)
        await event.wait()

    async def main() -> None:
        logger.setLevel(1)
        await in_two_tasks(double, increase)
        assert logger.level == 3

    logger = logging.getLogger("footprints")
    assert_found(main)
    logger.setLevel(logging.NOTSET)


VARIABLE: ContextVar[int] = ContextVar("VARIABLE")


def test_variables_of_a_context_that_two_tasks_have_are_shared() -> None:
    async def double(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        VARIABLE.set(VARIABLE.get() * 2)
        await event.wait()

    async def increase(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        VARIABLE.set(VARIABLE.get() + 1)
        await event.wait()

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(VARIABLE.set, 1)
        await in_two_tasks(double, increase, context)
        assert context[VARIABLE] == 3

    assert_found(main)


def test_printed_lines_are_shared() -> None:
    async def one(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        print("one")
        await event.wait()

    async def two(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        print("two")
        await event.wait()

    async def main() -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            await in_two_tasks(one, two)
        assert output.getvalue() == "one\ntwo\n"

    assert_found(main)


class Text(str):
    """A text with an attribute."""

    number: int


def test_attributes_of_a_subclass_of_str_are_shared() -> None:
    async def double(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        text.number *= 2
        await event.wait()

    async def increase(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        text.number += 1
        await event.wait()

    async def main() -> None:
        text.number = 1
        await in_two_tasks(double, increase)
        assert text.number == 3

    text = Text()
    assert_found(main)


class Meta(type):
    number = 1

    def double(cls) -> None:
        Meta.number *= 2

    def increase(cls) -> None:
        Meta.number += 1


class First(metaclass=Meta):
    pass


class Second(metaclass=Meta):
    pass


def test_metaclasses_are_shared() -> None:
    async def double(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        First.double()
        await event.wait()

    async def increase(event: asyncio.Event) -> None:
        await runtime.sleep(0)
        Second.increase()
        await event.wait()

    async def main() -> None:
        Meta.number = 1
        await in_two_tasks(double, increase)
        assert Meta.number == 3

    assert_found(main)


def test_what_an_awaited_object_without_a_frame_resumes_is_shared() -> None:
    async def doubled(event: asyncio.Event) -> AsyncGenerator[int, None]:
        await runtime.sleep(0)
        set_number(number * 2)
        await event.wait()
        if number < 0:
            yield number

    async def increased(event: asyncio.Event) -> AsyncGenerator[int, None]:
        await runtime.sleep(0)
        set_number(number + 1)
        await event.wait()
        if number < 0:
            yield number

    async def double(event: asyncio.Event) -> None:
        await anext(doubled(event), None)

    async def increase(event: asyncio.Event) -> None:
        await anext(increased(event), None)

    async def main() -> None:
        set_number(1)
        await in_two_tasks(double, increase)
        assert number == 3

    assert_found(main)


class Refusing:
    """An object of the program that computes its attributes, and has no others."""

    def __getattr__(self, name: str) -> object:
        raise LookupError(name)


REFUSING = Refusing()


def test_the_attributes_of_the_programs_objects_are_not_computed() -> None:
    async def work(held: object) -> None:
        await runtime.sleep(0)
        assert held is REFUSING

    async def main() -> None:
        await asyncio.gather(work(REFUSING), work(REFUSING))

    assert simulation.explore(main, strategy="reduced", order="tasks", runs=500).complete


def test_starvation_is_found_among_tasks_with_nothing_in_common() -> None:
    async def spin() -> None:
        for _ in range(3):
            await runtime.sleep(0)

    async def main() -> None:
        tasks = [asyncio.create_task(spin()) for _ in range(2)]
        await runtime.sleep(1)
        await asyncio.gather(*tasks)

    reduced = simulation.explore(
        main, strategy="reduced", order="tasks", starvation=3, runs=2000, shrink=0, check=False
    )
    sampled = simulation.explore(
        main, strategy="random", order="tasks", starvation=3, runs=200, shrink=0, check=False
    )
    assert (reduced.failure is None) == (sampled.failure is None)
    assert reduced.failure is not None or reduced.complete

"""A dataflow resolver: coroutines await values that other coroutines will set, in any order.

A ``Namespace`` holds a future for each name. It knows who sets what, and who waits for what: so it
reports a circle, and a name that nobody can set any more, where both would wait for ever::

    python docs/examples/dataflow.py
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import runtime


class CircleError(Exception):
    """A name needs itself, by way of others."""


class NobodySetsError(Exception):
    """Everybody who could set a name waits, or has ended."""


class Namespace:
    """Named values, and the coroutines that compute them. To be used with ``async with``.

    The block ends when every coroutine has. When one fails, the others are cancelled, and what it
    raised is raised in an ExceptionGroup.
    """

    def __init__(self) -> None:
        self._values: dict[str, runtime.Future[Any]] = {}
        self._group = runtime.TaskGroup()
        self._setter_of: dict[str, runtime.Task[Any]] = {}
        # Whoever may still set something; and of these, who waits for which name.
        self._alive: set[runtime.Task[Any]] = set()
        self._waiting: dict[runtime.Task[Any], str] = {}

    async def __aenter__(self) -> Namespace:
        await self._group.__aenter__()
        self._alive.add(_this_task())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended(_this_task())
        await self._group.__aexit__(kind, error, traceback)

    def start(self, coroutine: Coroutine[Any, Any, Any], *, name: str = "") -> runtime.Task[Any]:
        """Run a coroutine that may await names and set others; return its task."""
        task = self._group.create_task(coroutine, name=name or None)
        self._alive.add(task)
        task.add_done_callback(self._has_ended)
        return task

    def define(self, name: str, function: Callable[[Namespace], Awaitable[Any]]) -> None:
        """Have ``name`` be what ``await function(namespace)`` returns."""
        if name in self._setter_of or self.is_set(name):
            raise ValueError(f"{name!r} is defined already")

        async def compute() -> None:
            self.set(name, await function(self))

        self._setter_of[name] = self.start(compute(), name=name)

    def set(self, name: str, value: object) -> None:
        """Give a name its value, once: whoever waits for it goes on."""
        if self.is_set(name):
            raise ValueError(f"{name!r} is set already")
        self._value(name).set_result(value)

    def is_set(self, name: str) -> bool:
        """Return whether a name has its value."""
        return name in self._values and self._values[name].done()

    async def get(self, name: str) -> Any:
        """Return the value of a name, when there is one.

        Raises ValueError for what is no name, CircleError when it needs what this coroutine
        defines, NobodySetsError when nobody is left to set it.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{name!r} is no name")
        value = self._value(name)
        if not value.done():
            await self._wait(name, value)
        return value.result()

    async def _wait(self, name: str, value: runtime.Future[Any]) -> None:
        task = _this_task()
        self._waiting[task] = name
        try:
            self._look_for_circle(task)
            self._look_for_stuck()
            # Others wait for the same future, and a cancelled wait must not cancel it for them.
            await runtime.wait([value])
        finally:
            del self._waiting[task]

    def _value(self, name: str) -> runtime.Future[Any]:
        return self._values.setdefault(name, runtime.Future())

    def _look_for_circle(self, task: runtime.Task[Any]) -> None:
        """Follow who waits for whom, from ``task`` on; raise if that leads back to it."""
        names = []
        follower: runtime.Task[Any] | None = task
        while follower in self._waiting:
            names.append(self._waiting[follower])
            follower = self._setter_of.get(names[-1])
            if follower is task:
                raise CircleError(" needs ".join([names[-1], *names]))

    def _look_for_stuck(self) -> None:
        """Fail what is waited for when everybody waits: nobody can set anything any more."""
        waited_for = {name for name in self._waiting.values() if not self.is_set(name)}
        going_on = [task for task in self._alive if self._waiting.get(task) not in waited_for]
        if going_on:
            return
        for name in waited_for:
            if self._setter_of.get(name) in self._alive:
                continue  # It waits in turn: the name that it waits for is the one to report.
            who = sorted(task.get_name() for task, it in self._waiting.items() if it == name)
            error = NobodySetsError(f"{name}: {', '.join(who)} waits, and nobody sets it")
            value = self._value(name)
            value.set_exception(error)
            value.exception()  # Seen: those who wait may have been cancelled, and not ask for it.

    def _has_ended(self, task: runtime.Task[Any]) -> None:
        self._alive.discard(task)
        self._look_for_stuck()


def _this_task() -> runtime.Task[Any]:
    task = runtime.current_task()
    assert task is not None
    return task


# -- Demonstration ---------------------------------------------------------------------------------


async def area(names: Namespace) -> int:
    """Compute an area of what others set."""
    return int(await names.get("width")) * int(await names.get("height"))


async def width(names: Namespace) -> int:
    """Compute a width of what others set."""
    return 2 * int(await names.get("height"))


async def report(names: Namespace, what: str) -> None:
    """Print a value when there is one."""
    print(what, "is", await names.get(what))


async def measure(names: Namespace) -> None:
    """Set a value, after a while."""
    await runtime.sleep(0.01)
    names.set("height", 3)


async def demonstrate() -> None:
    """Resolve some names; then show what cannot be resolved."""
    async with Namespace() as names:
        names.start(report(names, "area"))
        names.start(report(names, "width"))
        names.define("area", area)
        names.define("width", width)
        names.start(measure(names))

    try:
        async with Namespace() as names:
            names.define("egg", lambda names: names.get("hen"))
            names.define("hen", lambda names: names.get("egg"))
    except* CircleError as group:
        print("a circle:", *group.exceptions)

    try:
        async with Namespace() as names:
            names.start(report(names, "colour"), name="report")
    except* NobodySetsError as group:
        print(*group.exceptions)

    async with Namespace() as names:
        try:
            await names.get("not a name")
        except ValueError as error:
            print("refused:", error)


def main() -> None:
    """Read the command line, of which only ``--help`` is known, and run."""
    argparse.ArgumentParser(description="A dataflow resolver.").parse_args()
    runtime.run(demonstrate())


if __name__ == "__main__":
    main()

"""A dataflow resolver: coroutines await values that other coroutines will set, in any order.

A ``Namespace`` holds a future for each name. It knows which coroutine sets a name, and which ones
wait for it. So it reports a dependency cycle, and a name that no coroutine can set any more. Both
would wait for ever without these reports::

    python docs/examples/dataflow.py
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

import runtime


class CycleError(Exception):
    """A name depends on itself, through other names."""


class NeverSetError(Exception):
    """Every coroutine that could set a name is waiting, or has ended."""


class Namespace:
    """Named values, and the coroutines that compute them. To be used with ``async with``.

    The block ends when every coroutine has ended. If one fails, the others are cancelled, and its
    exception is raised in an ExceptionGroup.
    """

    def __init__(self) -> None:
        self._values: dict[str, runtime.Future[Any]] = {}
        self._group = runtime.TaskGroup()
        self._setter_of: dict[str, runtime.Task[Any]] = {}
        # The tasks that can still set names, and the name that each waiting one of them waits for.
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
        """Start a coroutine that may await names and set others; return its task."""
        task = self._group.create_task(coroutine, name=name or None)
        self._alive.add(task)
        task.add_done_callback(self._has_ended)
        return task

    def define(self, name: str, function: Callable[[Namespace], Awaitable[Any]]) -> None:
        """Set ``name`` to the result of ``await function(namespace)``."""
        if name in self._setter_of or self.is_set(name):
            raise ValueError(f"{name!r} is defined already")

        async def compute() -> None:
            self.set(name, await function(self))

        self._setter_of[name] = self.start(compute(), name=name)

    def set(self, name: str, value: object) -> None:
        """Set the value of a name, which is possible once, and wake the tasks that wait for it."""
        if self.is_set(name):
            raise ValueError(f"{name!r} is set already")
        self._value(name).set_result(value)

    def is_set(self, name: str) -> bool:
        """Return whether a name has a value."""
        return name in self._values and self._values[name].done()

    async def get(self, name: str) -> Any:
        """Wait until a name has a value, and return it.

        Raises ValueError if ``name`` is not an identifier, CycleError if its value depends on the
        name that this coroutine defines, and NeverSetError if no coroutine can set it any more.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{name!r} is not a name")
        value = self._value(name)
        if not value.done():
            await self._wait(name, value)
        return value.result()

    async def _wait(self, name: str, value: runtime.Future[Any]) -> None:
        task = _this_task()
        self._waiting[task] = name
        try:
            self._look_for_cycle(task)
            self._look_for_stuck()
            # Other tasks wait for the same future: cancelling this wait must not cancel the future.
            await runtime.wait([value])
        finally:
            del self._waiting[task]

    def _value(self, name: str) -> runtime.Future[Any]:
        return self._values.setdefault(name, runtime.Future())

    def _look_for_cycle(self, task: runtime.Task[Any]) -> None:
        """Follow the waits that begin at ``task``; raise CycleError if they lead back to it."""
        names = []
        follower: runtime.Task[Any] | None = task
        while follower in self._waiting:
            names.append(self._waiting[follower])
            follower = self._setter_of.get(names[-1])
            if follower is task:
                raise CycleError(" needs ".join([names[-1], *names]))

    def _look_for_stuck(self) -> None:
        """If every task waits for an unset name, raise NeverSetError in the waiting tasks."""
        waited_for = {name for name in self._waiting.values() if not self.is_set(name)}
        going_on = [task for task in self._alive if self._waiting.get(task) not in waited_for]
        if going_on:
            return
        for name in waited_for:
            if self._setter_of.get(name) in self._alive:
                continue  # Its setter waits too: the name that the setter waits for is reported.
            tasks = sorted(task.get_name() for task, it in self._waiting.items() if it == name)
            error = NeverSetError(f"{name}: {', '.join(tasks)} waits, and no coroutine can set it")
            value = self._value(name)
            value.set_exception(error)
            value.exception()  # Retrieved here, because cancelled tasks do not retrieve it.

    def _has_ended(self, task: runtime.Task[Any]) -> None:
        self._alive.discard(task)
        self._look_for_stuck()


def _this_task() -> runtime.Task[Any]:
    task = runtime.current_task()
    assert task is not None
    return task


# -- Demonstration ---------------------------------------------------------------------------------


async def area(names: Namespace) -> int:
    """Compute an area from a width and a height."""
    return int(await names.get("width")) * int(await names.get("height"))


async def width(names: Namespace) -> int:
    """Compute a width from a height."""
    return 2 * int(await names.get("height"))


async def report(names: Namespace, name: str) -> None:
    """Print the value of a name as soon as it is set."""
    print(name, "is", await names.get(name))


async def measure(names: Namespace) -> None:
    """Set a height after a short time."""
    await runtime.sleep(0.01)
    names.set("height", 3)


async def demonstrate() -> None:
    """Resolve some names; then show three names that cannot be resolved."""
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
    except* CycleError as group:
        print("a cycle:", *group.exceptions)

    try:
        async with Namespace() as names:
            names.start(report(names, "colour"), name="report")
    except* NeverSetError as group:
        print(*group.exceptions)

    async with Namespace() as names:
        try:
            await names.get("not a name")
        except ValueError as error:
            print("refused:", error)


def main() -> None:
    """Parse the command line, which knows only ``--help``, and run the demonstration."""
    argparse.ArgumentParser(description="A dataflow resolver.").parse_args()
    runtime.run(demonstrate())


if __name__ == "__main__":
    main()

"""Random programs of scopes, groups and sleeps; their execution, and a model of it.

A program is a tree. Every duration and every deadline is a different binary fraction, so that no
two events happen at the same time, unless one causes the other. The model knows nothing of tasks:
since the times of all cancellations are known in advance, it follows each task on its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from hypothesis import strategies as st

Event = tuple[float, int, str]


@dataclasses.dataclass
class Sleep:
    """Sleep for ``delay`` seconds."""

    delay: float
    number: int = 0


@dataclasses.dataclass
class Scope:
    """A block in a scope, which is cancelled at a deadline, or by a call at a time, or never."""

    body: list[Node]
    deadline: float = math.inf
    call: float = math.inf
    shield: bool = False
    number: int = 0


@dataclasses.dataclass
class CleanUp:
    """A block, and what is done after a CancelledError in it, before it continues."""

    body: list[Node]
    after: list[Node]
    number: int = 0


@dataclasses.dataclass
class Group:
    """A group with tasks, and a body; its own scope is cancelled at a time, or never."""

    tasks: list[list[Node]]
    body: list[Node]
    call: float = math.inf
    number: int = 0


Node: TypeAlias = Sleep | Scope | CleanUp | Group


def nodes(depth: int, groups: bool) -> st.SearchStrategy[list[Node]]:
    """Return a strategy for blocks of a program, with or without groups."""
    choices: list[st.SearchStrategy[Any]] = [st.builds(Sleep, st.integers(0, 6))]
    if depth:
        inner = nodes(depth - 1, groups)
        time = st.one_of(st.just(math.inf), st.integers(0, 12))
        choices += [
            st.builds(Scope, inner, time, time, st.booleans()),
            st.builds(CleanUp, inner, inner),
        ]
        if groups:
            choices.append(st.builds(Group, st.lists(inner, max_size=3), inner, time))
    return st.lists(st.one_of(choices), min_size=1, max_size=3)


def programs(groups: bool = True) -> st.SearchStrategy[list[Node]]:
    """Return a strategy for programs."""
    return nodes(3, groups).map(finished)


def random_program(chance: random.Random, groups: bool = True) -> list[Node]:
    """Return a program, much faster than a strategy, for thousands of them."""

    def block(depth: int) -> list[Node]:
        return [node(depth) for _ in range(chance.randint(1, 3))]

    def time() -> float:
        return chance.choice([math.inf, float(chance.randint(0, 12))])

    def node(depth: int) -> Node:
        kinds = ["sleep", "sleep", "scope", "clean up", "group"][: 5 if groups else 4]
        match chance.choice(kinds) if depth else "sleep":
            case "sleep":
                return Sleep(float(chance.randint(0, 6)))
            case "scope":
                return Scope(block(depth - 1), time(), time(), chance.random() < 0.4)
            case "clean up":
                return CleanUp(block(depth - 1), block(depth - 1))
            case _:
                tasks = [block(depth - 1) for _ in range(chance.randint(0, 3))]
                return Group(tasks, block(depth - 1), time())

    return finished(block(chance.randint(1, 3)))


def finished(program: list[Node]) -> list[Node]:
    """Give each node a number, and make all times different; return the program."""
    fractions = (2.0**-exponent for exponent in itertools.count(2))
    numbers = itertools.count(1)

    def visit(block: list[Node]) -> None:
        for node in block:
            node.number = next(numbers)
            match node:
                case Sleep():
                    node.delay += next(fractions)
                case Scope():
                    if math.isfinite(node.deadline):
                        node.deadline += next(fractions)
                    if math.isfinite(node.call):
                        node.call += next(fractions)
                    visit(node.body)
                case CleanUp():
                    visit(node.body)
                    visit(node.after)
                case Group():
                    if math.isfinite(node.call):
                        node.call += next(fractions)
                    for task in node.tasks:
                        visit(task)
                    visit(node.body)

    visit(program)
    return program


def size_of(program: list[Node]) -> int:
    """Return the number of binary fractions in a program: a float has 52 bits for them."""
    count = 0
    for node in program:
        match node:
            case Sleep():
                count += 1
            case Scope():
                count += math.isfinite(node.deadline) + math.isfinite(node.call)
                count += size_of(node.body)
            case CleanUp():
                count += size_of(node.body) + size_of(node.after)
            case Group():
                count += math.isfinite(node.call) + size_of(node.body)
                count += sum(map(size_of, node.tasks))
    return count


# -- Execution -------------------------------------------------------------------------------------


class AnyScope(Protocol):
    """The part of a scope, of this package or of trio, that programs use."""

    def cancel(self) -> None: ...


class Api(Protocol):
    """The functions that execute a program: those of this package, or those of trio."""

    @property
    def cancelled(self) -> type[BaseException]: ...

    def now(self) -> float: ...

    async def sleep(self, delay: float) -> None: ...

    def scope(self, deadline: float, shield: bool) -> AbstractContextManager[Any]: ...

    async def group(
        self, tasks: list[Callable[[], Awaitable[None]]], body: Callable[[AnyScope], Any]
    ) -> None: ...

    def call_at(self, when: float, callback: Callable[[], object]) -> None: ...

    def requests(self) -> int: ...


async def execute(program: list[Node], api: Api) -> list[Event]:
    """Run a program to its end; return its events in the order of time."""
    events: list[Event] = []

    async def run(block: list[Node]) -> None:
        for node in block:
            try:
                await run_node(node)
            except api.cancelled:
                events.append((api.now(), node.number, "cancelled"))
                raise
            events.append((api.now(), node.number, "done"))

    async def run_node(node: Node) -> None:
        match node:
            case Sleep():
                await api.sleep(node.delay)
            case Scope():
                with api.scope(node.deadline, node.shield) as scope:
                    api.call_at(node.call, scope.cancel)
                    await run(node.body)
                if scope.cancelled_caught:
                    events.append((api.now(), node.number, "caught"))
            case CleanUp():
                try:
                    await run(node.body)
                except api.cancelled:
                    await run(node.after)
                    raise
            case Group():

                async def body(scope: AnyScope) -> None:
                    api.call_at(node.call, scope.cancel)
                    await run(node.body)

                def task(block: list[Node]) -> Callable[[], Awaitable[None]]:
                    return lambda: run(block)

                await api.group([task(block) for block in node.tasks], body)

    try:
        await run(program)
    except api.cancelled:
        assert api.requests() == 1  # The request comes from outside, and is counted once.
    else:
        assert api.requests() == 0
    return sorted(events)


# -- The model -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Position:
    """The scopes around a place, the innermost first: when each is cancelled, and if it shields."""

    scopes: tuple[tuple[float, bool], ...] = ()

    def inside(self, cancelled: float, shield: bool) -> Position:
        """Return the position inside one more scope."""
        return Position(((cancelled, shield), *self.scopes))

    def cancelled_at(self) -> float:
        """Return from when on code at this position is in a cancelled scope."""
        soonest = math.inf
        for cancelled, shield in self.scopes:
            soonest = min(soonest, cancelled)
            if shield:
                break
        return soonest


class Model:
    """The expected events of a program.

    ``request`` is the time at which ``cancel()`` of the task is called. There must be no groups
    then: a group would pass the request on to its tasks.
    """

    def __init__(self, request: float = math.inf) -> None:
        self.events: list[Event] = []
        self.request = request

    def block(self, block: list[Node], time: float, position: Position) -> tuple[float, bool]:
        """Follow a block from ``time`` on; return when it ends, and whether it was cancelled."""
        for node in block:
            time, cancelled = self.node(node, time, position)
            self.events.append((time, node.number, "cancelled" if cancelled else "done"))
            if cancelled:
                return time, True
        return time, False

    def node(self, node: Node, time: float, position: Position) -> tuple[float, bool]:
        """Follow a node, as ``block`` does."""
        match node:
            case Sleep():
                return self.wait(time, time + node.delay, position)
            case Scope():
                when = min(node.deadline, max(node.call, time))
                inner = position.inside(when, node.shield)
                end, cancelled = self.block(node.body, time, inner)
                visible = not node.shield and position.cancelled_at() <= end
                requested = time < self.request <= end
                if cancelled and when <= end and not visible and not requested:
                    self.events.append((end, node.number, "caught"))
                    return end, False
                return end, cancelled
            case CleanUp():
                end, cancelled = self.block(node.body, time, position)
                if cancelled:
                    end, _ = self.block(node.after, end, position)
                return end, cancelled
            case Group():
                when = max(node.call, time)
                inner = position.inside(when, False)
                ends = [self.block(task, time, inner)[0] for task in node.tasks]
                end, cancelled = self.block(node.body, time, inner)
                last = max([end, *ends])
                if last > end:
                    cancelled = cancelled or inner.cancelled_at() <= last
                if cancelled and when <= last and not position.cancelled_at() <= last:
                    return last, False
                return last, cancelled

    def wait(self, time: float, until: float, position: Position) -> tuple[float, bool]:
        """Wait up to ``until``, unless the wait is interrupted."""
        cancelled = position.cancelled_at()
        if time < self.request:
            cancelled = min(cancelled, self.request)
        if cancelled < until:
            return max(time, cancelled), True
        return until, False


def expected(program: list[Node], request: float = math.inf) -> list[Event]:
    """Return the events that the model expects of a program, in the order of time."""
    model = Model(request)
    model.block(program, 0.0, Position())
    return sorted(model.events)

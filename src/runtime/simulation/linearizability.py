"""Linearizability: whether a recorded history of operations agrees with a sequential model.

A history is linearizable if each operation can be given a moment between its begin and its end, so
that the operations, executed one by one in the order of these moments, return what they returned in
the history. An operation that failed or was cancelled may have had its effect at any later moment,
or never.

The search is that of Wing and Gong: it extends the order by one operation at a time, among those
that began before every operation which is not in the order has ended. Sets of operations that were
reached with the same state before are not searched again (Lowe), and operations on different keys
are checked separately, which is possible for models whose keys do not depend on one another.

Source: J. Wing, C. Gong, "Testing and verifying concurrent objects", 1993; G. Lowe, "Testing for
linearizability", 2017.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda _: "unknown"})()
"""The result of an operation that has not ended, or has failed."""


@dataclass
class Operation:
    """One operation of a history: ``name(*args)``, made by ``client``, with its ``result``.

    ``begin`` and ``end`` are places in the order of all begins and ends of the history; ``end`` is
    infinite if the operation did not end, or its effect is unknown.
    """

    client: Hashable
    name: str
    args: tuple[Any, ...]
    begin: float
    end: float = float("inf")
    result: Any = UNKNOWN

    def __str__(self) -> str:
        arguments = ", ".join(map(repr, self.args))
        return f"{self.client}: {self.name}({arguments}) -> {self.result!r}"


@dataclass
class History:
    """The operations of a run, in the order in which they began.

    >>> import runtime
    >>> from runtime import simulation
    >>> async def main():
    ...     history = simulation.History()
    ...     async def read_old_value():
    ...         return 0
    ...     async def write():
    ...         return None
    ...     await history.call("a", write(), "write", 1)
    ...     await history.call("b", read_old_value(), "read")
    ...     return bool(simulation.linearizable(history, simulation.Register(0)))
    >>> simulation.run(main)
    False
    """

    operations: list[Operation] = field(default_factory=list)
    _moments: int = 0

    def begin(self, client: Hashable, name: str, *args: Any) -> Operation:
        """Record that ``client`` begins an operation; return it, for ``end``."""
        self._moments += 1
        operation = Operation(client, name, args, self._moments)
        self.operations.append(operation)
        return operation

    def end(self, operation: Operation, result: Any = None) -> None:
        """Record that an operation has ended, with a result."""
        self._moments += 1
        operation.end = self._moments
        operation.result = result

    async def call(self, client: Hashable, work: Awaitable[T], name: str, *args: Any) -> T:
        """Await ``work``, and record it as the operation ``name(*args)`` of ``client``.

        If it raises, or is cancelled, its effect is unknown. Cancellation safe.
        """
        operation = self.begin(client, name, *args)
        result = await work
        self.end(operation, result)
        return result


class Model:
    """The base class of sequential models. A state is hashable, and never changes."""

    initial: Hashable = None
    """The state before the first operation."""

    def apply(self, state: Any, operation: Operation) -> Iterable[tuple[Any, Any]]:
        """Return the pairs of a new state and a result that the operation can have in ``state``.

        None at all means that the operation is not possible in this state.
        """
        raise NotImplementedError

    def partition(self, operation: Operation) -> Hashable:
        """Return the part of the object that an operation is about; parts are checked apart."""
        return None


class Register(Model):
    """A variable: ``read() -> value``, ``write(value)``, ``compare_and_set(old, new) -> bool``."""

    def __init__(self, initial: Hashable = None) -> None:
        self.initial = initial

    def apply(self, state: Any, operation: Operation) -> Iterable[tuple[Any, Any]]:
        """Return the possible outcomes of an operation."""
        if operation.name == "read":
            return [(state, state)]
        if operation.name == "write":
            return [(operation.args[-1], operation.result)]
        if operation.name == "compare_and_set":
            old, new = operation.args[-2:]
            return [(new, True)] if state == old else [(state, False)]
        raise ValueError(f"{operation.name!r} is not an operation of a register")


class KeyValue(Model):
    """A mapping: ``get(key) -> value or None``, ``put(key, value)``, ``delete(key)``.

    Also ``compare_and_set(key, old, new) -> bool``.
    """

    def apply(self, state: Any, operation: Operation) -> Iterable[tuple[Any, Any]]:
        """Return the possible outcomes of an operation."""
        if operation.name == "get":
            return [(state, state)]
        if operation.name == "put":
            return [(operation.args[1], operation.result)]
        if operation.name == "delete":
            return [(None, operation.result)]
        if operation.name == "compare_and_set":
            old, new = operation.args[1:]
            return [(new, True)] if state == old else [(state, False)]
        raise ValueError(f"{operation.name!r} is not an operation of a mapping")

    def partition(self, operation: Operation) -> Hashable:
        """Return the key."""
        key: Hashable = operation.args[0]
        return key


class FifoQueue(Model):
    """A queue: ``put(item)``, ``get() -> item``."""

    initial: Hashable = ()

    def apply(self, state: Any, operation: Operation) -> Iterable[tuple[Any, Any]]:
        """Return the possible outcomes of an operation."""
        if operation.name == "put":
            return [((*state, operation.args[0]), operation.result)]
        if operation.name == "get":
            return [(state[1:], state[0])] if state else []
        raise ValueError(f"{operation.name!r} is not an operation of a queue")


class Mutex(Model):
    """A lock: ``acquire()`` and ``release()``, by the client that holds it."""

    def apply(self, state: Any, operation: Operation) -> Iterable[tuple[Any, Any]]:
        """Return the possible outcomes of an operation."""
        holder = ("held", operation.client)
        if operation.name == "acquire":
            return [(holder, operation.result)] if state is None else []
        if operation.name == "release":
            return [(None, operation.result)] if state == holder else []
        raise ValueError(f"{operation.name!r} is not an operation of a lock")


@dataclass
class Verdict:
    """Whether a history is linearizable. It is true if so; its text says why not.

    ``order`` is an order that agrees with the model, or the longest one that was found, of the part
    of the history that has no such order; ``stuck`` are the operations that cannot follow it.
    """

    holds: bool
    order: list[Operation]
    stuck: list[Operation] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        if self.holds:
            return "linearizable"
        lines = ["not linearizable: none of these operations"]
        lines += [f"  {operation}" for operation in self.stuck]
        lines.append("can follow the longest possible order:")
        lines += [f"  {operation}" for operation in self.order]
        return "\n".join(lines)

    __repr__ = __str__


def linearizable(history: History | Sequence[Operation], model: Model) -> Verdict:
    """Return whether ``history`` is linearizable with respect to ``model``.

    The models are ``Register``, ``KeyValue``, ``FifoQueue``, ``Mutex``, and your own subclasses of
    ``Model``.
    The verdict is true or false, and its text explains a failure: ``assert linearizable(...)``.
    Raises TypeError for other arguments, and for a state that is not hashable, as after the write
    of a list.
    """
    if not isinstance(model, Model):
        raise TypeError(f"linearizable() expected a model, such as Register(), got {model!r}")
    operations = history.operations if isinstance(history, History) else history
    parts: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        if not isinstance(operation, Operation):
            raise TypeError(f"linearizable() expected a history of operations, got {operation!r}")
        parts.setdefault(model.partition(operation), []).append(operation)
    order: list[Operation] = []
    for part in parts.values():
        verdict = _check(part, model)
        if not verdict:
            return verdict
        order += verdict.order
    return Verdict(True, order)


def _check(operations: list[Operation], model: Model) -> Verdict:
    to_end = sum(1 << place for place, each in enumerate(operations) if each.result is not UNKNOWN)
    _check_hashable(model, model.initial)
    seen = {(0, model.initial)}
    stack: list[tuple[int, Any, tuple[int, ...]]] = [(0, model.initial, ())]
    longest: tuple[int, ...] = ()
    candidates_then: list[int] = []
    while stack:
        done, state, order = stack.pop()
        if done & to_end == to_end:
            return Verdict(True, [operations[place] for place in order])
        left = [place for place in range(len(operations)) if not done >> place & 1]
        limit = min(operations[place].end for place in left)
        candidates = [place for place in left if operations[place].begin <= limit]
        if len(order) >= len(longest):
            longest, candidates_then = order, candidates
        for place in reversed(candidates):
            operation = operations[place]
            for new_state, result in model.apply(state, operation):
                if operation.result is not UNKNOWN and operation.result != result:
                    continue
                reached = (done | 1 << place, new_state)
                _check_hashable(model, new_state)
                if reached not in seen:
                    seen.add(reached)
                    stack.append((*reached, (*order, place)))
    return Verdict(
        False,
        [operations[place] for place in longest],
        [operations[place] for place in candidates_then],
    )


def _check_hashable(model: Model, state: object) -> None:
    """Raise TypeError for a state that the search cannot remember."""
    try:
        hash(state)
    except TypeError:
        raise TypeError(
            f"the states of {type(model).__name__} must be hashable, got {state!r}: record values "
            "that are, such as tuples"
        ) from None

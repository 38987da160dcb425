"""``Snapshot``: the base of immutable classes with slots, which are made faster than dataclasses.

A dataclass compiles its methods when it is imported, which takes longer than the rest of its
module.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self


class Snapshot:
    """An immutable object. The slots of its class are its fields, in the order of the arguments."""

    __slots__ = ()

    def __init__(self, *values: Any, **named: Any) -> None:
        names = self.fields()
        fields = {**dict(zip(names, values, strict=False)), **named}
        if len(values) + len(named) != len(names) or fields.keys() != set(names):
            raise TypeError(f"{type(self).__name__}() expected the fields {', '.join(names)}")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the fields."""
        names: tuple[str, ...] = tuple(cls.__slots__)
        return names

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values of some fields."""
        values = {name: getattr(self, name) for name in self.fields()}
        return type(self)(**{**values, **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} objects are immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} objects are immutable: {name} must stay")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.fields())

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.fields()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, name) for name in self.fields())

    def _shown(self) -> tuple[str, ...]:
        """Return the names of the fields that the ``repr`` shows."""
        return self.fields()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown())
        return f"{type(self).__name__}({shown})"

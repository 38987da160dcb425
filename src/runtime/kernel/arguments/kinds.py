"""Checks of the types of arguments at the time of the call that passes them."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def instance_of(kind: type[T], value: object, caller: str, wanted: str) -> T:
    """Return ``value``; raise TypeError unless it is an instance of ``kind``.

    The message names ``caller``, a function, and describes the type by the words ``wanted``.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{caller}() expected {wanted}, got {value!r}")
    return value


def check_callable(function: object, caller: str) -> None:
    """Raise TypeError, which names ``caller``, if ``function`` is neither None nor callable."""
    if function is not None and not callable(function):
        raise TypeError(f"{caller}() expected a callable object or None, got {function!r}")

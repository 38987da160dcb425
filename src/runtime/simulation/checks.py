"""Checks of the arguments that programs pass to a simulation, and of the attributes they set."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Generic, TypeGuard, TypeVar, overload

from runtime.kernel.arguments.sizes import float_or_infinity

T = TypeVar("T")


def check_number(name: str, number: object, least: int) -> None:
    """Raise TypeError or ValueError unless the argument ``name`` is a whole number, big enough."""
    expected = f"{name} must be a whole number, at least {least}, got {number!r}"
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(expected)
    if number < least:
        raise ValueError(expected)


def check_number_or_none(name: str, number: object, least: int) -> None:
    """Do the same as ``check_number``, for an argument that may also be None."""
    if number is not None:
        check_number(name, number, least)


def check_limit(name: str, number: object) -> None:
    """Raise TypeError or ValueError unless ``number`` is a whole number, 0 or more, or None."""
    check_number_or_none(name, number, 0)


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless the argument ``name`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_text(name: str, text: object) -> None:
    """Raise TypeError or ValueError unless ``text`` is one that tokens and reports can hold."""
    expected = f"{name} must be a printable text on one line, got {text!r}"
    if not isinstance(text, str):
        raise TypeError(expected)
    if not text.isprintable():
        raise ValueError(expected)


def check_label(label: object) -> None:
    """Raise TypeError or ValueError unless ``label`` is a text that tokens and reports can hold."""
    check_text("label", label)


def check_probability(name: str, number: object) -> None:
    """Raise TypeError or ValueError unless the argument ``name`` is a number from 0 to 1."""
    expected = f"{name} must be a number from 0 to 1, got {number!r}"
    if not is_real(number):
        raise TypeError(expected)
    if not 0.0 <= number <= 1.0:
        raise ValueError(expected)


def check_seconds(name: str, number: object, *, negative: bool = False) -> None:
    """Raise TypeError or ValueError unless ``number`` is a finite number of seconds.

    It may be less than 0 only if ``negative``.
    """
    least = "" if negative else ", 0 or more"
    expected = f"{name} must be a finite number of seconds{least}, got {number!r}"
    if not is_real(number):
        raise TypeError(expected)
    if not math.isfinite(float_or_infinity(number)) or (number < 0 and not negative):
        raise ValueError(expected)


def check_timeout(name: str, number: object) -> None:
    """Raise TypeError or ValueError unless ``number`` is seconds, 0 or more; infinity is never."""
    expected = f"{name} must be a number of seconds, 0 or more, got {number!r}"
    if not is_real(number):
        raise TypeError(expected)
    if not number >= 0:
        raise ValueError(expected)


def check_offset(name: str, number: object) -> None:
    """Raise TypeError or ValueError unless ``number`` is finite seconds, which may be negative."""
    check_seconds(name, number, negative=True)


def check_function(name: str, function: object, remedy: str = "") -> None:
    """Raise TypeError unless the argument ``name`` is a function, and not one that is async.

    The message ends with ``remedy``, which says how the function can have something awaited.
    """
    if inspect.iscoroutine(function):
        function.close()
    elif callable(function) and not inspect.iscoroutinefunction(function):
        return
    raise TypeError(
        f"{name} must be a function that is not async, got {function!r}: it is called outside of "
        f"all tasks, and cannot wait{remedy}"
    )


def check_setup(setup: object) -> None:
    """Raise TypeError unless ``setup`` is a function that is not async, or None."""
    if setup is not None:
        check_function("setup", setup, "; it can start async functions on world.host(...)")


def is_real(number: object) -> TypeGuard[float]:
    """Return whether an argument is a number: an int or a float, and not True or False."""
    return isinstance(number, int | float) and not isinstance(number, bool)


class Checked(Generic[T]):
    """An attribute whose values are checked when a program sets it, by ``check(name, value)``."""

    def __init__(self, default: T, check: Callable[[str, object], None]) -> None:
        self._default = default
        self._check = check
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Checked[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Checked[T] | T:
        if instance is None:
            return self
        value: T = vars(instance).get(self._name, self._default)
        return value

    def __set__(self, instance: object, value: T) -> None:
        self._check(self._name, value)
        vars(instance)[self._name] = value

"""Checks of the numbers that programs pass to a simulation."""

from __future__ import annotations


def check_number(name: str, number: object, least: int) -> None:
    """Raise TypeError or ValueError unless the argument ``name`` is a whole number, big enough."""
    expected = f"{name} must be a whole number, at least {least}, got {number!r}"
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(expected)
    if number < least:
        raise ValueError(expected)


def check_label(label: object) -> None:
    """Raise TypeError or ValueError unless ``label`` is a text that tokens and reports can hold."""
    expected = f"label must be a printable text on one line, got {label!r}"
    if not isinstance(label, str):
        raise TypeError(expected)
    if not label.isprintable():
        raise ValueError(expected)


def check_probability(name: str, number: object) -> None:
    """Raise TypeError or ValueError unless the argument ``name`` is a number from 0 to 1."""
    expected = f"{name} must be a number from 0 to 1, got {number!r}"
    if not isinstance(number, int | float):
        raise TypeError(expected)
    if not 0.0 <= number <= 1.0:
        raise ValueError(expected)

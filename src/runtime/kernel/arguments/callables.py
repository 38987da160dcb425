"""Checks of callbacks and protocol factories at the time of the call that passes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

P = TypeVar("P")


def check_callback(callback: object, method: str) -> None:
    """Raise TypeError if ``callback`` cannot be a callback; the message names ``method``."""
    if inspect.iscoroutine(callback):
        callback.close()
        raise TypeError(
            f"coroutines cannot be used with {method}(), got {callback!r}: "
            "make it a task with create_task()"
        )
    if not callable(callback):
        raise TypeError(f"{method}() expected a callable object, got {callback!r}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"coroutines cannot be used with {method}(): {callback!r} is a coroutine function, "
            "and its coroutine would never run; call it, and make the coroutine a task with "
            "create_task()"
        )


def check_factory(factory: object) -> None:
    """Raise TypeError unless ``factory`` can be called."""
    if not callable(factory):
        raise TypeError(
            f"protocol_factory must be callable, got {factory!r}: give the class of the protocol, "
            "or a function that returns one for each connection"
        )


def make_protocol(factory: Callable[[], P]) -> P:
    """Call ``factory`` and return the protocol that it makes.

    Raises AttributeError if the result has no ``connection_made``, and so is not a protocol.
    """
    check_factory(factory)
    protocol = factory()
    if not hasattr(protocol, "connection_made"):
        advice = "does protocol_factory return it?" if protocol is None else "is it a protocol?"
        raise AttributeError(
            f"{type(protocol).__name__!r} object has no attribute 'connection_made': {advice}",
            name="connection_made",
            obj=protocol,
        )
    return protocol

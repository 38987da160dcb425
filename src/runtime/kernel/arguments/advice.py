"""What to write instead: the ends of messages about what is usually mistaken for something else.

Each function returns the end of a sentence, with a colon before it, or nothing where there is no
advice.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from datetime import timedelta


def name_of(function: object) -> str:
    """Return what a function is called by."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def instead_of_awaiting(thing: object) -> str:
    """Say what to write where something stands that cannot be awaited."""
    if inspect.iscoroutinefunction(thing):
        return f": call the coroutine function, as in {name_of(thing)}()."
    if inspect.isasyncgenfunction(thing) or inspect.isasyncgen(thing):
        return ": go through an asynchronous generator with 'async for'."
    if asyncio.isfuture(thing):
        return ": it is a future already; await it."
    if thing is None:
        return ": what was called here has returned nothing. Is its 'def' to be an 'async def'?"
    if isinstance(thing, (list, tuple, set, frozenset, dict)) or inspect.isgenerator(thing):
        return ": give several awaitables one by one to gather(), as in gather(*them)."
    if callable(thing):
        return (
            f": {name_of(thing)} is an ordinary function. 'async def' makes a coroutine function; "
            "to_thread() calls an ordinary one in a thread."
        )
    return "."


def instead_of_seconds(value: object) -> str:
    """Say what to write where something stands that is no number of seconds."""
    if isinstance(value, timedelta):
        return ": take its total_seconds()."
    if isinstance(value, (str, bytes)):
        return ": make a number of it with float()."
    return "."

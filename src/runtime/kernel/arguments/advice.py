"""Advice for error messages about common mistakes.

Each function returns the end of a sentence: a colon and the advice, or nothing.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys


def name_of(function: object) -> str:
    """Return the name of a function, also of one inside a ``functools.partial``."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def advice_on_awaitable(value: object) -> str:
    """Return advice about an object that was given in place of an awaitable."""
    if inspect.iscoroutinefunction(value):
        return f": call the coroutine function, as in {name_of(value)}()"
    if inspect.isasyncgenfunction(value) or inspect.isasyncgen(value):
        return ": iterate over an asynchronous generator with 'async for'"
    if asyncio.isfuture(value):
        return ": it is a future already; await it"
    if value is None:
        return ": the function that was called returned None; should its 'def' be an 'async def'?"
    if isinstance(value, (list, tuple, set, frozenset, dict)) or inspect.isgenerator(value):
        return ": pass several awaitables one by one to gather(), as in gather(*awaitables)"
    if callable(value):
        return (
            f": {name_of(value)} is an ordinary function; 'async def' makes a coroutine function, "
            "and to_thread() calls an ordinary function in a thread"
        )
    return ""


def advice_on_seconds(value: object) -> str:
    """Return advice about an object that was given in place of a number of seconds."""
    datetime = sys.modules.get("datetime")  # Not imported: most programs do not need it.
    if datetime is not None and isinstance(value, datetime.timedelta):
        return ": pass its total_seconds()"
    if isinstance(value, (str, bytes)):
        return ": convert it with float()"
    return ""

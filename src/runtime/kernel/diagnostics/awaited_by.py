"""The tasks and futures that wait for a future, computed from its subscribers for call graphs.

From Python 3.14, each of asyncio's futures keeps a set of its waiters. The futures of this package
do not: each subscriber of a future has a method that returns the task or future on whose behalf it
subscribed. For the callbacks of asyncio's own ``wait()``, ``gather()``, ``shield()``,
``as_completed()`` and ``TaskGroup``, the task is read from the variable or attribute in which these
keep it; so is the task that has entered a task group of anyio.
"""

from __future__ import annotations

from asyncio import isfuture
from collections.abc import Iterable
from functools import partial
from types import FunctionType
from typing import Any

_VARIABLE = "cur_task"
"""The variable in which asyncio's functions keep the task that called them."""

_ATTRIBUTES = ("_cur_task", "_parent_task")
"""The attributes in which asyncio's objects keep the task that made them."""

_WAKE_UP_METHODS = frozenset({"task_wakeup", "__wakeup"})
"""The names of the methods by which a future wakes an ``asyncio.Task``, in C and in Python."""


def waiters_of(future: Any) -> list[Any]:
    """Return the tasks and futures that wait for ``future``, of this package or of asyncio."""
    found = list(getattr(future, "_asyncio_awaited_by", None) or ())
    callbacks = getattr(future, "_callbacks", None) or ()
    found += [each for each in waiters_of_subscribers(callbacks) if each not in found]
    return found


def waiters_of_subscribers(subscribers: Iterable[Any]) -> list[Any]:
    """Return the tasks and futures on whose behalf ``subscribers`` are subscribed, each once.

    A subscriber is a runnable, a pair of a callback and its context, or None.
    """
    found: list[Any] = []
    followed: list[Any] = []
    pending = [*subscribers]
    for subscriber in pending:  # This includes the subscribers that are appended on the way.
        callback = subscriber[0] if isinstance(subscriber, tuple) else subscriber
        if isinstance(callback, partial):
            future = _future_of_wait_for(callback)
            if future is not None and all(future is not each for each in followed):
                followed.append(future)
                pending += _subscribers_of(future)
            continue
        waiter = _waiter_of_subscriber(callback)
        if waiter is not None and waiter not in found:
            found.append(waiter)
    return found


def _waiter_of_subscriber(callback: Any) -> Any:
    owner = getattr(callback, "__self__", callback)
    if getattr(callback, "__name__", "") in _WAKE_UP_METHODS:
        return owner
    on_behalf_of = getattr(owner, "_on_behalf_of", None)
    if on_behalf_of is not None:
        return on_behalf_of()
    if isinstance(callback, FunctionType):
        if _is_defined_in_asyncio(callback):
            return None if _has_gather_ended(callback) else _variable_of(callback, _VARIABLE)
        return _host_of_group(callback)
    for attribute in _ATTRIBUTES:
        task = getattr(owner, attribute, None)
        if task is not None:
            # A task that has ended may have left an iterator of as_completed() unfinished.
            return None if task.done() else task
    return None


def _future_of_wait_for(callback: partial[Any]) -> Any:
    """Return the future of a callback of asyncio's ``wait_for``; None for another callback.

    After its timeout, ``wait_for`` awaits this future until the cancelled task has ended.
    """
    if _is_defined_in_asyncio(callback.func) and callback.args and isfuture(callback.args[0]):
        return callback.args[0]
    return None


def _subscribers_of(future: Any) -> list[Any]:
    list_subscribers = getattr(future, "_list_subscribers", None)
    if list_subscribers is not None:
        return [*list_subscribers()]
    return [*(getattr(future, "_callbacks", None) or ())]


def _has_gather_ended(function: FunctionType) -> bool:
    """Return whether the ``gather`` of a callback is done, because another of its tasks failed."""
    outer = _variable_of(function, "outer")
    return isfuture(outer) and bool(outer.done())


def _host_of_group(function: FunctionType) -> Any:
    """Return the task that has entered the group of one of anyio's callbacks, or None.

    From Python 3.14, anyio tells asyncio itself, by a function that leaves out other futures than
    asyncio's own.
    """
    if not str(function.__module__).startswith("anyio."):
        return None
    group = _variable_of(function, "self")
    task = getattr(getattr(group, "cancel_scope", None), "_host_task", None)
    return None if task is None or task.done() else task


def _is_defined_in_asyncio(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("asyncio.")


def _variable_of(function: FunctionType, name: str) -> Any:
    """Return the value of a cell or a default of a nested function, or None."""
    code = function.__code__
    if name in code.co_freevars:
        assert function.__closure__ is not None
        try:
            return function.__closure__[code.co_freevars.index(name)].cell_contents
        except ValueError:
            return None  # The cell is still empty.
    parameters = code.co_varnames[: code.co_argcount]
    if name in parameters and function.__defaults__:
        return function.__defaults__[parameters.index(name) - code.co_argcount]
    return None

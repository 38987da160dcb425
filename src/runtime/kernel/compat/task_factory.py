"""Options of ``create_task``, and calls of task factories with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeAlias

from runtime.kernel.daemons import daemon_context

TaskFactory: TypeAlias = Callable[..., Any]
"""Makes a task: ``factory(loop, coro, **options)``."""


def take_options(options: dict[str, Any]) -> tuple[object, Context | None, bool]:
    """Return the options of the default factory: name, context, and whether to start eagerly.

    Raises TypeError for an unknown option.
    """
    name = options.pop("name", None)
    eager_start = options.pop("eager_start", None)
    _apply_daemon(options)
    context: Context | None = options.pop("context", None)
    if options:
        raise TypeError(
            f"create_task() got an unexpected keyword argument {next(iter(options))!r}, "
            "which only a task factory could take"
        )
    return name, context, bool(eager_start)


def _apply_daemon(options: dict[str, Any]) -> None:
    """Replace the option ``daemon`` by a context in which the variable for it is set."""
    daemon = options.pop("daemon", None)
    if daemon is not None:
        options["context"] = daemon_context(options.get("context"), bool(daemon))


def call_factory(factory: TaskFactory, loop: object, coro: object, options: dict[str, Any]) -> Any:
    """Call a task factory with the options of ``create_task``; return the task that it makes.

    Up to Python 3.13 asyncio passes factories no name, and a context only if it is not None. A
    factory that was written for these versions, and has no such parameters, is called in that way.
    """
    _apply_daemon(options)
    if "name" not in options and options.get("context", loop) is not None:
        return factory(loop, coro, **options)
    taken = _keywords_of(factory)
    if taken is not None and options.get("context", loop) is None and "context" not in taken:
        del options["context"]
    if taken is None or "name" in taken or "name" not in options:
        return factory(loop, coro, **options)
    name = options.pop("name")
    task = factory(loop, coro, **options)
    if name is not None:
        task.set_name(name)
    return task


def _keywords_of(factory: TaskFactory) -> set[str] | None:
    """Return the names of the parameters of ``factory``; None if it takes any keyword."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}

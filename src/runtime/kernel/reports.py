"""Reports of what no caller can be told, and the checks that keep bad input out of the loop."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Final, Protocol

from runtime.kernel.describe import safe_repr
from runtime.kernel.failure import is_cancellation

_logger: Final = logging.getLogger("asyncio")

_UNRETRIEVED: Final = "exception was never retrieved"
"""How a message of asyncio's futures ends that is about an exception for which nobody has asked."""


class HasFileno(Protocol):
    """A socket, a file, or anything else that has a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def check_callback(callback: object, method: str) -> None:
    """Raise TypeError when ``callback`` cannot be a callback of ``method``."""
    if inspect.iscoroutine(callback):
        callback.close()
        raise TypeError(
            f"coroutines cannot be used with {method}(), as {callback!r}: "
            "make a task of it with create_task()."
        )
    if not callable(callback):
        raise TypeError(f"{method}() takes a callable object, not {callback!r}.")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"coroutines cannot be used with {method}(): {callback!r} is a coroutine function, "
            "whose coroutine nobody would run; make a task of it with create_task()."
        )


def descriptor(fd: int | HasFileno) -> int:
    """Return the number of a descriptor given as such or as an object with ``fileno()``.

    Raises ValueError when it is neither, or closed.
    """
    if isinstance(fd, int):
        number = fd
    else:
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(
                f"Invalid file object: {fd!r} is no file descriptor, nor an open object with "
                "fileno()."
            ) from None
    if number < 0:
        raise ValueError(f"{fd!r} is closed, or its file descriptor is not valid: {number}.")
    return number


def hand_over(
    loop: Any, handler: Callable[[Any, Any], object] | None, context: Mapping[str, Any]
) -> None:
    """Give ``context`` to ``handler``, or to the loop's default; survive what they raise.

    A handler of the user's runs in the context of the task or the callback that it is about. A
    future of asyncio's reports a CancelledError that nobody retrieved, as its ``gather()`` ends
    with when it is cancelled: that is no failure, and goes no further.
    """
    message = context.get("message")
    if str(message).endswith(_UNRETRIEVED) and is_cancellation(context.get("exception")):
        return
    if handler is None:
        try:
            loop.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            _logger.error("Exception in default exception handler", exc_info=True)
        return
    variables = _variables_of(context)
    try:
        if variables is None:
            handler(loop, context)
        else:
            variables.run(handler, loop, context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        try:
            loop.default_exception_handler(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": error,
                    "context": context,
                }
            )
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            _logger.error(
                "Exception in default exception handler while handling an unexpected error "
                "in custom exception handler",
                exc_info=True,
            )


def _variables_of(context: Mapping[str, Any]) -> Context | None:
    """Return the context of what an exception came from, unless it is entered already."""
    source: Any = context.get("task") or context.get("future") or context.get("handle")
    variables: object = source.get_context() if hasattr(source, "get_context") else None
    if not isinstance(variables, Context):
        return None
    try:
        variables.run(_nothing)
    except RuntimeError:
        return None
    return variables


def _nothing() -> None:
    """Find out whether a context can be entered."""


def log_exception_context(context: Mapping[str, Any]) -> None:
    """Log an exception handler's context as an error, one line for each of its entries."""
    lines = [context.get("message") or "Unhandled exception in event loop"]
    for key in sorted(context):
        if key in ("message", "exception"):
            continue
        value = context[key]
        if key in ("source_traceback", "handle_traceback"):
            stack = "".join(traceback.format_list(value)).rstrip()
            lines.append(f"{key.replace('_', ' ')} (most recent call last):\n{stack}")
        else:
            lines.append(f"{key}: {safe_repr(value, None)}")
    _logger.error("\n".join(lines), exc_info=context.get("exception"))

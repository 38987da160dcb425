"""Reports of errors that no caller receives, to the exception handler and to the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Final

from runtime.kernel.diagnostics.age import age_of
from runtime.kernel.diagnostics.describe import safe_repr
from runtime.kernel.errors import is_cancellation

_logger: Final = logging.getLogger("asyncio")

_UNRETRIEVED: Final = "exception was never retrieved"
"""The end of the messages of asyncio's futures about an exception that was never retrieved."""


def call_exception_handler(
    loop: Any, handler: Callable[[Any, Any], object] | None, context: Mapping[str, Any]
) -> None:
    """Call ``handler``, or the loop's default handler, with ``context``; log their exceptions.

    A handler of the program runs in the context of the task or the callback that the report is
    about. A report by asyncio about a CancelledError that was never retrieved is dropped: it comes
    from a cancelled ``asyncio.gather()``, and is not a failure.
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


def report_unraised(loop: Any, main: Any, raised: BaseException) -> None:
    """Report the exception of the main task of a run that another exception, ``raised``, ends.

    Nothing happens if the task is not done, or if the two are the same. The exception of the task
    counts as retrieved afterwards.
    """
    if not main.done() or main.cancelled():
        return
    error = main.exception()
    if error is None or error is raised or is_cancellation(error):
        return
    loop.call_exception_handler(
        {
            "message": "The main task failed; that is not raised, because "
            f"{safe_repr(raised)} ends the run",
            "exception": error,
            "task": main,
        }
    )


def _variables_of(context: Mapping[str, Any]) -> Context | None:
    """Return the context of the task or callback that failed; None if it is entered already."""
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
    """Do nothing, in order to test whether a context can be entered."""


def log_exception_context(context: Mapping[str, Any]) -> None:
    """Log the context of an exception handler as an error, with a line for each entry."""
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
    subject: object = context.get("task") or context.get("future")
    describe_age = getattr(subject, "_describe_age", None)
    if age := age_of(subject) if describe_age is None else describe_age():
        lines.append(f"age: {age}")
    error: object = context.get("exception")
    if (reason := _reason_behind(error)) is not None:
        lines.append(f"cancel reason: {reason}")
    _logger.error("\n".join(lines), exc_info=context.get("exception"))


def _reason_behind(error: object) -> object:
    """Return the reason of the cancellation during which ``error`` was raised, or None."""
    seen: set[int] = set()  # A program can make a cycle of contexts.
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        reason: object = getattr(error, "cancel_reason", None)
        if reason is not None:
            return reason
        error = error.__cause__ or error.__context__
    return None

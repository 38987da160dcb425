"""``LogContext``: a filter that adds the running task and its context to the records of a log."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from threading import get_ident
from typing import Any

from runtime.kernel.compat.registry import loop_of_thread
from runtime.kernel.diagnostics.describe import describe_cancellation
from runtime.kernel.errors import CancelledError


class LogContext(logging.Filter):
    """Adds attributes to every log record, for the ``format`` of the log.

    ``task_name``
        The name of the task that logs, or ``-`` in a callback and outside of a loop.
    ``cancel_reason``
        The message of the ``CancelledError`` that is handled or logged, or else its reason, or else
        an empty text.

    ``variables`` are context variables, by the name of the attribute that shows the value of each.
    A variable without a value is shown as ``-``. Add the filter to a handler, and not to a logger:
    a logger does not apply its filters to the records of its children. Raises TypeError if one of
    ``variables`` is not a ``contextvars.ContextVar``, and ValueError if its name is that of another
    attribute of log records.

    >>> import contextvars, logging, sys, runtime
    >>> request = contextvars.ContextVar("request")
    >>> handler = logging.StreamHandler(sys.stdout)
    >>> handler.addFilter(runtime.observe.LogContext(request=request))
    >>> handler.setFormatter(logging.Formatter("[%(task_name)s %(request)s] %(message)s"))
    >>> logger = logging.getLogger("example")
    >>> logger.addHandler(handler)
    >>> async def handle() -> None:
    ...     request.set("GET /")
    ...     logger.warning("out of stock")
    >>> async def main() -> None:
    ...     await runtime.create_task(handle(), name="client 7")
    >>> runtime.run(main())
    [client 7 GET /] out of stock
    """

    def __init__(self, **variables: ContextVar[Any]) -> None:
        super().__init__()
        taken = vars(logging.makeLogRecord({})).keys() | {"task_name", "cancel_reason", "message"}
        for name, variable in variables.items():
            if not isinstance(variable, ContextVar):
                raise TypeError(f"{name} must be a contextvars.ContextVar, got {variable!r}")
            if name in taken:
                raise ValueError(f"{name!r} is an attribute of every log record: use another name")
        self._variables = variables

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes to ``record``; return True."""
        loop = loop_of_thread(get_ident())
        task = None if loop is None else loop._current
        record.task_name = "-" if task is None else task.get_name()
        record.cancel_reason = _cancel_reason(record)
        for name, variable in self._variables.items():
            setattr(record, name, variable.get("-"))
        return True


def _cancel_reason(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else sys.exception()
    while error is not None and not isinstance(error, CancelledError):
        error = error.__cause__ or error.__context__
    return "" if error is None else describe_cancellation(error)

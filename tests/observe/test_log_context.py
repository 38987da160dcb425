"""``LogContext``: the task, its context variables and the reason of a cancellation in a log."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

import runtime
from runtime.observe import LogContext

request: ContextVar[str] = ContextVar("request")


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(LogContext(request=request))
    handler.setFormatter(
        logging.Formatter("%(task_name)s|%(request)s|%(cancel_reason)s|%(message)s")
    )
    logger = logging.getLogger("tests.observe.log_context")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, out
    logger.removeHandler(handler)


Log = tuple[logging.Logger, io.StringIO]


async def test_records_name_the_task_and_show_the_variables_of_its_context(log: Log) -> None:
    logger, out = log

    async def handle() -> None:
        request.set("GET /")
        logger.warning("in a task")
        runtime.get_running_loop().call_soon(logger.warning, "in a callback")

    await runtime.create_task(handle(), name="client 7")
    await runtime.sleep(0)
    assert out.getvalue() == "client 7|GET /||in a task\n-|GET /||in a callback\n"


def test_records_outside_of_a_loop(log: Log) -> None:
    logger, out = log
    logger.warning("outside")
    assert out.getvalue() == "-|-||outside\n"


async def test_the_reason_of_a_group_is_shown_in_full(log: Log) -> None:
    logger, out = log

    async def clean_up() -> None:
        try:
            await runtime.sleep_forever()
        finally:
            logger.warning("cleaning up")

    async with runtime.TaskGroup() as group:
        group.create_task(clean_up(), name="cleaner")
        await runtime.sleep(0)
        group.cancel("enough")
    line = out.getvalue()
    assert re.fullmatch(r"cleaner\|-\|cancelled by .* at .*\.py:\d+ in .*: enough\|.*\n", line)


async def test_the_message_of_a_cancellation_is_shown_while_it_is_handled(log: Log) -> None:
    logger, out = log

    async def clean_up() -> None:
        try:
            await runtime.sleep_forever()
        finally:
            logger.warning("cleaning up")
            try:
                raise OSError
            except OSError:
                logger.exception("failed")

    task = runtime.create_task(clean_up(), name="cleaner")
    await runtime.sleep(0)
    task.cancel("the client has left")
    await runtime.wait([task])
    lines = [line for line in out.getvalue().splitlines() if line.startswith("cleaner")]
    assert lines == [
        "cleaner|-|the client has left|cleaning up",
        "cleaner|-|the client has left|failed",
    ]


def test_the_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match=r"request must be a contextvars\.ContextVar, got 'x'"):
        LogContext(request="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'lineno' is an attribute of every log record"):
        LogContext(lineno=request)

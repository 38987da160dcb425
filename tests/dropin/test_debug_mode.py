"""Debug mode: the ways to turn it on, and its reports, compared with asyncio's."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.support.programs import ROOT, TIMEOUT

LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "runtime": runtime.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def make_loop(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return LOOPS[request.param]


PROGRAM = """
import asyncio, runtime

async def main():
    return asyncio.get_running_loop().get_debug()

print(runtime.run(main()))
with asyncio.Runner(loop_factory=runtime.Loop) as runner:
    print(runner.run(main()))
with asyncio.Runner(loop_factory=runtime.Loop, debug=not runtime.new_event_loop().get_debug()) as r:
    print(r.run(main()))
"""


@pytest.mark.parametrize(
    ("options", "environment", "on"),
    [
        ([], {}, False),
        (["-X", "dev"], {}, True),
        ([], {"PYTHONASYNCIODEBUG": "1"}, True),
        ([], {"PYTHONASYNCIODEBUG": ""}, False),
    ],
)
def test_how_it_is_turned_on(options: list[str], environment: dict[str, str], on: bool) -> None:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")
    }
    done = subprocess.run(
        [sys.executable, *options, "-W", "ignore", "-c", PROGRAM],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout.split() == [str(on), str(on), str(not on)]


def block(loop: Any) -> None:
    time.sleep(2 * loop.slow_callback_duration)


def test_a_slow_callback_and_a_slow_task_are_logged_in_asyncio_s_words(
    make_loop: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.02
        loop.call_soon(block, loop)
        await all_tasks_blocked()
        block(loop)

    with (
        caplog.at_level(logging.WARNING, "asyncio"),
        asyncio.Runner(loop_factory=make_loop, debug=True) as runner,
    ):
        runner.run(main())
    slow = [
        record.getMessage()
        for record in caplog.records
        if "took" in record.getMessage() and record.levelname == "WARNING"
    ]
    # On a busy machine, other callbacks may be reported as slow too.
    for words in (r"Handle .*block\(.*at ", r".*Task.*coro=<.*main\(\).*"):
        shown = rf"Executing <{words}.*test_debug_mode\.py:\d+.*> took \d+\.\d{{3}} seconds"
        assert any(re.fullmatch(shown, message) for message in slow), slow


def test_a_callback_from_the_wrong_thread_is_refused(make_loop: Callable[[], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for call in (
            lambda: loop.call_soon(print),
            lambda: loop.call_later(0, print),
            lambda: loop.call_at(0, print),
        ):
            with pytest.raises(RuntimeError, match=r"thread"):
                await loop.run_in_executor(None, call)

    with asyncio.Runner(loop_factory=make_loop, debug=True) as runner:
        runner.run(main())


def test_an_object_that_is_no_callback_is_refused(make_loop: Callable[[], Any]) -> None:
    async def function() -> None: ...

    async def main() -> None:
        loop = asyncio.get_running_loop()
        callback: Any = function
        with pytest.raises(TypeError, match="callable|coroutines"):
            loop.call_soon(callback)
        with pytest.raises(TypeError, match="callable|coroutines"):
            await loop.run_in_executor(None, callback)

    with asyncio.Runner(loop_factory=make_loop, debug=True) as runner:
        runner.run(main())


def test_where_a_task_was_created_is_reported(make_loop: Callable[[], Any]) -> None:
    reports: list[dict[str, Any]] = []

    async def fail() -> None:
        raise LookupError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reports.append(what))
        task = asyncio.create_task(fail())
        await all_tasks_blocked()
        del task

    with asyncio.Runner(loop_factory=make_loop, debug=True) as runner:
        runner.run(main())
    assert isinstance(reports[0]["exception"], LookupError)
    assert "main" in [frame.name for frame in reports[0]["source_traceback"]]

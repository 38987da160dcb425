"""Reports of long callbacks that block the loop."""

from __future__ import annotations

import logging
import time

import pytest

import runtime


def test_the_watch_names_the_line_without_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    async def blocks() -> None:
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.005)  # this blocks the loop

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.watch_slow_callbacks(0.02)
        await runtime.create_task(blocks(), name="blocking")

    with caplog.at_level(logging.WARNING):
        runtime.run(main(), debug=False)
    assert "this blocks the loop" in caplog.records[0].getMessage()


def test_debug_mode_names_the_task_and_the_line(caplog: pytest.LogCaptureFixture) -> None:
    async def blocks() -> None:
        time.sleep(0.02)
        await runtime.sleep(0)

    async def main() -> None:
        runtime.get_running_loop().slow_callback_duration = 0.01
        await runtime.create_task(blocks(), name="blocking")

    runtime.run(main(), debug=True)
    (text,) = [r.getMessage() for r in caplog.records if "'blocking'" in r.getMessage()]
    assert "Executing <Task" in text
    assert f"{__file__}:" in text

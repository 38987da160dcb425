"""Reports say when a task was created, and when it failed or began to wait."""

from __future__ import annotations

import gc
import re
import time

import pytest

import runtime

_SECONDS = r"\d+\.\d\d s"


async def fail() -> None:
    raise ValueError("of the test")


def test_the_report_of_an_exception_says_when_the_task_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = runtime.new_event_loop()
    task = loop.create_task(fail(), name="failing")
    loop.run_until_complete(runtime.sleep(0.03))
    del task
    gc.collect()
    loop.close()
    (record,) = caplog.records
    assert "name='failing'" in record.message
    found = re.search(
        rf"^age: created ({_SECONDS}) ago, failed ({_SECONDS}) ago$", record.message, re.MULTILINE
    )
    assert found is not None
    created, failed = (float(text.removesuffix(" s")) for text in found.groups())
    assert created >= failed >= 0.02


def test_the_report_of_a_task_that_is_pending_says_since_when_it_waits_in_debug_mode(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for debug in (False, True):
        caplog.clear()
        loop = runtime.new_event_loop()
        loop.set_debug(debug)
        task = loop.create_task(runtime.sleep_forever(), name="forgotten")
        loop.run_until_complete(runtime.sleep(0.03))
        loop.close()
        (record,) = [each for each in caplog.records if "it is pending" in each.message]
        waiting = rf", waiting for {_SECONDS}" * debug
        assert re.search(rf"^age: created {_SECONDS} ago{waiting}$", record.message, re.MULTILINE)
        assert ("created at" in record.message or "source traceback" in record.message) is debug
        del task


def test_a_loop_with_another_clock_and_a_plain_future_have_no_age(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = runtime.new_event_loop()
    future = loop.create_future()
    future.set_exception(ValueError("of the test"))
    del future
    gc.collect()
    loop.close()
    other = runtime.Loop(clock=lambda: time.monotonic() + 1.0)
    failed = other.create_task(fail())
    other.run_until_complete(runtime.sleep(0))
    del failed
    gc.collect()
    other.close()
    messages = [each.message for each in caplog.records if "never retrieved" in each.message]
    assert len(messages) == 2
    assert not [each for each in messages if "age:" in each]

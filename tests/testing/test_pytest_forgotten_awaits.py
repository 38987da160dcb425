"""The pytest plugin: a coroutine that was never awaited fails the test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.inner_pytest import check

pytestmark = pytest.mark.slow

WARN = "-Wdefault::RuntimeWarning"

FORGOTTEN = """
async def work():
    pass

async def test_at_once():
    work()

async def test_of_the_library():
    runtime.sleep(1)

async def test_at_the_end():
    coro = work()

async def test_in_a_cycle():
    cycle = [work()]
    cycle.append(cycle)

async def test_in_a_task():
    async def forget():
        work()
    await runtime.create_task(forget())

@pytest.mark.runtime(debug=True)
async def test_in_debug_mode():
    work()

@pytest.mark.runtime(leaks="defer")
async def test_that_defers():
    work()

@pytest.fixture
async def forgetful_setup():
    work()
    yield

async def test_of_a_setup(forgetful_setup):
    pass

@pytest.fixture
async def forgetful_teardown():
    yield
    work()

async def test_of_a_teardown(forgetful_teardown):
    pass
"""

FINE = """
import warnings

async def work():
    pass

@pytest.mark.runtime(leaks="ignore")
async def test_ignored():
    work()

async def test_expected():
    with pytest.warns(RuntimeWarning, match="never awaited"):
        work()

@pytest.mark.filterwarnings("ignore:coroutine 'work' was never awaited:RuntimeWarning")
async def test_filtered():
    work()

async def test_closed():
    work().close()

async def test_other_warnings_are_shown_as_ever(recwarn):
    warnings.warn("another", RuntimeWarning)
    assert [str(warning.message) for warning in recwarn] == ["another"]

async def test_cancelled_before_it_began():
    runtime.create_task(work()).cancel()
"""


def test_a_coroutine_that_is_never_awaited_fails_the_test(tmp_path: Path) -> None:
    output = check(tmp_path, FORGOTTEN, {"failed": 8, "passed": 1, "error": 1}, WARN)
    lines = (tmp_path / "test_it.py").read_text().splitlines()
    found = [
        (name, int(line))
        for name, line in re.findall(
            r"^coroutine (\w+)\(\) was never awaited: it was made at .*test_it\.py:(\d+)$",
            output,
            re.MULTILINE,
        )
    ]
    assert len(found) == 9
    for name, line in found:
        assert f"{name}(" in lines[line - 1]
    assert len(set(found)) == 9


def test_where_the_warning_is_expected_it_does_not(tmp_path: Path) -> None:
    check(tmp_path, FINE, {"passed": 6}, WARN)


def test_a_test_that_failed_leaves_none_to_the_next(tmp_path: Path) -> None:
    tests = """
import gc

kept = []

async def work():
    pass

async def test_that_fails():
    coro = work()
    kept.append(coro)
    raise ZeroDivisionError

async def test_next():
    kept.clear()
    gc.collect()

async def test_that_waits_for_ever():
    coro = work()
    kept.append(coro)
    await runtime.Event().wait()

async def test_last():
    kept.clear()
    gc.collect()

async def test_that_forgets():
    work()
"""
    check(tmp_path, tests, {"failed": 3, "passed": 2}, WARN)

"""The pytest plugin: a test that waits for ever fails alone, and shows its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.inner_pytest import check

pytestmark = pytest.mark.slow


HOLDING = """
@pytest.fixture(scope="session")
async def lock():
    lock = runtime.Lock()
    yield lock
    async with lock:
        pass

@pytest.fixture
async def tidy(lock):
    yield
    async with lock:
        pass

async def hold(lock):
    async with lock:
        await runtime.Event().wait()
"""

ENDINGS = {
    "a test": """
async def test_it(tidy, lock):
    await hold(lock)
""",
    "a task of it": """
async def test_it(tidy, lock):
    runtime.create_task(hold(lock))
    await runtime.Event().wait()
""",
    "a task that it waits for": """
async def test_it(tidy, lock):
    await runtime.create_task(hold(lock))
""",
    "a test that swallows its cancellation": """
async def test_it(tidy, lock):
    async with lock:
        while True:
            try:
                await runtime.Event().wait()
            except runtime.CancelledError:
                pass
""",
    "a task that swallows its cancellation": """
async def swallow(lock):
    async with lock:
        while True:
            try:
                await runtime.Event().wait()
            except runtime.CancelledError:
                pass

async def test_it(tidy, lock):
    await runtime.create_task(swallow(lock))
""",
    "a test whose clean-up waits for ever": """
async def test_it(tidy, lock):
    async with lock:
        try:
            await runtime.Event().wait()
        finally:
            await runtime.Event().wait()
""",
    "a generator": """
async def generate(lock):
    async with lock:
        yield
        await runtime.Event().wait()

async def test_it(tidy, lock):
    async for _ in generate(lock):
        pass
""",
    "a test whose loop is stopped": """
async def test_it(tidy, lock):
    async with lock:
        runtime.get_running_loop().stop()
        await runtime.Event().wait()
""",
    "a test that a signal's handler ends": """
import signal

def fail(number, frame):
    raise LookupError("too late")

async def test_it(tidy, lock):
    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        await hold(lock)
    finally:
        signal.signal(signal.SIGALRM, before)
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_test_that_waits_for_ever_is_over_before_its_fixtures_are_torn_down(
    ending: str, tmp_path: Path
) -> None:
    tests = f"""{HOLDING}{ENDINGS[ending]}
import gc

async def test_next(tidy, lock):
    async with lock:
        pass

async def test_of_its_own():
    pass

def test_that_collects():
    gc.collect()
"""
    output = check(tmp_path, tests, {"failed": 1, "passed": 3})
    assert "left behind" not in output
    assert "never retrieved" not in output


ENDS_AT_THE_WAIT = r"\n> +await runtime\.Event\(\)\.wait\(\)\nE +.*DeadlockError"


def test_its_report_shows_places_in_the_program(tmp_path: Path) -> None:
    tests = f"""{HOLDING}
async def test_it(tidy, lock):
    await hold(lock)

async def test_a_task(lock):
    task = runtime.create_task(hold(lock), name="holding")
    await task
"""
    output = check(tmp_path, tests, {"failed": 2})
    assert (
        len(re.findall(r"\n> +await runtime\.Event\(\)\.wait\(\)\nE +.*DeadlockError", output)) == 2
    )
    # Fixtures only wait for the end of the test, and are not reported.
    assert "fixture" not in output.replace("@pytest.fixture", "")
    for name in ("scoped_loop.py", "core.py", "idle.py", "runner.py", "locks.py:"):
        assert name not in output
    assert "  holding: hold() running at" in output


def test_a_fixture_that_waits_for_ever_shows_its_line(tmp_path: Path) -> None:
    tests = """
@pytest.fixture
async def begins_never():
    await runtime.Event().wait()
    yield

async def test_setup(begins_never):
    pass

async def never():
    await runtime.Event().wait()

@pytest.fixture
async def ends_never():
    yield
    await never()

async def test_teardown(ends_never):
    pass

@pytest.fixture
async def returns_never():
    return await never()

async def test_without_yield(returns_never):
    pass

@pytest.fixture(scope="session")
async def ends_never_either():
    yield
    await never()

async def test_teardown_of_the_session(ends_never_either):
    pass
"""
    output = check(tmp_path, tests, {"passed": 2, "error": 4})
    lines = (Path(tmp_path) / "test_it.py").read_text().splitlines()
    begins = lines.index("async def begins_never():") + 2
    ends = lines.index("async def ends_never():") + 3
    assert (
        f"fixture begins_never: begins_never() running at {tmp_path}/test_it.py:{begins}" in output
    )
    assert f"fixture ends_never: ends_never() running at {tmp_path}/test_it.py:{ends}" in output
    assert output.count("in never() at") == 3
    assert re.search(ENDS_AT_THE_WAIT, output)
    for name in ("async_fixture.py", "AsyncFixture", "idle.py", "left behind"):
        assert name not in output


def test_with_hypothesis_an_example_that_waits_for_ever_is_over_before_the_next(
    tmp_path: Path,
) -> None:
    pytest.importorskip("hypothesis")
    tests = f"""{HOLDING}
from hypothesis import HealthCheck, given, settings, strategies

@settings(
    database=None,
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(strategies.integers())
async def test_it(lock, number):
    async with lock:
        if number > 10:
            await runtime.Event().wait()

async def test_next(tidy):
    pass
"""
    output = check(tmp_path, tests, {"failed": 1, "passed": 1})
    assert "number=11" in output


def test_idle_threads_of_the_loop_of_wider_fixtures_do_not_prevent_the_report(
    tmp_path: Path,
) -> None:
    tests = """
import threading

@pytest.fixture(scope="session")
async def wide():
    await runtime.to_thread(int)
    yield

async def test_wide(wide):
    pass

async def test_of_its_own():
    await runtime.Event().wait()

async def test_that_has_threads_too():
    await runtime.to_thread(int)
    await runtime.Event().wait()

async def test_that_is_woken_by_another_thread():
    loop = runtime.get_running_loop()
    future = loop.create_future()
    threading.Timer(0.05, loop.call_soon_threadsafe, (future.set_result, 1)).start()
    assert await future == 1

async def test_wide_again(wide):
    await runtime.Event().wait()
"""
    output = check(tmp_path, tests, {"failed": 3, "passed": 2}, "--timeout=60")
    assert output.count("\nE  ") >= 3
    assert "Timeout" not in output

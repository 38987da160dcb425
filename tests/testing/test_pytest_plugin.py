"""The pytest plugin, in a separate pytest run: selection, failures, and clean-up of tests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support.programs import run_code
from tests.testing.inner_pytest import ALONE, check, run_pytest

pytestmark = pytest.mark.slow


def test_it_runs_tests_and_fixtures(tmp_path: Path) -> None:
    tests = """
variable = contextvars.ContextVar("variable", default="unset")
events = []

@pytest.fixture
def plain():
    events.append("plain begins")
    yield 1
    events.append("plain ends")

@pytest.fixture
async def returned(plain):
    await runtime.sleep(0)
    return plain + 1

@pytest.fixture
async def yielded(returned):
    variable.set("of the fixture")
    async with runtime.TaskGroup() as group, runtime.timeout(60):
        task = group.create_task(runtime.sleep(3600))
        yield returned + 1
        task.cancel()
        events.append("yielded ends")

async def test_fixtures(yielded, returned, plain):
    assert (plain, returned, yielded) == (1, 2, 3)
    assert variable.get() == "of the fixture"
    assert type(asyncio.get_running_loop()) is runtime.Loop
    await asyncio.sleep(0)

def test_they_were_torn_down(returned):
    assert returned == 2
    assert events[:3] == ["plain begins", "yielded ends", "plain ends"]

class TestInAClass:
    @pytest.fixture
    async def own(self):
        self.value = 5
        yield self
        assert self.value == 6

    async def test_method(self, own):
        assert own is self and self.value == 5
        self.value = 6

@pytest.mark.parametrize("number", [1, 2])
async def test_parameters(number):
    assert number in (1, 2)

def test_ordinary(plain):
    assert plain == 1

@pytest.mark.skip
async def test_skipped():
    raise AssertionError

async def test_skips():
    pytest.skip("here")
"""
    check(tmp_path, tests, {"passed": 6, "skipped": 2})


def test_failures_are_shown_where_they_are(tmp_path: Path) -> None:
    tests = """
async def test_it():
    await runtime.sleep(0)
    left = 1
    assert left == 2

@pytest.fixture
async def broken():
    yield 1
    raise LookupError("in the fixture")

async def test_its_fixture_fails(broken):
    pass

@pytest.fixture
async def empty():
    if False:
        yield

async def test_empty(empty):
    pass

@pytest.fixture
async def twice():
    yield 1
    yield 2

async def test_twice(twice):
    pass

async def fail():
    raise LookupError("in the group")

@pytest.fixture
async def group():
    async with runtime.TaskGroup() as group:
        yield group

async def test_group(group):
    task = group.create_task(fail())
    await runtime.wait([task])

"""
    output = check(tmp_path, tests, {"failed": 1, "passed": 3, "error": 4})
    assert "assert 1 == 2" in output
    assert "run_turns" not in output.partition("test_it_fixture")[0].partition("LookupError")[0]
    assert "in the fixture" in output
    assert "'empty' did not yield a value" in output
    assert "'twice' yielded more than one value" in output
    assert "in the group" in output


def test_without_the_option_it_does_nothing(tmp_path: Path) -> None:
    tests = """
async def test_it():
    raise AssertionError("was run")

def test_ordinary():
    pass
"""
    found, output = run_pytest(tmp_path, tests, *ALONE)
    assert found == {"failed": 1, "passed": 1}
    assert "not natively supported" in output


def test_a_marker_chooses_a_test_and_its_clock(tmp_path: Path) -> None:
    tests = """
@pytest.mark.runtime(clock="virtual")
async def test_virtual():
    loop = runtime.get_running_loop()
    await asyncio.sleep(86400)
    assert loop.time() == 86400

@pytest.mark.runtime(clock="virtual")
class TestClass:
    @pytest.fixture
    async def an_hour_later(self):
        await runtime.sleep(3600)

    async def test_virtual(self, an_hour_later):
        assert runtime.get_running_loop().time() == 3600

    @pytest.mark.runtime(clock="real", debug=True)
    async def test_real(self):
        assert runtime.get_running_loop().time() != 3600
        assert runtime.get_running_loop().get_debug()

@pytest.mark.runtime(clock="virtual", real_io="wait", patience=0.01)
async def test_io():
    async with await runtime.start_server(hang_up, "127.0.0.1", 0) as server:
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        await runtime.sleep(3600)
        writer.close()
        await writer.wait_closed()

@pytest.mark.runtime
async def test_deadlock():
    await runtime.Event().wait()
"""
    found, output = run_pytest(tmp_path, tests, *ALONE)
    assert found == {"passed": 4, "failed": 1}, output
    assert "in Event.wait()" in output


def test_an_option_chooses_the_clock(tmp_path: Path) -> None:
    tests = """
async def test_it():
    await runtime.sleep(86400)
"""
    check(tmp_path, tests, {"passed": 1}, "--runtime-clock=virtual")


LEAKS = """
async def forget():
    await runtime.sleep(3600)

async def fail():
    raise LookupError("nobody asks")

async def test_task():
    runtime.create_task(forget(), name="forgotten")
    await runtime.sleep(0)

async def test_daemon():
    runtime.create_task(forget(), daemon=True)

async def test_ends_soon():
    runtime.create_task(runtime.sleep(0))

async def test_exception():
    runtime.create_task(fail())
    await runtime.sleep(0)

async def test_callback():
    runtime.get_running_loop().call_soon(lambda: 1 // 0)

async def test_cycle():
    task = runtime.create_task(fail())
    await runtime.wait([task])
    cycle = [task]
    cycle.append(cycle)

async def test_descriptor():
    os.open(os.devnull, os.O_RDONLY)

async def test_closes_soon():
    async with await runtime.start_server(hang_up, "127.0.0.1", 0) as server:
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()

async def test_clean():
    await runtime.gather(runtime.sleep(0), runtime.to_thread(int))

@pytest.mark.runtime(leaks="ignore")
async def test_ignored():
    runtime.create_task(forget(), name="ignored")
    os.close(os.open(os.devnull, os.O_RDONLY))

@pytest.fixture
async def leaky():
    task = runtime.create_task(forget(), name="of the fixture")
    yield

async def test_of_a_fixture(leaky):
    pass

@pytest.fixture
async def open_file():
    os.open(os.devnull, os.O_RDONLY)
    yield

async def test_of_a_fixture_s_descriptor(open_file):
    pass

async def test_that_fails():
    runtime.create_task(forget(), name="of a failure")
    raise ZeroDivisionError
"""


def test_leaks_fail_the_test(tmp_path: Path) -> None:
    output = check(tmp_path, LEAKS, {"failed": 6, "passed": 7, "error": 2})
    assert re.search(r"task forgotten: forget\(\) running at .*test_it\.py", output)
    assert "waits for <SleepFuture" in output
    assert output.count("LookupError('nobody asks')") >= 2
    assert "ZeroDivisionError('" in output
    assert len(re.findall(r"descriptor \d+ -> /dev/null", output)) == 2
    assert "task of the fixture" in output
    assert output.count("task forgotten") == 1
    assert "of a failure" not in output.replace('name="of a failure"', "")
    assert "ignored" not in output
    for name in ("daemon", "ends_soon", "closes_soon", "clean"):
        assert f"test_{name}" not in output


def test_bad_arguments_of_the_marker(tmp_path: Path) -> None:
    tests = """
@pytest.mark.runtime(speed="virtual")
async def test_name():
    pass

@pytest.mark.runtime("virtual")
async def test_position():
    pass

@pytest.mark.runtime(leaks="maybe")
async def test_leaks():
    pass

@pytest.mark.runtime(clock="fast")
async def test_clock():
    pass

@pytest.mark.runtime
@pytest.mark.trio
async def test_two():
    pass
"""
    found, output = run_pytest(tmp_path, tests, *ALONE, settings="markers = trio\n")
    assert found == {"failed": 5}
    assert "expected clock, real_io, patience, debug, leaks by name, got speed" in output
    assert "got 'virtual'" in output
    assert "got 'maybe'" in output
    assert "got 'fast'" in output
    assert "marked both runtime and trio" in output


def test_hypothesis(tmp_path: Path) -> None:
    pytest.importorskip("hypothesis")
    tests = """
from hypothesis import HealthCheck, given, settings, strategies

seen = []

@pytest.mark.runtime(clock="virtual")
@settings(database=None, max_examples=20)
@given(strategies.integers())
async def test_it(number):
    await runtime.sleep(3600)
    seen.append(number)

def test_it_was_run():
    assert len(seen) >= 10

@settings(database=None, max_examples=20)
@given(strategies.integers())
async def test_fails(number):
    await runtime.sleep(0)
    assert number < 10
"""
    output = check(tmp_path, tests, {"passed": 2, "failed": 1})
    assert re.search(r"test_fails\(\s*(E\s*)?number=10", output)


def has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


SHARED = """
@pytest.mark.{marker}
async def test_theirs({fixture}):
    assert not isinstance(asyncio.get_running_loop(), runtime.Loop)

@pytest.fixture
async def ours():
    return runtime.get_running_loop()

async def test_ours(ours):
    assert ours is asyncio.get_running_loop()
"""


@pytest.mark.skipif(not has("pytest_asyncio"), reason="needs pytest-asyncio")
def test_beside_pytest_asyncio(tmp_path: Path) -> None:
    tests = (
        SHARED.format(marker="asyncio", fixture="theirs")
        + """
import pytest_asyncio

@pytest_asyncio.fixture
async def theirs():
    return asyncio.get_running_loop()
"""
    )
    options = ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function")
    found, output = run_pytest(tmp_path, tests, "--runtime", *options, "--asyncio-mode=strict")
    assert found == {"passed": 2}, output
    _, output = run_pytest(tmp_path, tests, "--runtime", *options, "--asyncio-mode=auto")
    assert "both claim" in output


@pytest.mark.skipif(not has("anyio"), reason="needs anyio")
def test_beside_anyio(tmp_path: Path) -> None:
    tests = (
        SHARED.format(marker="anyio", fixture="anyio_backend")
        + """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
    )
    found, output = run_pytest(tmp_path, tests, "--runtime", "-p", "no:asyncio")
    assert found == {"passed": 2}, output


def test_nothing_else_imports_pytest() -> None:
    program = "import runtime, runtime.testing, sys; print('pytest' in sys.modules)"
    assert run_code(program).stdout == "False\n"

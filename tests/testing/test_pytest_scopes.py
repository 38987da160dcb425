"""The pytest plugin: fixtures of wider scope, the loops that tests share, and their ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.inner_pytest import ALONE, check, run_pytest

pytestmark = pytest.mark.slow


def test_tests_share_the_loop_of_their_fixtures(tmp_path: Path) -> None:
    tests = """
events = []

@pytest.fixture(scope="module")
async def server():
    events.append("server begins")
    async with runtime.TaskGroup() as group:
        task = group.create_task(runtime.sleep(3600))
        yield asyncio.get_running_loop()
        task.cancel()
    events.append("server ends")

@pytest.fixture(scope="class")
async def table(server):
    assert asyncio.get_running_loop() is server
    events.append("table begins")
    yield "table"
    await runtime.sleep(0)
    assert asyncio.get_running_loop() is server
    events.append("table ends")

@pytest.fixture
async def row(table):
    return asyncio.get_running_loop()

async def test_first(server):
    assert asyncio.get_running_loop() is server

class TestInAClass:
    async def test_first(self, row, server):
        assert row is server is asyncio.get_running_loop()

    def test_ordinary(self, table):
        assert table == "table"
        assert events == ["server begins", "table begins"]

async def test_of_its_own():
    events.append(asyncio.get_running_loop())

async def test_last(server):
    assert asyncio.get_running_loop() is server
    assert events[:3] == ["server begins", "table begins", "table ends"]
    assert events.pop() is not server
"""
    (tmp_path / "test_later.py").write_text("""
import runtime, sys

async def test_it():
    events = sys.modules["test_it"].events
    assert events == ["server begins", "table begins", "table ends", "server ends"]
""")
    check(tmp_path, tests, {"passed": 6})


def test_a_loop_lives_as_long_as_the_widest_fixture_on_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("""
import asyncio, pytest

@pytest.fixture(scope="session")
async def database():
    return asyncio.get_running_loop()

@pytest.fixture(scope="module")
async def page():
    return asyncio.get_running_loop()
""")
    # The first module's page uses the session's loop before any test requests the database.
    tests = """
loops = []

async def test_page(page):
    loops.append(page)

async def test_both(page, database):
    assert page is database is loops[0]
"""
    (tmp_path / "test_later.py").write_text("""
import sys

async def test_page(page):
    assert page is not sys.modules["test_it"].loops[0]

async def test_of_its_own():
    pass

async def test_the_same_page(page):
    assert not page.is_closed()
""")
    (tmp_path / "test_last.py").write_text("""
import sys

async def test_database(database):
    assert database is sys.modules["test_it"].loops[0]
""")
    check(tmp_path, tests, {"passed": 6})


def test_fixtures_of_a_package(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("")
    (inner.parent / "conftest.py").write_text("""
import asyncio, pytest

@pytest.fixture(scope="package")
async def shared():
    yield asyncio.get_running_loop()
    await asyncio.sleep(0)
""")
    module = """
import asyncio

async def test_it(shared):
    assert shared is asyncio.get_running_loop()
"""
    (inner.parent / "test_outer.py").write_text(module)
    (inner / "test_inner.py").write_text(module)
    check(tmp_path, "", {"passed": 2})


def test_overridden_parametrized_and_automatic_fixtures(tmp_path: Path) -> None:
    tests = """
@pytest.fixture(scope="module")
async def base():
    yield [asyncio.get_running_loop()]

@pytest.fixture(scope="module", params=[1, 2])
async def number(request):
    await runtime.sleep(0)
    yield request.param

@pytest.fixture
async def number_and_loop(number):
    return number, asyncio.get_running_loop()

async def test_parameters(number_and_loop, base):
    number, loop = number_and_loop
    assert number in (1, 2)
    assert base == [loop]

class TestOverridden:
    @pytest.fixture
    async def base(self, base):
        return [*base, "more"]

    @pytest.fixture(scope="class", autouse=True)
    async def automatic(self):
        TestOverridden.loop = asyncio.get_running_loop()

    async def test_it(self, base):
        assert base == [asyncio.get_running_loop(), "more"]
        assert base[0] is self.loop

class TestReplaced:
    @pytest.fixture
    def base(self):
        return []

    async def test_it(self, base):
        base.append(asyncio.get_running_loop())
        TestReplaced.loop = base[0]

    def test_it_was_its_own(self):
        assert self.loop.is_closed()
"""
    check(tmp_path, tests, {"passed": 5})


def test_a_test_sees_the_variables_of_wider_fixtures_and_keeps_its_own(tmp_path: Path) -> None:
    tests = """
wide = contextvars.ContextVar("wide", default="unset")
own = contextvars.ContextVar("own", default="unset")

@pytest.fixture(scope="module")
async def server():
    wide.set("of the server")
    yield
    assert wide.get() == "of the server"
    assert own.get() == "unset"

@pytest.fixture
async def client(server):
    own.set("of the client")

async def test_first(client):
    assert (wide.get(), own.get()) == ("of the server", "of the client")
    wide.set("of the test")

async def test_second(server):
    assert (wide.get(), own.get()) == ("of the server", "unset")
"""
    check(tmp_path, tests, {"passed": 2})


def test_a_server_and_a_connection_for_a_whole_module(tmp_path: Path) -> None:
    tests = """
async def shout(reader, writer):
    async for line in reader:
        writer.write(line.upper())
    writer.close()

@pytest.fixture(scope="module")
async def server():
    async with await runtime.start_server(shout, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()

@pytest.fixture(scope="module")
async def connection(server):
    reader, writer = await runtime.open_connection(*server)
    yield reader, writer
    writer.close()
    await writer.wait_closed()

@pytest.mark.usefixtures("connection")
async def test_named_otherwise(server):
    await runtime.sleep(0)

@pytest.mark.parametrize("word", [b"one", b"two"])
async def test_it(connection, word):
    reader, writer = connection
    writer.write(word + b"\\n")
    assert await reader.readline() == word.upper() + b"\\n"

async def test_a_connection_of_its_own(server):
    reader, writer = await runtime.open_connection(*server)
    writer.close()
    await writer.wait_closed()

async def test_descriptors_of_the_loop_are_no_leak(server):
    loop = runtime.get_running_loop()
    loop.add_signal_handler(10, print)
    loop.remove_signal_handler(10)
    process = await runtime.create_subprocess_exec("true")
    assert await process.wait() == 0
    assert await runtime.to_thread(int) == 0
"""
    check(tmp_path, tests, {"passed": 5})


LEAKS = """
async def forget():
    await runtime.sleep(3600)

async def fail():
    raise LookupError("nobody asks")

@pytest.fixture(scope="module")
async def server():
    task = runtime.create_task(forget(), name="of the server")
    yield
    task.cancel()

@pytest.fixture(scope="module")
async def late():
    task = runtime.create_task(forget(), name="of a late one")
    descriptor = os.open(os.devnull, os.O_RDONLY)
    yield
    os.close(descriptor)
    task.cancel()

@pytest.fixture(scope="module")
async def careless():
    runtime.create_task(forget(), name="of a module")
    yield

@pytest.fixture(scope="class")
async def table(server):
    runtime.create_task(forget(), name="of a class")

@pytest.fixture
async def row(server):
    runtime.create_task(forget(), name="of a test")
    os.open(os.devnull, os.O_RDONLY)

async def test_task(server, careless):
    runtime.create_task(forget(), name="forgotten")

async def test_row(row):
    pass

class TestInAClass:
    async def test_first(self, table):
        assert "forgotten" not in [task.get_name() for task in asyncio.all_tasks()]

    async def test_second(self, late):
        pass

async def test_exception(server):
    runtime.create_task(fail())

@pytest.mark.runtime(leaks="ignore")
async def test_ignored(server):
    runtime.create_task(forget(), name="ignored")

async def test_daemon(server):
    runtime.create_task(forget(), daemon=True)

async def test_clean(server, late):
    names = {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}
    names -= {"fixture server", "fixture late", "fixture careless"}
    assert names == {"of the server", "of a late one", "of a module"}
"""


def test_each_scope_is_checked_for_leaks(tmp_path: Path) -> None:
    output = check(tmp_path, LEAKS, {"failed": 2, "passed": 6, "error": 3})
    assert re.search(r"left behind:\ntask forgotten: forget\(\) running at .*test_it\.py", output)
    assert "entries are hidden" not in output
    assert output.count("(The loop runs until the end of the module test_it.py.") == 2
    assert (
        "left behind at the end of the class test_it.py::TestInAClass:\ntask of a class" in output
    )
    assert "left behind at the end of the module test_it.py:\ntask of a module" in output
    for name in ("forgotten", "of a class", "of a module", "of a test"):
        assert output.count(f"task {name}:") == 1
    assert len(re.findall(r"descriptor \d+ -> /dev/null", output)) == 1
    assert "LookupError('nobody asks')" in output
    for name in ("of the server", "of a late one", "ignored"):
        assert f"task {name}" not in output


def test_objects_of_wider_scope_are_checked_when_the_loop_ends(tmp_path: Path) -> None:
    tests = """
pytestmark = pytest.mark.runtime(leaks="defer")

class Pool:
    task = None

    async def get(self):
        self.task = self.task or runtime.create_task(runtime.sleep(3600), name="of the pool")

@pytest.fixture(scope="module")
async def pool():
    pool = Pool()
    yield pool
    pool.task.cancel()

async def test_alone():
    runtime.create_task(runtime.sleep(3600), name="of a test alone")

async def test_first(pool):
    await pool.get()

async def test_second(pool):
    assert not pool.task.done()
    runtime.create_task(runtime.sleep(3600), name="forgotten")

async def fail():
    raise LookupError("nobody asks")

async def test_exception(pool):
    runtime.create_task(fail())
"""
    output = check(tmp_path, tests, {"passed": 3, "failed": 1, "error": 2})
    assert "at the end of the module test_it.py:\ntask forgotten" in output
    assert "LookupError('nobody asks')" in output
    assert "task of a test alone" in output
    assert "task of the pool" not in output


def test_a_test_that_fails_does_not_harm_the_next(tmp_path: Path) -> None:
    tests = """
@pytest.fixture(scope="module")
async def server():
    yield

async def test_deadlock(server):
    try:
        await runtime.Event().wait()
    finally:
        print("cleaned up")

async def test_that_fails(server):
    runtime.create_task(runtime.sleep(3600))
    raise ZeroDivisionError

async def clean_up_for_ever():
    try:
        await runtime.Event().wait()
    finally:
        await runtime.Event().wait()

async def test_stubborn(server):
    runtime.create_task(clean_up_for_ever(), name="stubborn")

async def test_next(server):
    names = {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}
    assert names == {"fixture server"}
"""
    output = check(tmp_path, tests, {"failed": 3, "passed": 1, "error": 1})
    assert "in Event.wait()" in output
    assert output.count("task stubborn") == 2
    assert "  though it was cancelled" in output
    assert "cleaned up" in output
    assert output.count("left behind") == 2


def test_tests_that_share_a_loop_have_one_clock(tmp_path: Path) -> None:
    tests = """
pytestmark = pytest.mark.runtime(clock="virtual")

@pytest.fixture(scope="module")
async def an_hour_later():
    await runtime.sleep(3600)

async def test_first(an_hour_later):
    assert runtime.get_running_loop().time() == 3600
    await runtime.sleep(3600)

async def test_second(an_hour_later):
    assert runtime.get_running_loop().time() == 7200

async def test_of_its_own():
    assert runtime.get_running_loop().time() == 0

@pytest.mark.runtime(clock="real")
async def test_that_wants_another(an_hour_later):
    pass
"""
    found, output = run_pytest(tmp_path, tests, *ALONE)
    assert found == {"passed": 3, "failed": 1}, output
    assert "shares one with" in output
    assert "clock='real'" in output
    assert "Mark all of the module test_it.py alike" in output


def test_a_fixture_that_was_not_named(tmp_path: Path) -> None:
    tests = """
@pytest.fixture(scope="module")
async def wide():
    return 1

@pytest.fixture
async def narrow():
    return 2

@pytest.fixture(params=["wide", "narrow"])
def asks(request):
    return request.getfixturevalue(request.param)

async def test_asks(asks):
    assert asks == 2

async def test_asks_itself(request):
    request.getfixturevalue("narrow")
"""
    output = check(tmp_path, tests, {"passed": 1, "failed": 1, "error": 1})
    assert output.count("was requested with getfixturevalue()") >= 2
    assert "pytest.mark.usefixtures()" in output


def test_a_wide_fixture_that_fails(tmp_path: Path) -> None:
    tests = """
@pytest.fixture(scope="module")
async def broken():
    raise LookupError("in the set-up")

@pytest.fixture(scope="module")
async def ends_badly():
    yield
    raise LookupError("in the tear-down")

async def test_first(broken):
    pass

async def test_second(broken):
    pass

async def test_third(ends_badly):
    pass
"""
    output = check(tmp_path, tests, {"passed": 1, "error": 3})
    assert "in the set-up" in output
    assert "in the tear-down" in output

"""Test tools with a ``runtime.Loop``, as described in docs/howto/testing.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.programs import ROOT, run_program

BLOCK = re.compile(r"^```py\n(# conftest\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)

with_policies = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="policies are deprecated from 3.14"
)


def conftest(having: str) -> str:
    """Return the one ``conftest.py`` of the page that contains ``having``."""
    page = (ROOT / "docs" / "howto" / "testing.md").read_text()
    (block,) = [block for block in BLOCK.findall(page) if having in block]
    return str(block)


def passed(folder: Path, *arguments: str) -> dict[str, int]:
    """Run pytest on the tests in ``folder``; return the number of tests by outcome."""
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\nfilterwarnings = error\n")
    command = ("-m", "pytest", "-c", str(settings), "-p", "no:cacheprovider", *arguments)
    done = run_program(*command, folder)
    summary = done.stdout.rpartition("\n=")[2]
    found = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", summary)
    }
    assert set(found) == {"passed"}, done.stdout + done.stderr
    assert done.returncode == 0
    return found


ASYNCIO_TESTS = """
import asyncio
import pytest
import pytest_asyncio
import runtime

@pytest_asyncio.fixture
async def server():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def of_the_module():
    queue = asyncio.Queue()
    yield queue
    assert queue.empty()

async def test_the_loop():
    assert type(asyncio.get_running_loop()) is runtime.Loop
    assert asyncio.get_running_loop() is runtime.get_running_loop()

async def test_a_fixture(server):
    reader, writer = await asyncio.open_connection(*server)
    writer.write(b"hello\\n")
    assert await reader.readline() == b"HELLO\\n"
    writer.close()
    await writer.wait_closed()

@pytest.mark.asyncio(loop_scope="module")
async def test_a_loop_for_a_module(of_the_module):
    await of_the_module.put(1)

@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_loop_again(of_the_module):
    assert await of_the_module.get() == 1

async def test_runtime_s_own():
    with pytest.raises(TimeoutError):
        async with runtime.timeout(0.001), runtime.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
"""
OPTIONS = (
    "--asyncio-mode=auto",
    "-p",
    "no:anyio",
    "-o",
    "asyncio_default_fixture_loop_scope=function",
)


def test_pytest_asyncio_with_a_loop_factory(tmp_path: Path) -> None:
    plugin = pytest.importorskip("pytest_asyncio.plugin")
    if not hasattr(plugin.PytestAsyncioSpecs, "pytest_asyncio_loop_factories"):
        pytest.skip("this pytest-asyncio takes no loop factories")
    (tmp_path / "conftest.py").write_text(conftest("loop_factories"))
    (tmp_path / "test_it.py").write_text(ASYNCIO_TESTS)
    assert passed(tmp_path, *OPTIONS) == {"passed": 5}


@with_policies
def test_pytest_asyncio_with_a_policy(tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    (tmp_path / "conftest.py").write_text(conftest("event_loop_policy"))
    (tmp_path / "test_it.py").write_text(ASYNCIO_TESTS)
    # From version 1.4 on, it warns that the fixture is deprecated.
    ignored = ("-W", "ignore::pytest.PytestDeprecationWarning")
    assert passed(tmp_path, *OPTIONS, *ignored) == {"passed": 5}


ANYIO_TESTS = """
import asyncio
import anyio
import pytest
import runtime

pytestmark = pytest.mark.anyio

@pytest.fixture
async def stream():
    sender, receiver = anyio.create_memory_object_stream(1)
    async with sender, receiver:
        yield sender, receiver

async def test_the_loop():
    assert type(asyncio.get_running_loop()) is runtime.Loop

async def test_a_fixture(stream):
    sender, receiver = stream
    async with anyio.create_task_group() as group:
        group.start_soon(sender.send, 1)
        assert await receiver.receive() == 1

async def test_a_thread():
    assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep, 0)) is None

async def test_runtime_s_own():
    async with runtime.timeout(60), runtime.TaskGroup() as group:
        task = group.create_task(anyio.sleep(0))
    assert task.done()
"""


def test_anyio_s_plugin(tmp_path: Path) -> None:
    pytest.importorskip("anyio")
    (tmp_path / "conftest.py").write_text(conftest("anyio_backend"))
    (tmp_path / "test_it.py").write_text(ANYIO_TESTS)
    assert passed(tmp_path, "-p", "no:asyncio") == {"passed": 4}

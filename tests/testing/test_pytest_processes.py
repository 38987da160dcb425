"""The pytest plugin: a child process that a test leaves behind is reported as a process."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.testing.inner_pytest import check

pytestmark = pytest.mark.slow

TESTS = """
import contextlib
import sys
import runtime.system.child

HEAD = [sys.executable, "-c"]
SLEEP = "import time; time.sleep(3600)"

if {by_threads}:
    runtime.system.child.pidfds_work = lambda: False

started = []

async def start(*arguments, **options):
    process = await runtime.create_subprocess_exec(*(arguments or (*HEAD, SLEEP)), **options)
    started.append(process)
    return process

@pytest.fixture(autouse=True)
async def end():
    yield
    while started:
        process = started.pop()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

async def test_bare():
    await start()

async def test_with_pipes():
    await start(stdin=-1, stdout=-1, stderr=-1)

async def test_with_a_space():
    await start(*HEAD, SLEEP, "a b")

async def test_of_the_shell():
    started.append(await runtime.create_subprocess_shell("exec sleep 3600"))

async def test_with_a_protocol():
    loop = runtime.get_running_loop()
    transport, _ = await loop.subprocess_exec(
        asyncio.SubprocessProtocol, *HEAD, SLEEP, stdin=None, stdout=None, stderr=None
    )
    started.append(transport)
    transport.wait = transport._wait

async def test_that_waits():
    process = await start()
    process.kill()
    await process.wait()

async def test_that_kills():
    process = await start(stdout=-1)
    process.kill()

async def test_of_a_daemon():
    await runtime.create_task(start(stdout=-1), daemon=True)

@pytest.fixture
async def server():
    async def handle(reader, writer):
        process = await start()
        writer.write(b"started")
        writer.close()

    server = await runtime.start_server(handle, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()

async def test_with_a_server(server):
    reader, writer = await runtime.open_connection(*server)
    assert await reader.read() == b"started"
    writer.close()
    await writer.wait_closed()
"""

LEFT_BY_A_FIXTURE = """
@pytest.fixture
async def forgetful():
    process = await runtime.create_subprocess_exec("sleep", "3600", stdin=-1)
    yield process

async def test_it(forgetful):
    pass

@pytest.fixture(scope="module")
async def wide():
    process = await runtime.create_subprocess_exec("sleep", "3600", stdin=-1)
    yield process

async def test_wide(wide):
    pass
"""


@pytest.mark.parametrize("by_threads", [False, True])
def test_a_process_is_shown_with_its_command_and_its_pipes(
    by_threads: bool, tmp_path: Path
) -> None:
    tests = TESTS.replace("{by_threads}", str(by_threads))
    output = check(tmp_path, tests, {"failed": 5, "passed": 4})
    reported = re.findall(
        r"^left behind:\nprocess \d+ has not ended: (.*)\n(  with descriptors .*)?",
        output,
        re.MULTILINE,
    )
    pidfd = set() if by_threads else {"pidfd"}
    assert [set(re.findall(r"\d+ \((\w+)\)", descriptors)) for _, descriptors in reported] == [
        pidfd,
        {*pidfd, "stdin", "stdout", "stderr"},
        pidfd,
        pidfd,
        pidfd,
    ]
    sleep = f"{sys.executable} -c 'import time; time.sleep(3600)'"
    assert [command for command, _ in reported] == [
        sleep,
        sleep,
        f"{sleep} 'a b'",
        "exec sleep 3600",
        sleep,
    ]
    assert "\ndescriptor" not in output


def test_a_process_that_a_fixture_leaves(tmp_path: Path) -> None:
    output = check(
        tmp_path, LEFT_BY_A_FIXTURE, {"passed": 2, "error": 2}, "-Wignore::ResourceWarning"
    )
    assert output.count("has not ended: sleep 3600\n  with descriptors") == 2
    assert "\ndescriptor" not in output

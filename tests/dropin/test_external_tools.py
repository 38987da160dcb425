"""Tools of Python 3.14 and later that read the memory of another process, on runtime programs."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from typing import Any

import pytest

import runtime
from runtime.kernel.compat import external_tools, registry
from tests.support.programs import run_program, started_program

aio: Any = asyncio
"""asyncio without its types, which say that runtime's tasks are not asyncio's."""

since_3_14 = pytest.mark.skipif(sys.version_info < (3, 14), reason="since Python 3.14")

WAITING = """
import asyncio
import runtime

async def leaf(gate):
    await gate.wait()

async def trunk(gate):
    async with runtime.TaskGroup() as group:
        group.create_task(leaf(gate), name="a leaf")

async def main():
    tasks = [
        runtime.create_task(trunk(runtime.Event()), name="the trunk"),
        asyncio.Task(leaf(asyncio.Event()), loop=asyncio.get_running_loop(), name="of asyncio"),
    ]
    await runtime.sleep(0.01)
    print("ready", flush=True)
    await runtime.sleep(600)
    for task in tasks:
        task.cancel()

runtime.run(main())
"""


@pytest.fixture(params=[False, True], ids=["as usual", "shown"])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run programs as usual, and with their tasks published to the tools."""
    if request.param:
        monkeypatch.setenv("RUNTIME_ASYNCIO_TOOLS", "1")
    else:
        monkeypatch.delenv("RUNTIME_ASYNCIO_TOOLS", raising=False)
    return bool(request.param)


def ask(tool: str, process: subprocess.Popen[str]) -> str:
    """Return the output of ``python -m asyncio TOOL PID`` about a process."""
    done = run_program("-m", "asyncio", tool, str(process.pid))
    if "permission" in (done.stdout + done.stderr).lower():
        pytest.skip("the system does not let one process read another's memory")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@since_3_14
@pytest.mark.parametrize("tool", ["ps", "pstree"])
def test_asyncio_s_own_tools(shown: bool, tool: str) -> None:
    with started_program("-c", WAITING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        output = ask(tool, process)
    assert "of asyncio" in output
    for name in ("a leaf", "the trunk", "TaskGroup"):
        assert (name in output) is shown
    if shown and tool == "ps":
        (line,) = [line for line in output.splitlines() if "  a leaf  " in line]
        assert line.count("the trunk") == 1


REPORT = """
import sys
from _remote_debugging import RemoteUnwinder

found = set()
for _ in range(50):
    try:
        threads = RemoteUnwinder(int(sys.argv[1])).get_async_stack_trace()
    except PermissionError:
        raise
    except (RuntimeError, OSError, UnicodeDecodeError, MemoryError):
        continue  # The process went on while it was read.
    found |= {task.task_name for thread in threads for task in thread.awaited_by}
print(*sorted(found), sep="\\n")
"""
ALWAYS_RUNNING = """
import os, runtime

async def main():
    print("ready", flush=True)
    while os.getppid() == {parent}:
        sum(range(2000))
        await runtime.sleep(0)

async def named():
    await runtime.create_task(main(), name="always running")

runtime.run(named())
"""


@since_3_14
def test_the_running_task(shown: bool) -> None:
    with started_program("-c", ALWAYS_RUNNING.replace("{parent}", str(os.getpid()))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        done = run_program("-c", REPORT, str(process.pid))
    if "PermissionError" in done.stderr:
        pytest.skip("the system does not let one process read another's memory")
    if shown:
        assert "always running" in done.stdout.splitlines(), done.stderr
    else:
        assert done.stdout.strip() == "", done.stderr


@since_3_14
async def test_the_thread_s_state_names_no_task_of_ours() -> None:
    original: Any = aio.tasks._c_current_task

    assert not registry.writes_thread_state
    assert original() is None
    assert aio.current_task() is runtime.current_task() is not None


@since_3_14
def test_copies_stay_among_themselves(shown: bool) -> None:
    """``current_task`` and ``all_tasks`` return the tasks, never their copies."""

    async def child(gate: runtime.Event) -> None:
        assert aio.current_task() is runtime.current_task()
        await gate.wait()
        assert aio.current_task() is runtime.current_task()

    async def main() -> list[weakref.ref[Any]]:
        loop = runtime.get_running_loop()
        assert loop.get_external_inspection() is shown
        gate = runtime.Event()
        tasks = [runtime.create_task(child(gate)) for _ in range(3)]
        me = runtime.current_task()
        for _ in range(3):
            await runtime.sleep(0)
            assert aio.all_tasks() == {me, *tasks}
            assert type(aio.current_task()) is runtime.Task
        gate.set()
        await runtime.gather(*tasks)
        return [weakref.ref(task) for task in tasks]

    dropped = runtime.run(main())
    gc.collect()
    assert [each() for each in dropped] == [None] * 3
    copies = [each for each in gc.get_objects() if type(each) is registry.TaskCopy]
    assert copies == []


async def test_it_can_be_turned_on_and_off_while_the_loop_runs() -> None:
    loop = runtime.get_running_loop()
    for enabled in (True, False, True, True, False):
        loop.set_external_inspection(enabled)
        await runtime.sleep(0)
        assert loop.get_external_inspection() is (enabled and external_tools.AVAILABLE)
        assert aio.current_task() is runtime.current_task()
        assert len(aio.all_tasks()) == 1


@since_3_14
def test_a_caller_that_holds_the_original_gets_the_running_task() -> None:
    """A default argument holds asyncio's function, which only reads the thread's state."""
    code = """
import asyncio
def held(current_task=asyncio.current_task):
    return current_task()
from asyncio import current_task as imported
import runtime
async def child():
    assert held() is imported() is asyncio.current_task() is runtime.current_task()
async def main():
    assert held() is imported() is asyncio.current_task() is runtime.current_task()
    await runtime.create_task(child())
    await runtime.create_task(child(), eager_start=True)
    assert held() is imported() is asyncio.current_task() is runtime.current_task()
    runtime.get_running_loop().call_soon(lambda: print(held(), imported()))
    await runtime.sleep(0)
runtime.run(main())
"""
    done = run_program("-c", code)
    assert (done.stdout, done.stderr) == ("None None\n", "")


@since_3_14
def test_a_module_that_imported_the_original_has_ours() -> None:
    code = """
from asyncio import current_task
import runtime
from runtime.kernel.compat import registry
assert not registry.writes_thread_state
async def main():
    assert current_task() is runtime.current_task() is not None
runtime.run(main())
"""
    done = run_program("-c", code)
    assert (done.stdout, done.stderr) == ("", "")

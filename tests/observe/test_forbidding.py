"""``forbid_blocking``: an error at the call that would block a loop."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import sleep as imported_sleep

import pytest

import runtime
from runtime.observe import BlockingCallError, allow_blocking, forbid_blocking
from tests.support.programs import run_code
from tests.testing.inner_pytest import check

FILE = Path(__file__)


def connect() -> None:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.connect(("127.0.0.1", 9))


def receive() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(0.001)
        with contextlib.suppress(TimeoutError):
            one.recv(1)


def join() -> None:
    thread = threading.Thread(target=time.sleep, args=(0.05,))
    thread.start()
    try:
        thread.join()
    finally:
        with allow_blocking():
            thread.join()


def get() -> None:
    with contextlib.suppress(queue.Empty):
        queue.Queue[int]().get(timeout=0.001)


def future() -> None:
    with contextlib.suppress(TimeoutError):
        concurrent.futures.Future[int]().result(timeout=0.001)


def process() -> None:
    ended = subprocess.Popen(COMMAND)
    try:
        ended.wait()
    finally:
        with allow_blocking():
            ended.wait()


COMMAND = [sys.executable, "-S", "-c", ""]

CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "time.sleep": (lambda: time.sleep(0.001), r"await runtime\.sleep\(\)"),
    "open": (lambda: FILE.open().close(), r"runtime\.to_thread\(\)"),
    "os.listdir": (lambda: os.listdir("/"), r"runtime\.to_thread\(\)"),
    "os.scandir": (lambda: os.scandir("/").close(), r"runtime\.to_thread\(\)"),
    "shutil.copyfile": (
        lambda: shutil.copyfile(FILE, os.devnull),
        r"runtime\.to_thread\(\)",
    ),
    "os.system": (lambda: os.system("true"), r"runtime\.create_subprocess_shell\(\)"),
    "socket.getaddrinfo": (
        lambda: socket.getaddrinfo("localhost", 80),
        r"the loop's getaddrinfo\(\)",
    ),
    "socket.connect": (connect, r"runtime\.open_connection\(\)"),
    "socket.socket.recv": (receive, r"runtime\.open_connection\(\)"),
    "threading.Thread.join": (join, r"runtime\.Lock"),
    "threading.Condition.wait": (get, r"runtime\.Lock"),
    "concurrent.futures.Future.result": (future, r"runtime\.wrap_future\(\)"),
    "subprocess.run": (
        lambda: subprocess.run(COMMAND, check=True),
        r"runtime\.create_subprocess_exec\(\)",
    ),
    "subprocess.call": (lambda: subprocess.call(COMMAND), r"runtime\.create_subprocess_exec\(\)"),
    "subprocess.check_call": (
        lambda: subprocess.check_call(COMMAND),
        r"runtime\.create_subprocess_exec\(\)",
    ),
    "subprocess.check_output": (
        lambda: subprocess.check_output(COMMAND),
        r"runtime\.create_subprocess_exec\(\)",
    ),
    "subprocess.Popen.wait": (process, r"runtime\.create_subprocess_exec\(\)"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_blocking_call_raises_in_a_task_and_says_what_to_use_instead(name: str) -> None:
    call, instead = CALLS[name]
    with forbid_blocking():
        with pytest.raises(BlockingCallError, match=f"would block the event loop: use {instead}"):
            call()
        with allow_blocking():
            call()
        await runtime.to_thread(call)
    call()


@pytest.mark.parametrize("name", CALLS)
def test_calls_outside_of_a_loop_are_allowed(name: str) -> None:
    with forbid_blocking():
        CALLS[name][0]()


async def test_a_process_is_refused_before_it_starts(tmp_path: Path) -> None:
    made = tmp_path / "made"
    command = [sys.executable, "-S", "-c", f"open({str(made)!r}, 'x')"]
    with forbid_blocking():
        for call in (subprocess.run, subprocess.call, subprocess.check_output):
            with pytest.raises(BlockingCallError, match=r"subprocess\.(run|call)\(\[.*\]\) would"):
                call(command)
    assert not made.exists()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python does not announce it before")
async def test_a_sleep_that_was_imported_by_its_name_is_refused() -> None:
    with forbid_blocking():
        with pytest.raises(BlockingCallError, match=r"^time\.sleep\(0\.001\) would block"):
            imported_sleep(0.001)
        imported_sleep(0)


async def test_a_function_of_the_standard_library_as_a_callback_is_refused() -> None:
    loop = runtime.get_running_loop()
    reports: list[BaseException | None] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context.get("exception")))
    with forbid_blocking():
        loop.call_soon(time.sleep, 0.001)
        await runtime.sleep(0)
    assert [type(each) for each in reports] == [BlockingCallError]


async def test_calls_that_do_not_wait_are_allowed() -> None:
    one, other = socket.socketpair()
    with one, other, forbid_blocking():
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            one.recv(1)
        time.sleep(0)
        done: concurrent.futures.Future[int] = concurrent.futures.Future()
        done.set_result(1)
        assert done.result() == 1
        socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        thread = threading.Thread(target=int)
        thread.start()
        while thread.is_alive():
            await runtime.sleep(0.001)
        thread.join()


async def test_runtime_s_own_functions_are_not_affected() -> None:
    async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.close()
        await writer.wait_closed()

    with forbid_blocking():
        runtime.get_running_loop().watch_slow_callbacks(1)
        runtime.get_running_loop().watch_slow_callbacks(None)
        async with await runtime.start_server(answer, "localhost", 0) as server:
            reader, writer = await runtime.open_connection(*server.sockets[0].getsockname()[:2])
            writer.write(b"x")
            assert await reader.read(-1) == b"x"
            writer.close()
            await writer.wait_closed()
        process = await runtime.create_subprocess_exec(sys.executable, "-S", "-c", "")
        assert await process.wait() == 0


def test_imports_are_allowed() -> None:
    done = run_code(
        "import runtime\n"
        "async def main():\n"
        "    import json.tool, this\n"
        "with runtime.observe.forbid_blocking():\n"
        "    runtime.run(main())\n"
    )
    assert done.returncode == 0, done.stderr


def test_blocks_may_be_nested_and_everything_is_put_back() -> None:
    before = time.sleep, socket.socket.recv, threading.Thread.join
    with forbid_blocking(), forbid_blocking():
        assert time.sleep is not before[0]
    assert (time.sleep, socket.socket.recv, threading.Thread.join) == before
    assert "recv" not in vars(socket.socket)


TESTS = """
import time
import runtime

async def test_that_blocks():
    time.sleep(0.01)

async def test_that_waits():
    await runtime.sleep(0.01)

def test_without_a_loop():
    time.sleep(0.001)
"""


@pytest.mark.slow
def test_the_option_of_the_plugin(tmp_path: Path) -> None:
    output = check(tmp_path, TESTS, {"failed": 1, "passed": 2}, "--runtime-forbid-blocking")
    assert "time.sleep(0.01) would block the event loop" in output
    check(tmp_path, TESTS, {"passed": 3})

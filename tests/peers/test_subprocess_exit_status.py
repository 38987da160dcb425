"""Exit statuses of processes, with other waiters, and with a loop outside of the main thread.

See https://github.com/python/cpython/issues/86276.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.system.subprocess_tools import WAYS


@pytest.fixture(params=WAYS, autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    WAYS[request.param](monkeypatch)


CREATE: dict[str, Callable[..., Any]] = {
    "runtime": runtime.create_subprocess_shell,
    "asyncio on runtime": asyncio.create_subprocess_shell,
}


@pytest.fixture(params=CREATE)
def create(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return CREATE[request.param]


def test_a_loop_in_another_thread(create: Callable[..., Any]) -> None:
    async def main() -> list[int]:
        processes = [await create(f"exit {number}") for number in range(20)]
        return [await process.wait() for process in processes]

    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(runtime.run(main()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [list(range(20))] * 3


def test_another_waiter_is_reported_and_no_task_hangs(
    create: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> int:
        process = await create("exec sleep 1000")
        process.kill()
        os.waitpid(process.pid, 0)
        returncode: int = await process.wait()
        return returncode

    if not hasattr(os, "waitid"):
        pytest.skip("the loop's own thread is as quick as the other waiter")
    with caplog.at_level(logging.WARNING, "asyncio"):
        assert runtime.run(main()) == 255
    assert "taken by other code" in caplog.text


def test_sigchld_handlers_are_neither_needed_nor_disturbed(create: Callable[..., Any]) -> None:
    came: list[int] = []

    async def main() -> None:
        process = await create("exit 3")
        assert await process.wait() == 3

    previous = signal.signal(signal.SIGCHLD, lambda number, _frame: came.append(number))
    try:
        runtime.run(main())
        assert signal.getsignal(signal.SIGCHLD) is not previous
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert set(came) == {signal.SIGCHLD}


def test_other_child_processes_are_not_reaped(create: Callable[..., Any]) -> None:
    async def main(other: subprocess.Popen[bytes]) -> None:
        process = await create("exit 3")
        assert await process.wait() == 3
        assert other.wait() == 7

    with subprocess.Popen(["sh", "-c", "exit 7"]) as other:
        runtime.run(main(other))

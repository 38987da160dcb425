"""Programs that wait for an event that cannot occur, which get a report instead of hanging."""

from __future__ import annotations

import pytest

import runtime
import runtime.testing
from tests.support.programs import run_code


def test_debug_mode_reports_every_task_and_its_wait() -> None:
    async def wait_for_nothing(future: runtime.Future[None]) -> None:
        await future

    async def main() -> None:
        future: runtime.Future[None] = runtime.get_running_loop().create_future()
        task = runtime.create_task(wait_for_nothing(future), name="inner")
        await task

    with pytest.raises(runtime.DeadlockError) as caught:
        runtime.run(main(), debug=True)
    text = str(caught.value)
    assert "inner: " in text
    assert "wait_for_nothing() running" in text
    assert "waits for <Task pending name='inner'" in text
    assert "waits for <Future pending" in text
    assert f"{__file__}:" in text
    assert len(caught.value.tasks) == 2


def test_the_testing_runner_reports_it_in_any_mode() -> None:
    async def main() -> None:
        lock = runtime.Lock()
        async with lock, lock:
            pass

    with pytest.raises(runtime.DeadlockError, match=r"waits for <.*Lock.* \[locked, waiters:1\]>"):
        runtime.testing.run(main())


@pytest.mark.parametrize(
    "wait",
    [
        "await runtime.sleep(0.05)",
        "await runtime.to_thread(time.sleep, 0.05)",
        "await runtime.wait_readable(one)",
        "await thread_future()",
    ],
)
def test_a_possible_event_is_no_deadlock(wait: str) -> None:
    program = f"""
import runtime, socket, threading, time
one, two = socket.socketpair()
def thread_future():
    loop = runtime.get_running_loop()
    future = loop.create_future()
    def later():
        time.sleep(0.05)
        loop.call_soon_threadsafe(future.set_result, None)
    threading.Thread(target=later).start()
    return future
async def main():
    threading.Timer(0.05, two.send, (b"x",)).start() if "readable" in {wait!r} else None
    {wait}
    print("came")
runtime.run(main(), debug=True)
"""
    result = run_code(program)
    assert (result.stdout, result.returncode) == ("came\n", 0), result.stderr

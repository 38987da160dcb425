"""A thread that wakes the loop and ends while the loop looks for work: its call is not missed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

import runtime
from runtime.kernel.lifetime import idle

Later = Callable[[Callable[[], object]], None]


@pytest.fixture
def while_the_loop_looks(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Return a function that has a thread make a call just before the loop lists the threads."""
    if not hasattr(idle.checked_wait, "__code__"):
        pytest.skip("the frames of compiled code are not seen")
    calls: list[Callable[[], object]] = []
    enumerate_threads = threading.enumerate

    def enumerate_after_the_call() -> list[threading.Thread]:
        if calls and sys._getframe(1).f_code.co_name == "checked_wait":
            thread = threading.Thread(target=calls.pop())
            thread.start()
            thread.join()
        return enumerate_threads()

    monkeypatch.setattr(threading, "enumerate", enumerate_after_the_call)
    # The system may still list the thread for a moment, as one that ``threading`` does not know.
    monkeypatch.setattr(idle, "can_be_woken_by_unknown_thread", lambda *arguments: False)
    return calls.append


def test_it_is_no_deadlock(while_the_loop_looks: Later) -> None:
    async def main() -> str:
        loop = runtime.get_running_loop()
        future: runtime.Future[str] = loop.create_future()
        while_the_loop_looks(lambda: loop.call_soon_threadsafe(future.set_result, "woken"))
        return await future

    assert runtime.run(main(), debug=True) == "woken"


def test_it_does_not_end_a_run_until_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        loop = runtime.get_running_loop()
        future: runtime.Future[str] = loop.create_future()
        wakes = iter([lambda: loop.call_soon_threadsafe(future.set_result, "woken")])

        def look(*arguments: object) -> bool:
            """Find no thread: the last one has woken the loop just before."""
            next(wakes, int)()
            return False

        monkeypatch.setattr(idle, "can_be_woken_by_unknown_thread", look)
        return await future

    assert runtime.run(main(), until="idle") == "woken"

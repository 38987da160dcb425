"""The end of the thread pools of a loop, which may be closed meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import runtime


class ClosedMeanwhile(runtime.Loop):
    """A loop that is closed just before the thread that waits for the pools calls it."""

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.close()
        return super().call_soon_threadsafe(*args, **options)


def test_a_loop_that_is_closed_before_the_pools_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_value))
    loop = ClosedMeanwhile()
    loop._executor.get()
    shutdown = loop._begin_executor_shutdown()
    assert shutdown is not None
    thread, _ = shutdown
    thread.join(30)
    assert not thread.is_alive()
    assert loop.is_closed()
    assert raised == []

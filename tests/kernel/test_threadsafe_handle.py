"""Handles of ``call_soon_threadsafe``, which another thread can cancel before the callback runs."""

from __future__ import annotations

import threading

import runtime
from tests.support.blocked import all_tasks_blocked


async def test_cancel_waits_for_a_callback_that_has_begun() -> None:
    begun, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def callback() -> None:
        begun.set()
        may_end.wait()
        order.append("callback ended")

    def cancel(handle: runtime.Handle) -> None:
        begun.wait()
        threading.Timer(0.01, may_end.set).start()
        handle.cancel()
        order.append("cancel returned")

    handle = runtime.get_running_loop().call_soon_threadsafe(callback)
    canceller = threading.Thread(target=cancel, args=(handle,))
    canceller.start()
    await runtime.sleep(0)
    await runtime.to_thread(canceller.join)
    assert order == ["callback ended", "cancel returned"]


async def test_a_callback_can_cancel_its_own_handle() -> None:
    called: list[int] = []

    loop = runtime.get_running_loop()
    handles: list[runtime.Handle] = []

    def callback() -> None:
        handles[0].cancel()
        called.append(1)

    handles.append(loop.call_soon_threadsafe(callback))
    other = loop.call_soon_threadsafe(called.append, 2)
    other.cancel()
    assert other.cancelled()
    await all_tasks_blocked()
    assert handles[0].cancelled()
    assert called == [1]

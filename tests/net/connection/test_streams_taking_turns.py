"""Several tasks that read from one stream, one shortly after the other."""

from __future__ import annotations

import pytest

import runtime
from tests.net.tools import stream_pair


async def waits(task: runtime.Task[bytes]) -> None:
    """Let ``task`` run until it waits for data."""
    for _ in range(3):
        await runtime.sleep(0)
    assert not task.done()


async def test_a_read_right_after_another_was_cancelled() -> None:
    # The cancelled task has not run yet when the next one begins to wait.

    async with stream_pair() as (reader, _, peer):
        first = runtime.create_task(reader.read(10))
        await waits(first)
        first.cancel()
        runtime.get_running_loop().call_soon(peer.sendall, b"data")
        assert await reader.read(10) == b"data"
        with pytest.raises(runtime.CancelledError):
            await first


async def test_a_read_that_runs_before_a_reader_that_was_woken() -> None:
    # The first read takes the bytes. The second one waits for more, or raises if it must not wait.

    async with stream_pair() as (reader, _, peer):
        first = runtime.create_task(reader.read(10))
        await waits(first)
        second: runtime.Task[bytes] | None = None

        async def read_twice() -> bytes:
            return await reader.read(10) + await reader.read(10)

        def barge_in() -> None:
            nonlocal second
            second = runtime.create_task(read_twice(), eager_start=True)

        loop = runtime.get_running_loop()
        # This task is in the ready queue before the first is woken, and so runs before it.
        peer.sendall(b"one")
        loop.call_soon(barge_in)
        with pytest.raises(RuntimeError, match="another task waits"):
            await first
        peer.sendall(b"two")
        assert second is not None
        assert await second == b"onetwo"

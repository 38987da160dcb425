"""Several tasks wait for the end of one connection, or to write; some of them give up."""

from __future__ import annotations

import socket

import pytest

import runtime
from tests.net.tools import receive_all, reset, stream_pair
from tests.support.blocked import all_tasks_blocked

MUCH = 10_000_000
"""Bytes: more than the buffers of a pair of sockets hold."""


async def test_a_wait_that_is_cancelled_leaves_the_other_waits_alone() -> None:
    async with stream_pair() as (_, writer, peer):
        patient = runtime.create_task(writer.wait_closed())
        impatient = runtime.create_task(writer.wait_closed())
        await all_tasks_blocked()
        impatient.cancel()
        await runtime.wait([impatient])
        await all_tasks_blocked()
        assert impatient.cancelled()
        assert not patient.done()
        later = runtime.create_task(writer.wait_closed())
        await all_tasks_blocked()
        assert not later.done()
        writer.close()
        await runtime.wait_for(runtime.gather(patient, later), 30)
        assert peer.recv(1) == b""


async def test_the_end_of_a_block_does_not_depend_on_a_wait_that_was_cancelled() -> None:
    async with stream_pair() as (_, writer, peer):
        async with writer:
            waiting = runtime.create_task(writer.wait_closed())
            await all_tasks_blocked()
            waiting.cancel()
            await runtime.wait([waiting])
            writer.write(bytes(MUCH))
            receiving = runtime.create_task(runtime.to_thread(receive_all, peer))
        assert len(await receiving) == MUCH
        await writer.wait_closed()


async def test_each_of_the_waits_for_a_connection_that_fails_raises() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _, writer = await runtime.open_connection(*listening.getsockname())
        peer, _ = listening.accept()
        waits = [runtime.create_task(writer.wait_closed()) for _ in range(3)]
        await all_tasks_blocked()
        reset(peer)
        await runtime.wait(waits, timeout=30)
        errors = [wait.exception() for wait in waits]
        assert [type(error) for error in errors] == [ConnectionResetError] * 3
        assert len(set(map(id, errors))) == 3


@pytest.mark.parametrize("name", ["wait_closed", "drain"])
async def test_waits_that_are_cancelled_leave_no_futures_behind(name: str) -> None:
    async with stream_pair() as (_, writer, _peer):
        writer.write(bytes(MUCH))
        for _ in range(100):
            task = runtime.create_task(getattr(writer, name)())
            await runtime.sleep(0)
            task.cancel()
            await runtime.wait([task])
        adapter = writer._adapter
        assert len(adapter._closed_waiters or adapter._drain_waiters or ()) < 10

"""Copies and pickles of objects that cannot be copied: refused, not half made."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest

import runtime

COPIERS: list[Callable[[Any], object]] = [copy.copy, copy.deepcopy, pickle.dumps]


def check(*things: Any) -> None:
    for thing in things:
        for copier in COPIERS:
            with pytest.raises(TypeError, match="cannot pickle"):
                copier(thing)


@pytest.mark.parametrize("run", [asyncio.run, runtime.run])
def test_futures_and_tasks(run: Callable[[Any], None]) -> None:
    class Mine(asyncio.Future[int]):
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        done.set_result(1)
        check(loop.create_future(), done, asyncio.current_task(), Mine())

    run(main())


def test_subclasses() -> None:
    class MyFuture(runtime.Future[int]):
        pass

    class MyTask(runtime.Task[None]):
        pass

    class MyLoop(runtime.Loop):
        pass

    async def nothing() -> None:
        """Do nothing."""

    async def main() -> None:
        task = MyTask(nothing())
        check(MyFuture(), task, runtime.get_running_loop())
        await task

    runtime.run(main(), loop_factory=MyLoop)


def test_a_loop() -> None:
    loop = runtime.new_event_loop()
    check(loop)
    assert loop.run_until_complete(asyncio.sleep(0, "runs")) == "runs"
    loop.close()
    check(loop)


def test_transports() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        ours, theirs = socket.socketpair()
        stream, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        _, writer = await runtime.open_unix_connection(sock=theirs)
        local = ("127.0.0.1", 0)
        datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local)
        endpoint = await runtime.open_datagram(local)
        reading, writing = os.pipe()
        read_end, write_end = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        read_pipe, _ = await loop.connect_read_pipe(asyncio.Protocol, read_end)
        write_pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, write_end)
        process, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "cat")
        everything = [stream, writer.transport, datagrams, read_pipe, write_pipe, process]
        check(*everything, endpoint)
        for transport in everything:
            assert not transport.is_closing()
            transport.close()
        endpoint.close()
        await endpoint.wait_closed()
        while process.get_returncode() is None:
            await runtime.sleep(0.001)

    runtime.run(main())

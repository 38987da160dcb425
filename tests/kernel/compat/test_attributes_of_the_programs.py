"""Attributes that programs set on tasks, futures and transports, as they can on asyncio's."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import runtime


async def test_tasks_and_futures_take_attributes() -> None:
    loop = runtime.get_running_loop()
    for future in (
        loop.create_future(),
        runtime.create_task(runtime.sleep(0)),
        runtime.gather(runtime.sleep(0)),
    ):
        carrier: Any = future
        carrier.created_for = "a request"
        assert carrier.created_for == "a request"
        assert vars(carrier) == {"created_for": "a request"}
        del carrier.created_for
        assert not hasattr(carrier, "created_for")
    await asyncio.sleep(0.001)


async def test_transports_take_attributes() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    with two:
        stream, _ = await loop.create_connection(asyncio.Protocol, sock=one)
        datagrams, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        process, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "true")
        pipe = process.get_pipe_transport(1)
        for transport in (stream, datagrams, process, pipe):
            carrier: Any = transport
            carrier.peer_certificate = b"x"
            assert carrier.peer_certificate == b"x"
        stream.close()
        datagrams.close()
        await process._wait()  # type: ignore[attr-defined]
        process.close()
        await asyncio.sleep(0)

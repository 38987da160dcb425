"""Immediate writes: data is sent at once, not in the next turn.

A blocking peer in the same thread would otherwise wait for ever.

See https://github.com/MagicStack/uvloop/issues/631.
"""

from __future__ import annotations

import socket
from typing import Any

import runtime
from tests.net.tools import stream_pair
from tests.net.transport_tools import Recorder, kinds, talking


def test_a_blocking_peer_in_the_same_thread_gets_the_bytes() -> None:
    async def main() -> bytes:
        async with stream_pair() as (_, writer, peer):
            writer.write(b"no turn of the loop in between")
            return peer.recv(100)

    assert runtime.run(main()) == b"no turn of the loop in between"


@kinds
async def test_a_transport_with_a_protocol_sends_at_once(kind: str) -> None:
    async with talking(kind=kind) as (transport, _, peer):
        transport.write(b"no turn of the loop in between")
        assert peer.recv(100) == b"no turn of the loop in between"
        transport.writelines([b"nor ", b"here"])
        assert peer.recv(100) == b"nor here"


async def test_data_written_in_connection_made_is_sent_first() -> None:
    class Greeting(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"welcome")
            greeted.append(socks[0].recv(100))

    greeted: list[bytes] = []
    socks: list[socket.socket] = []

    ours, peer = socket.socketpair()
    peer.settimeout(30)
    socks.append(peer)
    with peer:
        loop = runtime.get_running_loop()
        transport, protocol = await loop.create_connection(Greeting, sock=ours)
        assert greeted == [b"welcome"]
        transport.abort()
        await protocol.until_lost()

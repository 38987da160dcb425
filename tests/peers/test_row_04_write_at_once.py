"""Row 4: a write that waits for the next turn leaves a blocking peer in the same thread waiting."""

from __future__ import annotations

import runtime
from tests.net.tools import stream_pair


def test_a_blocking_peer_in_the_same_thread_gets_the_bytes() -> None:
    async def main() -> bytes:
        async with stream_pair() as (_, writer, peer):
            writer.write(b"no turn of the loop in between")
            return peer.recv(100)

    assert runtime.run(main()) == b"no turn of the loop in between"

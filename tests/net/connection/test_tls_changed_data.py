"""Written data that ``pause_writing`` changes: TLS sends it as it was before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import PATIENCE, Recorder, protocols
from tests.support.certificates import Certificates

SIZE = 4_000_000


class Changing(Recorder):
    """Protocol that overwrites, or empties, the data being written when writing is paused."""

    data: Any = None
    is_emptied = False

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.is_emptied:
            self.data.clear()
        elif self.data is not None:
            self.data[:] = bytes(len(self.data))


@pytest.mark.parametrize("is_emptied", [False, True], ids=["overwritten", "emptied"])
@pytest.mark.parametrize("way", ["write", "writelines"])
async def test_data_that_is_changed_by_pause_writing(
    certificates: Certificates, way: str, is_emptied: bool
) -> None:
    async with protocols(certificates, client=Changing) as (client, server):
        client.data = bytearray(b"x" * SIZE)
        client.is_emptied = is_emptied
        if way == "write":
            client.transport.write(client.data)
        else:
            client.transport.writelines([client.data])
        assert "pause" in client.events
        async with runtime.timeout(PATIENCE):
            while len(server.received) < SIZE:
                await asyncio.sleep(0.001)
        assert server.received.count(b"x") == SIZE
        assert not client.transport.is_closing()

"""A connection that is lost while it sends a file: the error of ``sendfile`` has the cause."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="this system has no sendfile")
@pytest.mark.parametrize("kind", ["stream", "protocol"])
async def test_the_peer_goes_with_unread_data(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "content"
    with path.open("wb") as content:
        content.truncate(50_000_000)
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    transport: Any
    if kind == "stream":
        _, writer = await runtime.open_connection(sock=ours)
        transport = writer.transport
    else:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with path.open("rb") as file:
        sending = runtime.create_task(loop.sendfile(transport, file))
        await wait_all_tasks_blocked()
        theirs.close()
        with pytest.raises(ConnectionError, match="closed while a file was being sent") as caught:
            await sending
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    transport.abort()


async def test_the_program_aborts(tmp_path: Path) -> None:
    path = tmp_path / "content"
    with path.open("wb") as content:
        content.truncate(50_000_000)
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await runtime.open_connection(sock=ours)
        with path.open("rb") as file:
            sending = runtime.create_task(writer.sendfile(file))
            await wait_all_tasks_blocked()
            writer.abort()
            with pytest.raises(ConnectionError, match="closed while") as caught:
                await sending
    assert caught.value.__cause__ is None

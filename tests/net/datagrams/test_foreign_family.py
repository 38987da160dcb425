"""A UDP transport whose descriptor was replaced by a socket of another family."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import Recorder, bound_socket


@pytest.mark.parametrize("length", [2, 30, 107])
async def test_a_unix_socket_under_the_number_of_a_udp_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Its datagrams are received, even if their senders have long names."""
    monkeypatch.chdir(tmp_path)

    loop = runtime.get_running_loop()
    sock = bound_socket()
    transport: Any
    transport, protocol = await loop.create_datagram_endpoint(Recorder, sock=sock)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        other.bind("receiver")
        other.setblocking(False)
        sender.bind("s" * length)
        transport.pause_reading()
        os.dup2(other.fileno(), sock.fileno())
        transport.resume_reading()
        for number in range(100):
            sender.sendto(b"%d" % number, "receiver")
            while len(protocol.received) <= number:
                await runtime.sleep(0)
    assert protocol.received == [b"%d" % n for n in range(100)]
    transport.close()
    await protocol.until_lost()

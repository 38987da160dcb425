"""Descriptors in the message of ``RealIOError``, which names the one that a test watched."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

import runtime
from runtime.testing import RealIOError, run
from runtime.testing.descriptor_names import describe_descriptor


def refusal(fd: int) -> str:
    async def main() -> None:
        await runtime.wait_readable(fd)

    with pytest.raises(RealIOError, match=re.escape(describe_descriptor(fd))) as caught:
        run(main())
    return str(caught.value)


def test_a_connection() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        message = refusal(client.fileno())
        words = f"AF_INET, SOCK_STREAM) from {client.getsockname()!r} to {server.getsockname()!r}"
        assert words in message
        assert f"listens at {server.getsockname()!r}" in refusal(server.fileno())


def test_datagrams() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert f"AF_INET, SOCK_DGRAM) at {sock.getsockname()!r}" in refusal(sock.fileno())


def test_a_pipe() -> None:
    reading, writing = os.pipe()
    assert refusal(reading).startswith(f"file descriptor {reading}, a pipe, cannot be watched")
    os.close(reading)
    os.close(writing)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with open(path, "rb") as file:
        assert str(path) in refusal(file.fileno())


def test_closed_descriptors() -> None:
    assert describe_descriptor(500) == "file descriptor 500"


def test_it_closes_nothing() -> None:
    with socket.socket() as sock:
        describe_descriptor(sock.fileno())
        os.fstat(sock.fileno())

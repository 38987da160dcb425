"""Tests of the example with an echo server of generators."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Iterator
from typing import Any

import pytest

import runtime
from docs.examples.generator_echo import Steps, drive
from tests.support.programs import ROOT, TIMEOUT, interrupted, started_program

PROGRAM = ROOT / "docs" / "examples" / "generator_echo.py"


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, int]]:
    with started_program(PROGRAM) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()[-1].split(":")
        yield host, int(port)
        assert interrupted(process) == (0, "", "")


def received(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = client.recv(65536)
        assert part
        data += part
    return bytes(data)


def test_clients_take_turns() -> None:
    with serving() as address:
        one = socket.create_connection(address, timeout=TIMEOUT)
        other = socket.create_connection(address, timeout=TIMEOUT)
        with one, other:
            for number in range(3):
                for client in one, other:
                    message = f"{number} {client.getsockname()}".encode()
                    client.sendall(message)
                    assert received(client, len(message)) == message


def test_a_message_that_the_socket_takes_in_parts() -> None:
    message = bytes(range(256)) * 1024
    with serving() as address, socket.create_connection(address, timeout=TIMEOUT) as client:
        client.sendall(message)
        assert received(client, len(message)) == message
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_a_client_that_resets_its_connection_does_not_affect_others() -> None:
    with serving() as address:
        rude = socket.create_connection(address, timeout=TIMEOUT)
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.sendall(b"x" * 100_000)
        rude.close()
        with socket.create_connection(address, timeout=TIMEOUT) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


def test_ctrl_c_closes_open_connections() -> None:
    with contextlib.ExitStack() as stack:
        with serving() as address:
            client = stack.enter_context(socket.create_connection(address, timeout=TIMEOUT))
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        assert client.recv(100) == b""


@pytest.mark.parametrize("wrong", [None, 5, ("sock", "read"), "read"])
def test_an_unknown_request_is_refused_inside_the_generator(wrong: Any) -> None:
    def steps() -> Generator[Any, None, None]:
        with pytest.raises(TypeError, match="A generator yields"):
            yield wrong

    runtime.run(drive(steps()))


def test_a_cancellation_is_raised_inside_the_generator() -> None:
    events: list[str] = []
    ours, theirs = socket.socketpair()

    def steps() -> Steps:
        try:
            yield ours, "read"
        finally:
            events.append("cleaned up")

    async def main() -> None:
        task = runtime.create_task(drive(steps()))
        await runtime.sleep(0)
        task.cancel()
        await runtime.wait([task])
        assert task.cancelled()

    with ours, theirs:
        runtime.run(main())
    assert events == ["cleaned up"]

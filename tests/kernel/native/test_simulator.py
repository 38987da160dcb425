"""Simulated descriptors: a simulator performs the operations that the system refuses."""

from __future__ import annotations

import errno
import importlib
import os
import socket
import types
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.kernel.native import accelerator

try:
    built: Any = importlib.import_module("runtime.kernel.native._accelerator")
except ImportError:
    built = None

FALLBACK = types.SimpleNamespace(
    recv=accelerator.python_recv,
    recv_large=accelerator.python_recv_large,
    recv_some=accelerator.python_recv_some,
    read=accelerator.python_read,
    send=accelerator.python_send,
    write=accelerator.python_write,
)


class Recorder:
    """A simulator that records the calls, and returns or raises ``answer``."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answer: Any = NotImplemented

    def _called(self, *call: Any) -> Any:
        self.calls.append(call)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def recv(self, fd: int, size: int) -> Any:
        return self._called("recv", fd, size)

    def send(self, fd: int, data: Any) -> Any:
        return self._called("send", fd, bytes(data))

    def recvfrom(self, fd: int) -> Any:
        return self._called("recvfrom", fd)

    def sendto(self, fd: int, data: Any, has_address: bool) -> Any:
        return self._called("sendto", fd, bytes(data), has_address)

    def accept(self, fd: int) -> Any:
        return self._called("accept", fd)


@pytest.fixture
def simulator() -> Iterator[Recorder]:
    """Set a simulator for one test."""
    recorder = Recorder()
    set_simulator(recorder)
    yield recorder
    set_simulator(None)


def set_simulator(simulator: Recorder | None) -> None:
    accelerator.set_simulator(simulator)
    if built is not None:
        built.set_simulator(simulator)  # For a run without the accelerator, which may be built.


@pytest.fixture(params=["fallback", "C"])
def implementation(request: pytest.FixtureRequest) -> Any:
    """Return the functions of the accelerator, or of its fallback."""
    if request.param == "C" and built is None:
        pytest.skip("the accelerator was not built")
    return built if request.param == "C" else FALLBACK


@pytest.fixture
def refusing() -> Iterator[socket.socket]:
    """Return a socket on which the system refuses every transfer of data."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        yield sock


OPERATIONS: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("recv", lambda each, fd: each.recv(fd), (accelerator.RECEIVE_SIZE,)),
    ("recv", lambda each, fd: each.recv_large(fd), (accelerator.LARGE_RECEIVE_SIZE,)),
    ("recv", lambda each, fd: each.recv_some(fd, 10), (10,)),
    ("recv", lambda each, fd: each.read(fd), (accelerator.RECEIVE_SIZE,)),
    ("send", lambda each, fd: each.send(fd, b"data"), (b"data",)),
    ("send", lambda each, fd: each.send(fd, b""), (b"",)),
    ("send", lambda each, fd: each.write(fd, memoryview(b"data")), (b"data",)),
]


@pytest.mark.parametrize(("name", "operation", "arguments"), OPERATIONS)
def test_the_simulator_performs_an_operation(
    implementation: Any,
    simulator: Recorder,
    refusing: socket.socket,
    name: str,
    operation: Any,
    arguments: Any,
) -> None:
    simulator.answer = answer = object()
    assert operation(implementation, refusing.fileno()) is answer
    assert simulator.calls == [(name, refusing.fileno(), *arguments)]


@pytest.mark.parametrize(("name", "operation", "arguments"), OPERATIONS)
def test_the_simulator_leaves_other_descriptors_to_the_system(
    implementation: Any,
    simulator: Recorder,
    refusing: socket.socket,
    name: str,
    operation: Any,
    arguments: Any,
) -> None:
    with pytest.raises(OSError, match=r"Invalid argument|not connected"):
        operation(implementation, refusing.fileno())
    assert len(simulator.calls) == 1


@pytest.mark.parametrize(("name", "operation", "arguments"), OPERATIONS)
def test_an_exception_of_the_simulator_is_raised(
    implementation: Any,
    simulator: Recorder,
    refusing: socket.socket,
    name: str,
    operation: Any,
    arguments: Any,
) -> None:
    simulator.answer = ConnectionResetError(errno.ECONNRESET, "simulated")
    with pytest.raises(ConnectionResetError, match="simulated"):
        operation(implementation, refusing.fileno())


@pytest.mark.skipif(built is None, reason="the accelerator was not built")
def test_datagrams_and_connections_are_simulated(
    simulator: Recorder, refusing: socket.socket
) -> None:
    simulator.answer = answer = object()
    assert built.recvfrom(refusing) is answer
    assert built.sendto(refusing, b"data", None) is answer
    assert built.accept(refusing.fileno()) is answer
    assert simulator.calls == [
        ("recvfrom", refusing.fileno()),
        ("sendto", refusing.fileno(), b"data", False),
        ("accept", refusing.fileno()),
    ]


def test_an_operation_that_succeeds_does_not_ask(implementation: Any, simulator: Recorder) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        assert implementation.recv(other.fileno()) is None
        assert implementation.send(one.fileno(), b"data") == 4
        assert implementation.recv(other.fileno()) == b"data"
        one.close()
        assert implementation.recv(other.fileno()) == b""
    assert simulator.calls == []


def test_without_a_simulator_the_system_answers(
    implementation: Any, refusing: socket.socket
) -> None:
    set_simulator(Recorder())
    set_simulator(None)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        implementation.recv(refusing.fileno())

"""Senders and peers in the accelerator: those of families other than the Internet's, and hosts.

A socket object of AF_INET may hold a socket of any family: it may have been created from a
descriptor, or another socket may have been put under its number with ``os.dup2``. The kernel then
reports addresses that are longer or shorter than Internet addresses.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    built: Any = importlib.import_module("runtime.kernel.native._accelerator")
except ImportError:
    built = None

pytestmark = pytest.mark.skipif(built is None, reason="the accelerator was not built")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield a Unix datagram socket in a socket object that claims to be AF_INET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "receiver"))
        sock.setblocking(False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=os.dup(sock.fileno())) as one:
            yield one


def sender_at(name: str | bytes, receiver: socket.socket, path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name:
        sock.bind(name)
    sock.connect(str(path))
    return sock


@pytest.mark.parametrize("length", [1, 5, 13, 25, 26, 27, 60, 106, 107, 108])
def test_the_name_of_a_unix_socket(receiver: socket.socket, tmp_path: Path, length: int) -> None:
    name = b"\0" + os.urandom(length - 1) if length > 1 else b"\0"
    with sender_at(name, receiver, tmp_path / "receiver") as sender:
        own = sender.getsockname()
        for number in range(3):
            sender.send(b"%d" % number)
            assert built.recvfrom(receiver) == (b"%d" % number, own)


@pytest.mark.parametrize("length", [9, 40, 107])
def test_the_path_of_a_unix_socket(
    receiver: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "s" * length
    with sender_at(name, receiver, tmp_path / "receiver") as sender:
        sender.send(b"data")
        assert built.recvfrom(receiver) == (b"data", name)


def test_no_address_at_all(receiver: socket.socket, tmp_path: Path) -> None:
    with sender_at("", receiver, tmp_path / "receiver") as sender:
        for _ in range(3):
            sender.send(b"data")
            assert built.recvfrom(receiver) == (b"data", None)


def test_a_stream_gives_no_address() -> None:
    one, two = socket.socketpair()
    with one, two, socket.socket(socket.AF_INET, fileno=os.dup(one.fileno())) as disguised:
        two.send(b"data")
        assert built.recvfrom(disguised) == (b"data", None)


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux only")
def test_a_family_that_has_no_form_of_its_own() -> None:
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, fileno=os.dup(one.fileno())) as disguised,
    ):
        one.bind((0, 0))
        # NLMSG_NOOP with the flag that requests an acknowledgement from the kernel.
        request = (16).to_bytes(4, "little") + b"\1\0\5\0" + bytes(8)
        one.setblocking(True)
        one.send(request)
        one.settimeout(30)
        assert one.recv(100, socket.MSG_PEEK)
        _, (family, rest) = built.recvfrom(disguised)
        assert family == socket.AF_NETLINK
        assert rest == bytes(14)


@pytest.mark.skipif(not hasattr(built, "accept"), reason="this system has no accept4")
@pytest.mark.parametrize("name", ["", "peer", b"\0peer", b"\0" + b"x" * 107])
def test_accepting_from_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("listener")
        listener.listen()
        if name:
            client.bind(name)
        client.connect("listener")
        number, address = built.accept(listener.fileno())
        with socket.socket(fileno=number) as accepted:
            assert address == name
            client.send(b"data")
            accepted.settimeout(30)
            assert accepted.recv(10) == b"data"


@pytest.mark.skipif(not hasattr(built, "accept"), reason="this system has no accept4")
def test_the_peers_of_connections_from_several_hosts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        texts: dict[str, list[str]] = {}
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.1", "127.10.20.30"):
            source = (host, 0)
            with socket.create_connection(listener.getsockname(), source_address=source) as client:
                number, address = built.accept(listener.fileno())
                with socket.socket(fileno=number) as accepted:
                    assert address == client.getsockname() == accepted.getpeername()
            texts.setdefault(host, []).append(address[0])
        # Connections from the same host, one after the other, share its text.
        one, other = texts["127.0.0.2"]
        assert one is other

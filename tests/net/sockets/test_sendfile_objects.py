"""``sendfile`` of file objects whose ``read()`` returns other bytes than their descriptor.

A file of gzip, for instance, has the descriptor of the compressed file. The bytes of ``read()`` are
sent.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import tempfile
import zipfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import SendfileNotAvailableError
from tests.net.tools import receive_all
from tests.net.transport_tools import Recorder

CONTENT = bytes(range(251)) * 2_000

if not hasattr(os, "sendfile"):
    pytest.skip("everything is read here", allow_module_level=True)


class Shouting(io.FileIO):
    """Plain file that changes the bytes that it reads."""

    def readinto(self, buffer: Any) -> int:
        size = super().readinto(buffer)
        assert size is not None
        memoryview(buffer).cast("B")[:size] = bytes(buffer[:size]).upper()
        return size


def made_by_gzip(path: Path) -> Any:
    with gzip.open(path, "wb") as file:
        file.write(CONTENT)
    return gzip.open(path, "rb")


def made_by_bz2(path: Path) -> Any:
    with bz2.open(path, "wb") as file:
        file.write(CONTENT)
    return bz2.open(path, "rb")


def made_by_lzma(path: Path) -> Any:
    with lzma.open(path, "wb") as file:
        file.write(CONTENT)
    return lzma.open(path, "rb")


def made_by_zipfile(path: Path) -> Any:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("content", CONTENT)
    with zipfile.ZipFile(path) as archive:  # An open member keeps the archive's file open.
        return archive.open("content")


def buffered_over_gzip(path: Path) -> Any:
    return io.BufferedReader(made_by_gzip(path))


def spooled(path: Path) -> Any:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - closed by the test
    file.write(CONTENT)
    return file


OBJECTS: dict[str, Callable[[Path], Any]] = {
    "gzip": made_by_gzip,
    "bz2": made_by_bz2,
    "lzma": made_by_lzma,
    "zipfile": made_by_zipfile,
    "buffered gzip": buffered_over_gzip,
    "spooled": spooled,
}
each_object = pytest.mark.parametrize("name", OBJECTS)

Send = Callable[..., Coroutine[Any, Any, int]]


async def by_socket(sock: socket.socket, *request: Any, **options: Any) -> int:
    return await runtime.get_running_loop().sock_sendfile(sock, *request, **options)


async def by_transport(sock: socket.socket, *request: Any, **options: Any) -> int:
    loop = runtime.get_running_loop()
    transport, protocol = await loop.create_connection(Recorder, sock=sock)
    try:
        return await loop.sendfile(transport, *request, **options)
    finally:
        transport.close()
        await protocol.until_lost()


async def by_writer(sock: socket.socket, *request: Any, **options: Any) -> int:
    _, writer = await runtime.open_connection(sock=sock)
    try:
        return await writer.sendfile(*request, **options)
    finally:
        writer.close()
        await writer.wait_closed()


each_way = pytest.mark.parametrize("send", [by_socket, by_transport, by_writer])


async def sent_by(send: Send, *request: Any, **options: Any) -> tuple[int, bytes]:
    """Return the result of ``send``, and the bytes that arrived."""
    one, two = socket.socketpair()
    one.setblocking(False)
    with one, two:
        receiving = runtime.create_task(runtime.to_thread(receive_all, two))
        try:
            sent = await send(one, *request, **options)
        finally:
            one.close()
            arrived = await receiving
        return sent, arrived


@each_way
@each_object
async def test_the_bytes_of_read_are_sent(send: Send, name: str, tmp_path: Path) -> None:
    with OBJECTS[name](tmp_path / "file") as file:
        assert await sent_by(send, file) == (len(CONTENT), CONTENT)
        assert file.tell() == len(CONTENT)
        assert await sent_by(send, file, 100, 50) == (50, CONTENT[100:150])
        assert file.tell() == 150


@each_way
@each_object
async def test_without_the_fallback_it_is_refused(send: Send, name: str, tmp_path: Path) -> None:
    refused = pytest.raises(SendfileNotAvailableError, match="not a regular file")
    with OBJECTS[name](tmp_path / "file") as file, refused:
        await sent_by(send, file, fallback=False)


@each_way
async def test_a_subclass_may_override_read(send: Send, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    with Shouting(str(path)) as file:
        assert await sent_by(send, file) == (5, b"HELLO")


def raw(path: Path) -> Any:
    return path.open("rb", buffering=0)


def buffered(path: Path) -> Any:
    return path.open("rb")


def updated(path: Path) -> Any:
    return path.open("r+b")


def temporary(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by the test
    file.write(path.read_bytes())
    file.flush()
    return file


@each_way
@pytest.mark.parametrize("opened", [raw, buffered, updated, temporary])
async def test_the_system_sends_plain_files(send: Send, opened: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)

    with opened(path) as file:
        assert await sent_by(send, file, fallback=False) == (len(CONTENT), CONTENT)


@each_way
@pytest.mark.parametrize("make", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile])
async def test_unflushed_bytes_are_sent(send: Send, make: Any) -> None:
    with make() as file:
        file.write(b"not flushed")
        assert await sent_by(send, file, fallback=False) == (11, b"not flushed")


async def test_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")

    with path.open() as file, pytest.raises(ValueError, match="binary mode"):
        await sent_by(by_socket, file)
    with tempfile.NamedTemporaryFile("w+") as file, pytest.raises(ValueError, match="binary"):
        await sent_by(by_socket, file)
    with gzip.open(path, "rt") as text, pytest.raises(ValueError, match="binary mode"):
        await sent_by(by_socket, text)

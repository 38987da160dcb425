"""Descriptors that cannot be watched: the error names their kind and the remedy."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path
from typing import Any

import pytest

import runtime

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll"), reason="other selectors watch any file"
)

WAYS = ["add_reader", "add_writer", "wait_readable", "wait_writable", "sock_recv"]


async def watch(way: str, fd: int) -> None:
    loop = runtime.get_running_loop()
    if way.startswith("add"):
        getattr(loop, way)(fd, int)
    elif way == "sock_recv":
        await loop.sock_recv(Blocking(fd), 1)  # type: ignore[arg-type]
    else:
        await getattr(runtime, way)(fd)


class Blocking:
    """Imitates a socket that has nothing to receive."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def gettimeout(self) -> float:
        return 0.0

    def recv(self, size: int) -> bytes:
        raise BlockingIOError


@pytest.mark.parametrize("way", WAYS)
def test_a_regular_file(way: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with open(path, "r+b") as file:
        words = f"descriptor {file.fileno()} is a regular file.*to_thread"
        with pytest.raises(PermissionError, match=words):
            runtime.run(watch(way, file.fileno()))


@pytest.mark.parametrize("way", WAYS)
def test_a_directory(way: str, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(PermissionError, match=f"descriptor {fd} is a directory"):
            runtime.run(watch(way, fd))
    finally:
        os.close(fd)


@pytest.mark.parametrize("way", WAYS)
def test_a_device(way: str) -> None:
    with open(os.devnull, "r+b", buffering=0) as file:
        fd = file.fileno()
        with pytest.raises(PermissionError, match=f"descriptor {fd} is a device"):
            runtime.run(watch(way, fd))


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_is_not_open(way: str) -> None:
    fd = 500  # a number far from the descriptors that the loop opens
    with pytest.raises(OSError, match=f"Bad file descriptor: file descriptor {fd} is not open"):
        runtime.run(watch(way, fd))


def test_the_error_is_the_system_s_own_otherwise(tmp_path: Path) -> None:
    """A program that checks the type and the number keeps working as on asyncio's loop."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    caught_errors: list[Any] = []
    with open(path, "rb") as file:
        for loop in (asyncio.SelectorEventLoop(), runtime.new_event_loop()):
            with pytest.raises(OSError, match="not permitted") as caught:
                loop.add_reader(file, int)
            caught_errors.append((type(caught.value), caught.value.errno))
            loop.close()
    assert caught_errors[0] == caught_errors[1]

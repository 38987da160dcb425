"""A Unix server on a socket that was given to it leaves the socket's file alone.

The use is socket activation: a service manager makes the socket, and passes it to one process after
another.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime

if sys.platform == "win32":
    pytest.skip("Unix sockets", allow_module_level=True)


async def own_streams(**options: Any) -> Any:
    return await runtime.start_unix_server(lambda _reader, _writer: None, **options)


async def asyncio_streams(**options: Any) -> Any:
    return await asyncio.start_unix_server(lambda _reader, _writer: None, **options)


async def protocols(**options: Any) -> Any:
    loop = runtime.get_running_loop()
    return await loop.create_unix_server(asyncio.Protocol, **options)


Serve = Callable[..., Awaitable[Any]]
each_way = pytest.mark.parametrize("serve", [own_streams, asyncio_streams, protocols])


@contextlib.contextmanager
def bound(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        yield sock


def is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


@each_way
@pytest.mark.parametrize("options", [{}, {"cleanup_socket": True}], ids=["default", "cleanup"])
def test_the_file_stays(serve: Serve, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main(sock: socket.socket) -> None:
        server = await serve(sock=sock, **options)
        assert is_served(path)
        server.close()
        await server.wait_closed()

    # ``kept`` is the service manager's socket; each server stands for a process that it starts.
    with bound(path) as kept:
        for _ in range(2):
            runtime.run(main(kept.dup()))
            assert path.is_socket()


@each_way
async def test_the_file_of_a_path_is_removed(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    server = await serve(path=str(path))
    assert path.is_socket()
    server.close()
    await server.wait_closed()
    assert not path.exists()


@each_way
def test_the_file_need_not_be_accessible(serve: Serve, tmp_path: Path) -> None:
    """The folder may be one that only the service manager can read."""
    folder = tmp_path / "folder"
    folder.mkdir()

    async def main(sock: socket.socket) -> None:
        server = await serve(sock=sock)
        server.close()
        await server.wait_closed()

    with bound(folder / "socket") as sock:
        folder.rename(tmp_path / "moved")
        folder.touch()  # Now a path inside it is an error, even for root.
        runtime.run(main(sock))
        assert (tmp_path / "moved" / "socket").is_socket()

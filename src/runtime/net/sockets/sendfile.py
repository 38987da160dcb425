"""Sending a file through a socket: by ``os.sendfile``, or by reading the file.

``send_file`` sends to a descriptor by ``os.sendfile``; ``send_by_reading`` reads the file and calls
a function that sends. ``sock_sendfile`` uses both for a socket, and ``net.connection.send_file``
for a connection.

Source: ``loop.sock_sendfile`` in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.descriptors import writable
from runtime.kernel.errors import SendfileNotAvailableError
from runtime.net.sockets.calls import temporarily_non_blocking
from runtime.net.sockets.operations import sock_sendall

READ_SIZE: Final = 256 * 1024
"""Bytes of one read if the system cannot send the file itself."""

_BINARY: Final = (io.RawIOBase, io.BufferedIOBase)
_BUFFERED: Final = (io.BufferedReader, io.BufferedRandom)

_MOST: Final = 1 << 30
"""Bytes that one call of ``os.sendfile`` may be asked for on any system."""


async def sock_sendfile(
    loop: LoopCore,
    sock: socket.socket,
    file: Any,
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool = True,
) -> int:
    """Send at most ``count`` bytes of ``file`` from ``offset``; return the number sent.

    The file's position, ``file.tell()``, is then behind the bytes that were sent, after an error or
    a cancellation too. If ``os.sendfile`` cannot send the file, it is read in threads; without
    ``fallback``, SendfileNotAvailableError is raised instead.
    """
    with temporarily_non_blocking(loop, sock, "sock_sendfile"):
        check_request(file, offset, count)
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"only SOCK_STREAM type sockets are supported, got {sock!r}")
        try:
            fd = sock.fileno()
            wait_writable = functools.partial(writable, loop, fd)
            return await send_file(fd, file, offset, count, wait_writable)
        except SendfileNotAvailableError:
            if not fallback:
                raise
        send = functools.partial(sock_sendall, loop, sock)
        return await send_by_reading(loop, send, file, offset, count)


def check_request(file: Any, offset: object, count: object) -> None:
    """Raise ValueError or TypeError for wrong arguments of ``sendfile``."""
    mode = getattr(file, "mode", "b")
    # A file object that reads from an archive has a mode of another kind: that of gzip is a number,
    # and that of zipfile has no "b".
    is_binary = not isinstance(mode, str) or "b" in mode or isinstance(file, _BINARY)
    if not is_binary or isinstance(file, io.TextIOBase):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


async def send_file(
    fd: int,
    file: Any,
    offset: int,
    count: int | None,
    wait_writable: Callable[[], Awaitable[object]],
) -> int:
    """Send from ``file`` to the non-blocking stream socket ``fd`` by ``os.sendfile``.

    ``await wait_writable()`` must wait until the socket accepts more, and raise if it is closed.
    Returns the number of bytes sent, and always leaves the file's position behind them. Raises
    SendfileNotAvailableError, before any byte is sent, if the system cannot send the file.
    """
    source = _source(file)
    position = offset
    end = None if count is None else offset + count
    try:
        while end is None or position < end:
            sent = _send_part(fd, source, position, _MOST if end is None else end - position)
            if sent == 0:
                break
            position += max(sent, 0)
            if position == end or (end is None and _at_end(source, position)):
                break
            # Also after a part was sent: other tasks run, and the socket is probably full.
            await wait_writable()
    except OSError as error:
        if position == offset and not isinstance(error, ConnectionError):
            raise SendfileNotAvailableError(
                f"os.sendfile() cannot send {file!r}: {error}"
            ) from error
        if error.errno == errno.ENOTCONN:
            # The connection was lost during the transfer, for which systems have different errors.
            raise ConnectionError(errno.ENOTCONN, "socket is not connected") from error
        raise
    finally:
        if position > offset or is_seekable(file):
            _move_to(file, source, position)
    return position - offset


def _source(file: Any) -> int:
    """Return the descriptor to send from. Raises SendfileNotAvailableError if there is none."""
    if not hasattr(os, "sendfile"):
        raise SendfileNotAvailableError("os.sendfile() is not available on this system")
    plain = _plain(file)
    if plain is None:
        raise SendfileNotAvailableError(
            f"{file!r} is not a regular file, or reads other bytes than its descriptor"
        )
    try:
        if isinstance(plain, io.BufferedRandom):
            plain.flush()  # The system cannot see bytes that are still in Python's buffer.
        source: int = plain.fileno()
        os.fstat(source)
    except (AttributeError, OSError) as error:
        raise SendfileNotAvailableError(f"{file!r} is not a regular file") from error
    return source


def _plain(file: Any) -> Any:
    """Return the plain file of ``file`` if it reads the same bytes as its descriptor; or None.

    That is certain for plain files only. Other objects may have the descriptor of a file whose
    content they transform: those of gzip, for instance.
    """
    if type(file).__module__ == "tempfile":
        file = getattr(file, "file", file)  # A wrapper of a plain file, which deletes it.
    raw = file.raw if type(file) in _BUFFERED else file
    if type(raw) is io.FileIO:
        return file
    return None if hasattr(file, "read") or hasattr(file, "readinto") else file


def _send_part(fd: int, source: int, position: int, most: int) -> int:
    """Return the number of bytes sent; 0 at the end of the file, -1 if the socket is full."""
    try:
        return os.sendfile(fd, source, position, min(most, _MOST))
    except (BlockingIOError, InterruptedError):
        return -1


def _at_end(source: int, position: int) -> bool:
    """Return whether ``position`` is known to be the end; some files have a size of 0."""
    return 0 < os.fstat(source).st_size <= position


def _move_to(file: Any, source: int, position: int) -> None:
    if is_seekable(file):
        file.seek(position)
    else:
        os.lseek(source, position, os.SEEK_SET)


def is_seekable(file: Any) -> bool:
    """Return whether a file has a position that can be set."""
    ask = getattr(file, "seekable", None)
    return bool(ask()) if ask is not None else hasattr(file, "seek")


async def send_by_reading(
    loop: LoopCore,
    send: Callable[[memoryview], Awaitable[object]],
    file: Any,
    offset: int,
    count: int | None,
) -> int:
    """Read ``file`` in threads, and ``send`` the bytes; return their number.

    Leaves the file's position behind the bytes that were sent. The exception is a cancellation
    during a read: the thread may continue reading, and move the position.
    """
    seekable = is_seekable(file)
    if offset or seekable:
        file.seek(offset)
    buffer = memoryview(bytearray(READ_SIZE if count is None else min(count, READ_SIZE)))
    sent = 0
    try:
        while count is None or sent < count:
            part = buffer if count is None else buffer[: count - sent]
            size: int = await loop.run_in_executor(None, file.readinto, part)
            if not size:
                break
            await send(part[:size])
            sent += size
    finally:
        if sent and seekable:
            file.seek(offset + sent)
    return sent

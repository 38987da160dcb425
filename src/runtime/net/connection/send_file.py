"""Sending a file through a connection, after the bytes written before."""

from __future__ import annotations

from typing import Any

from runtime.kernel.core import LoopCore
from runtime.kernel.errors import SendfileNotAvailableError
from runtime.net.connection.layers import Lower, Top
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.sockets.sendfile import check_request, send_by_reading, send_file


async def send_file_through(
    loop: LoopCore,
    top: Top,
    lower: Lower,
    file: Any,
    offset: int,
    count: int | None,
    fallback: bool,
) -> int:
    """Send ``count`` bytes of ``file``, or all, after the bytes written before; return the number.

    ``StreamWriter.sendfile`` documents the arguments and exceptions.
    """
    check_request(file, offset, count)
    lower.send_joined()  # This may fail, and close the connection.
    if lower.is_closing():
        raise RuntimeError("Transport is closing")
    if isinstance(lower, StreamSocket):
        try:
            return await _send_natively(top, lower, file, offset, count)
        except SendfileNotAvailableError:
            if not fallback:
                raise
    elif not fallback:
        raise SendfileNotAvailableError(
            f"fallback is disabled and native sendfile is not supported for {lower!r}"
        )

    async def send(part: memoryview) -> None:
        if lower.is_closing():
            raise _closed_meanwhile(top)
        lower.write(part)
        if top.writing_paused:
            await top.drained(loop)

    return await send_by_reading(loop, send, file, offset, count)


async def _send_natively(
    top: Top, lower: StreamSocket, file: Any, offset: int, count: int | None
) -> int:
    async def wait_writable() -> None:
        await lower.writable()
        if lower.is_closed():
            raise _closed_meanwhile(top)

    lower.begin_sendfile()
    try:
        while lower.unsent:
            await wait_writable()
        return await send_file(lower.fd, file, offset, count, wait_writable)
    finally:
        lower.end_sendfile()


def _closed_meanwhile(top: Top) -> ConnectionError:
    error = ConnectionError("the connection was closed while a file was being sent")
    error.__cause__ = top.error
    return error

"""Pipe transports: they read from, or write to, a pipe, a socket or a character device.

The transports have the same names and behaviour as in asyncio; they are implemented in
``read_end.py`` and ``write_end.py``.

Source: "Working with pipes" and "Transports and Protocols" in the standard library's documentation
of asyncio.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from runtime.kernel.arguments.callables import make_protocol
from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Future
from runtime.system.pipe_ends import Pipe
from runtime.system.read_end import ReadEnd
from runtime.system.write_end import WriteEnd

P = TypeVar("P", bound=asyncio.BaseProtocol)


class ReadPipeTransport(Uncopyable, asyncio.ReadTransport):
    """The transport of a pipe that is read from. It is made by ``connect_read_pipe``."""

    def __init__(self, end: ReadEnd) -> None:
        super().__init__({"pipe": end.pipe})
        self._end = end

    def is_reading(self) -> bool:
        """Return whether received data is passed to the protocol: neither paused nor closed."""
        return self._end.reading()

    def pause_reading(self) -> None:
        """Stop reading, and leave the data in the pipe; do nothing when paused or closed."""
        self._end.pause()

    def resume_reading(self) -> None:
        """Read again after a pause; do nothing when not paused, or closed."""
        self._end.resume()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on."""
        self._end.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None after ``connection_lost``."""
        protocol: asyncio.BaseProtocol = self._end.protocol
        return protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closed or being closed."""
        return self._end.closing

    def close(self) -> None:
        """Stop reading; ``connection_lost`` is called soon, and then the pipe is closed."""
        self._end.close()

    def __del__(self) -> None:
        _close_dropped(self, self._end)

    def __repr__(self) -> str:
        return _describe(self, self._end)


class WritePipeTransport(Uncopyable, asyncio.Transport):
    """The transport of a pipe that is written to. It is made by ``connect_write_pipe``.

    As in asyncio it has the methods for reading too, which raise NotImplementedError: code for any
    kind of transport tries them, and can do without.
    """

    def __init__(self, end: WriteEnd) -> None:
        super().__init__({"pipe": end.pipe})
        self._end = end

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``: as much as the pipe takes at once, and the rest later.

        The caller may change ``data`` afterwards. The protocol's ``pause_writing`` is called when
        the write buffer exceeds its high-water mark. Writing to a closed transport does nothing,
        but a warning is logged to the logger ``asyncio`` at the fifth time, the tenth, the 20th,
        the 40th, and so on. Raises TypeError unless ``data`` is bytes-like.
        """
        self._end.write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send several bytes-like objects, in order; otherwise like ``write``."""
        self._end.write_many(list(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: closing the pipe is its end of file."""
        return True

    def write_eof(self) -> None:
        """Close the pipe: the same as ``close``."""
        self._end.close()

    def close(self) -> None:
        """Close the pipe once all data was sent; then ``connection_lost`` is called."""
        self._end.close()

    def abort(self) -> None:
        """Close the pipe now, and drop unsent data; ``connection_lost`` is called soon."""
        self._end.send_joined()
        self._end.end(None)

    def is_closing(self) -> bool:
        """Return whether the transport is closed or being closed."""
        return self._end.closing

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes."""
        self._end.send_joined()
        return self._end.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark, in bytes."""
        return self._end.water_marks()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the high-water and the low-water mark of the write buffer, in bytes.

        ``pause_writing`` is called above ``high`` unsent bytes, and ``resume_writing`` at ``low``
        or less. By default ``high`` is 64 KiB, and ``low`` a quarter of ``high``. Raises ValueError
        unless ``high >= low >= 0``.
        """
        self._end.set_water_marks(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on."""
        self._end.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None after ``connection_lost``."""
        protocol: asyncio.BaseProtocol = self._end.protocol
        return protocol

    def __del__(self) -> None:
        _close_dropped(self, self._end)

    def __repr__(self) -> str:
        return _describe(self, self._end, f"bufsize={self._end.unsent}")


def _describe(transport: object, end: ReadEnd | WriteEnd, *details: str) -> str:
    words = [type(transport).__name__, f"fd={end.number}"]
    if end.pipe is None:
        words.append("closed")
    else:
        words.append("closing" if end.closing else "open")
        words.append("polling" if end.events else "idle")
        words += details
    return f"<{' '.join(words)}>"


def _close_dropped(transport: object, end: ReadEnd | WriteEnd) -> None:
    if end.pipe is None:
        return
    warnings.warn(
        f"unclosed transport {transport!r}: close it",
        ResourceWarning,
        stacklevel=3,
        source=transport,
    )
    end.release()


def _check_pipe(pipe: Pipe) -> int:
    """Return the mode of a pipe, with its file type bits.

    Raises ValueError for a regular file, a directory and the like, and for a pipe that is closed.
    """
    if os.name != "posix":
        raise NotImplementedError("pipes in the event loop need a POSIX system")
    fd = pipe.fileno()
    if fd < 0:
        raise ValueError(f"{pipe!r} is closed: a transport needs an open pipe")
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(
            f"Pipe transport is only for pipes, sockets and character devices, got {pipe!r}: "
            "read and write other files in a thread"
        )
    return mode


async def connect_read_pipe(
    loop: LoopCore, protocol_factory: Callable[[], P], pipe: Any
) -> tuple[ReadPipeTransport, P]:
    """Read from ``pipe`` in the loop: see ``Loop.connect_read_pipe``."""
    protocol = make_protocol(protocol_factory)
    _check_pipe(pipe)
    end = ReadEnd(loop, pipe, protocol)
    transport = ReadPipeTransport(end)
    await _started(loop, end, transport)
    return transport, protocol


async def connect_write_pipe(
    loop: LoopCore, protocol_factory: Callable[[], P], pipe: Any
) -> tuple[WritePipeTransport, P]:
    """Write to ``pipe`` in the loop: see ``Loop.connect_write_pipe``."""
    protocol = make_protocol(protocol_factory)
    mode = _check_pipe(pipe)
    # A terminal is read through the same device, so that it is readable although there is a reader.
    # AIX reports the write end of a pipe as readable.
    watch_reader = stat.S_ISSOCK(mode) or (
        stat.S_ISFIFO(mode) and not sys.platform.startswith("aix")
    )
    end = WriteEnd(loop, pipe, protocol, watch_reader)
    transport = WritePipeTransport(end)
    await _started(loop, end, transport)
    return transport, protocol


async def _started(
    loop: LoopCore, end: ReadEnd | WriteEnd, transport: ReadPipeTransport | WritePipeTransport
) -> None:
    waiter: Future[None] = loop.create_future()
    end.make_non_blocking()
    end.schedule_connection_made(transport, waiter)
    try:
        await waiter
        end.begin(transport)
    except BaseException:
        transport.close()
        raise

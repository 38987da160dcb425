"""Transport of a stream: ``writer.transport``, for code written for asyncio's streams.

It is a third object for the same connection, beside the reader and the writer, and is made at the
first access. It has no protocol: received data goes to the reader.

Source: "Transports" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NoReturn

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.arguments.sizes import Size
from runtime.net.connection.stream_adapter import StreamAdapter


class StreamTransport(Uncopyable, asyncio.Transport):
    """Connection of a ``StreamWriter``, with the methods of an asyncio transport.

    ``loop.sendfile`` accepts it. ``loop.start_tls`` does not: use ``writer.start_tls()``, after
    which this object is the transport of the encrypted connection.
    """

    __slots__ = ("__weakref__", "_guard", "adapter")

    def __init__(self, adapter: StreamAdapter, guard: object) -> None:
        super().__init__()
        self.adapter = adapter
        # A reference to the transport alone keeps the connection open as well.
        self._guard = guard

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send ``data``, as ``writer.write()`` does."""
        self.adapter.write(data)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send several bytes-like objects, in order, in as few system calls as possible."""
        parts = list(list_of_data)
        if parts:
            self.adapter.write_many(parts)

    def write_eof(self) -> None:
        """Send the end of the stream once all written data was sent; receiving continues.

        Raises NotImplementedError where ``can_write_eof()`` is False.
        """
        self.adapter.lower.write_eof()

    def can_write_eof(self) -> bool:
        """Return whether ``write_eof`` is supported: with TCP it is, with TLS it is not."""
        return self.adapter.lower.can_write_eof()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the sizes of the write buffer above which ``drain()`` waits, and at which it returns.

        Both are in bytes. ``high`` is 64 KiB by default, and ``low`` a quarter of ``high``. Raises
        ValueError unless ``high >= low >= 0``.
        """
        self.adapter.lower.set_water_marks(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self.adapter.lower.water_marks()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and not sent yet."""
        return self.adapter.lower.unsent_size()

    # -- Reading -----------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Receive nothing until ``resume_reading``; the reader can still read its buffer.

        Calling it twice is fine. ``writer.start_tls()`` ends the pause.
        """
        self.adapter.pause_reading()

    def resume_reading(self) -> None:
        """Receive again, unless the reader has too much unread. Calling it twice is fine."""
        self.adapter.resume_reading()

    def is_reading(self) -> bool:
        """Return whether bytes are received now; False also while the reader's buffer is full."""
        return self.adapter.is_reading()

    # -- Ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection once all written data was sent, as ``writer.close()`` does."""
        self.adapter.close()

    def abort(self) -> None:
        """Close the connection now, and drop unsent data."""
        self.adapter.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or being closed."""
        return self.adapter.closing

    # -- Information -------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the value of ``name``, as ``writer.get_extra_info()`` does."""
        found = self.adapter.lower.info(name)
        return default if found is None else found

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> NoReturn:
        """Raise NotImplementedError: received data goes to the reader."""
        raise _no_protocol("set_protocol")

    def get_protocol(self) -> NoReturn:
        """Raise NotImplementedError: there is no protocol."""
        raise _no_protocol("get_protocol")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.adapter!r}>"


def _no_protocol(method: str) -> NotImplementedError:
    return NotImplementedError(
        f"{method}(): the streams of runtime have no protocol: read from the reader, or make the "
        "connection with loop.create_connection() or loop.create_server(), for a protocol of your "
        "own, or with asyncio.open_connection() or asyncio.start_server(), whose streams have one"
    )

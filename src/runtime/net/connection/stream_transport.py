"""The transport of a stream: what code written for asyncio finds as ``writer.transport``.

It is another handle on the same connection, beside the reader and the writer, and made only when it
is asked for. There is no protocol: what is received goes to the reader.

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
    """The connection of a ``StreamWriter``, with the methods of an asyncio transport.

    ``loop.sendfile`` takes it. ``loop.start_tls`` does not: use ``writer.start_tls()``, after which
    this is the transport of the encrypted connection.
    """

    __slots__ = ("__weakref__", "_guard", "adapter")

    def __init__(self, adapter: StreamAdapter, guard: object) -> None:
        super().__init__()
        self.adapter = adapter
        # Whoever holds the transport has not dropped the connection.
        self._guard = guard

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send ``data``, as ``writer.write()`` does."""
        self.adapter.write(data)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send several bytes-like objects, in order, in as few system calls as it takes."""
        parts = list(list_of_data)
        if parts:
            self.adapter.lower.write_many(parts)

    def write_eof(self) -> None:
        """Announce the end to the peer once everything written was sent; receiving goes on.

        Raises NotImplementedError where ``can_write_eof()`` is False.
        """
        self.adapter.lower.write_eof()

    def can_write_eof(self) -> bool:
        """Return whether one direction can be ended alone: with TCP it can, with TLS it cannot."""
        return self.adapter.lower.can_write_eof()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the unsent bytes above which ``drain()`` waits, and those at which it goes on.

        Defaults: 64 KiB and a quarter. Raises ValueError unless ``high >= low >= 0``.
        """
        self.adapter.lower.set_water_marks(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self.adapter.lower.water_marks()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes were written and not sent yet."""
        return self.adapter.lower.unsent_size()

    # -- Reading -----------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Receive nothing until ``resume_reading``: the reader gets no more than it has.

        Calling it twice is fine. ``writer.start_tls()`` ends it.
        """
        self.adapter.pause_reading()

    def resume_reading(self) -> None:
        """Receive again, unless the reader has too much unread. Calling it twice is fine."""
        self.adapter.resume_reading()

    def is_reading(self) -> bool:
        """Return whether bytes are received now: not while too much lies unread, either."""
        return self.adapter.is_reading()

    # -- Ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection once everything written was sent, as ``writer.close()`` does."""
        self.adapter.close()

    def abort(self) -> None:
        """Close the connection now, and drop what was not sent."""
        self.adapter.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or being closed."""
        return self.adapter.closing

    # -- What is known of it -----------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what ``writer.get_extra_info()`` does."""
        found = self.adapter.lower.info(name)
        return default if found is None else found

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> NoReturn:
        """Raise NotImplementedError: what is received is the reader's."""
        raise _no_protocol("set_protocol")

    def get_protocol(self) -> NoReturn:
        """Raise NotImplementedError: there is no protocol."""
        raise _no_protocol("get_protocol")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.adapter!r}>"


def _no_protocol(method: str) -> NotImplementedError:
    return NotImplementedError(
        f"{method}(): the streams of runtime have no protocol. Read from the reader; or make the "
        "connection with loop.create_connection() or loop.create_server(), for a protocol of your "
        "own, or with asyncio.open_connection() or asyncio.start_server(), whose streams have one."
    )

"""Bottom layer of a connection that uses asyncio transports: one for each direction, or only one.

It lets the streams of ``runtime`` work on transports other than sockets, such as the pipes of a
subprocess. It does not receive the events of these transports. The code that creates it does, since
it provides their protocol, and passes the events on to the top layer.
"""

from __future__ import annotations

from typing import Any, NoReturn

from runtime.kernel.arguments.sizes import Size
from runtime.net.connection.layers import Lower, Upper


class TransportPair(Lower):
    """Layer that sends through the transport ``writer`` and pauses the transport ``reader``.

    Either may be None. The code that creates the layer sets ``is_over`` once nothing can be sent
    any more.
    """

    __slots__ = ("_eof_written", "_reader", "_writer", "is_over")

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._eof_written = False
        self.is_over = False

    def set_upper(self, upper: Upper) -> NoReturn:
        """Raise RuntimeError: this layer does not pass events on to the layer above."""
        raise RuntimeError(f"{self!r} cannot continue with TLS: only a connection can")

    def start(self) -> None:
        """Do nothing: the transports were started when they were made."""

    def write(self, data: Any) -> None:
        """Send ``data`` through the writing transport."""
        self._check_writing()
        self._writer.write(data)

    def write_many(self, parts: list[Any]) -> None:
        """Send several bytes-like objects through the writing transport."""
        self._check_writing()
        self._writer.writelines(parts)

    def _check_writing(self) -> None:
        if self._eof_written:
            raise RuntimeError("cannot write after write_eof(): it announced the end")

    def send_joined(self) -> None:
        """Have the writing transport send what it has collected, which its size depends on."""
        self.unsent_size()

    def unsent_size(self) -> int:
        """Return the size of the writing transport's buffer, in bytes."""
        if self._writer is None or self.is_over:
            return 0
        size: int = self._writer.get_write_buffer_size()
        return size

    def undelivered_size(self) -> int:
        """Return the unsent size: bytes that a pipe has accepted are delivered to its reader."""
        return self.unsent_size()

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set the water marks of the writing transport."""
        self._writer.set_write_buffer_limits(high, low)

    def water_marks(self) -> tuple[int, int]:
        """Return the water marks of the writing transport."""
        marks: tuple[int, int] = self._writer.get_write_buffer_limits()
        return marks

    def pause_reading(self) -> None:
        """Pause the reading transport."""
        if self._reader is not None:
            self._reader.pause_reading()

    def resume_reading(self) -> None:
        """Resume the reading transport."""
        if self._reader is not None:
            self._reader.resume_reading()

    def can_write_eof(self) -> bool:
        """Return whether the writing transport supports ``write_eof``."""
        can: bool = self._writer.can_write_eof()
        return can

    def write_eof(self) -> None:
        """Send the end of the data through the writing transport."""
        self._eof_written = True
        self._writer.write_eof()

    def is_closing(self) -> bool:
        """Return whether either transport is closing."""
        return any(
            transport is not None and transport.is_closing()
            for transport in (self._reader, self._writer)
        )

    def is_closed(self) -> bool:
        """Return whether nothing can be sent any more."""
        return self.is_over

    def close(self) -> None:
        """Close the transports."""
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.close()

    def fail(self, error: BaseException | None) -> None:
        """Close the transports now, and drop unsent bytes."""
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.abort()

    def info(self, name: object) -> Any:
        """Return the value of ``name`` from the first transport that knows it."""
        for transport in (self._writer, self._reader):
            if transport is not None:
                found = transport.get_extra_info(name)
                if found is not None:
                    return found
        return None

    def __repr__(self) -> str:
        transports = (self._reader, self._writer)
        return " ".join(repr(transport) for transport in transports if transport is not None)

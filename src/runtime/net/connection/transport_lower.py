"""The bottom of a stack that stands on transports of asyncio's kind: one each way, or only one.

With it the streams of ``runtime`` work on what is no socket, such as the pipes of a process. Who
makes it also is, or knows, the protocol of these transports: it tells the top what happens.
"""

from __future__ import annotations

from typing import Any, NoReturn

from runtime.kernel.arguments.sizes import Size
from runtime.net.connection.layers import Lower, Upper


class TransportLower(Lower):
    """What sends through ``writer`` and pauses ``reader``: transports, or None where there is none.

    ``is_over`` is to be set when nothing can be sent any more.
    """

    __slots__ = ("_eof_written", "_reader", "_writer", "is_over")

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._eof_written = False
        self.is_over = False

    def set_upper(self, upper: Upper) -> NoReturn:
        """Refuse: what arrives is given to the top by somebody else."""
        raise RuntimeError(f"{self!r} cannot go on with TLS: only a connection can.")

    def start(self) -> None:
        """Do nothing: the transports have begun."""

    def write(self, data: Any) -> None:
        """Send through the writing transport."""
        self._check_writing()
        self._writer.write(data)

    def write_many(self, parts: list[Any]) -> None:
        """Send through the writing transport."""
        self._check_writing()
        self._writer.writelines(parts)

    def _check_writing(self) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot write after write_eof(): it announced the end.")

    def unsent_size(self) -> int:
        """Return what the writing transport says."""
        if self._writer is None or self.is_over:
            return 0
        size: int = self._writer.get_write_buffer_size()
        return size

    def undelivered_size(self) -> int:
        """Return what is unsent: what a pipe took, it keeps for its reader."""
        return self.unsent_size()

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set those of the writing transport."""
        self._writer.set_write_buffer_limits(high, low)

    def water_marks(self) -> tuple[int, int]:
        """Return those of the writing transport."""
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
        """Return what the writing transport says."""
        can: bool = self._writer.can_write_eof()
        return can

    def write_eof(self) -> None:
        """Announce the end through the writing transport."""
        self._eof_written = True
        self._writer.write_eof()

    def is_closing(self) -> bool:
        """Return whether any of the transports is closing."""
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
        """Close the transports now; what was not sent is dropped."""
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.abort()

    def info(self, name: object) -> Any:
        """Return what one of the transports knows under this name."""
        for transport in (self._writer, self._reader):
            if transport is not None:
                found = transport.get_extra_info(name)
                if found is not None:
                    return found
        return None

    def __repr__(self) -> str:
        transports = (self._reader, self._writer)
        return " ".join(repr(transport) for transport in transports if transport is not None)

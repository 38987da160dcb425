"""The behaviour of a transport: what a protocol writes to, over whatever the connection stands on.

Compiled where a compiler was found; ``runtime.net.transports.Transport`` is the class that
protocols are given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runtime.net.layers import Lower
from runtime.net.protocol_end import ProtocolEnd

Buffer = bytes | bytearray | memoryview


class TransportCore:
    """The behaviour of ``runtime.net.transports.Transport``, where the methods are described."""

    __slots__ = ("_extra", "_reading", "end", "lower")

    def __init__(self, end: ProtocolEnd, lower: Lower) -> None:
        self.end = end
        self.lower = lower
        self._extra: dict[str, Any] | None = None
        self._reading = True

    def write(self, data: Buffer) -> None:
        """Send ``data``: at once what can be sent, the rest later, in order.

        Never blocks. ``data`` may be changed afterwards. Raises TypeError unless it is bytes-like,
        and RuntimeError after ``write_eof()``.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                "data argument must be a bytes-like object: bytes, bytearray or memoryview, "
                f"not {type(data).__name__}"
            )
        self.lower.write(data)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        parts = list(list_of_data)
        if parts:
            self.lower.write_many(parts)

    def get_extra_info(self, name: str, default: Any) -> Any:
        extra = self._extra
        if extra is not None and name in extra:
            return extra[name]
        found = self.lower.info("transport_socket" if name == "socket" else name)
        if found is None:
            return default
        if name == "socket":
            # The same object every time.
            if extra is None:
                extra = self._extra = {}
            extra[name] = found
        return found

    def is_closing(self) -> bool:
        return self.lower.is_closing()

    def close(self) -> None:
        self.lower.close()

    def abort(self) -> None:
        self.lower.fail(None)

    def set_protocol(self, protocol: Any) -> None:
        self.end.set_protocol(protocol)

    def get_protocol(self) -> Any:
        return self.end.protocol

    def is_reading(self) -> bool:
        return self._reading and not self.lower.is_closing()

    def pause_reading(self) -> None:
        if self._reading and not self.lower.is_closing():
            self._reading = False
            self.lower.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self.lower.is_closing():
            self._reading = True
            self.lower.resume_reading()

    def write_eof(self) -> None:
        self.lower.write_eof()

    def can_write_eof(self) -> bool:
        return self.lower.can_write_eof()

    def set_write_buffer_limits(self, high: int | None, low: int | None) -> None:
        self.lower.set_water_marks(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.lower.water_marks()

    def get_write_buffer_size(self) -> int:
        return self.lower.unsent_size()

    def abandoned_socket(self, transport: object) -> Any:
        """Return the socket of a connection that is open, and that no other transport has; None.

        After ``start_tls()`` another one has it.
        """
        if self.lower.is_closing() or self.end.transport is not transport:
            return None
        return self.lower.info("socket")

"""Type of the bytes-like objects that functions of this package accept."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview

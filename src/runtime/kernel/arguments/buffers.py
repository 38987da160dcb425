"""Bytes as callers give them."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview

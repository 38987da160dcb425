"""Default length of a server's listen queue, which the loop's methods need before any server."""

from __future__ import annotations

from typing import Final

BACKLOG: Final = 100
"""Connections that wait to be accepted. ``_Listener.start`` passes the length to the system."""

"""Library on top of ``runtime``, written and annotated like a third-party library."""

from __future__ import annotations

from postbox.concurrency import Batcher, first_of, map_limited, retrying
from postbox.lines import LineClient, LineServer

__all__ = ["Batcher", "LineClient", "LineServer", "first_of", "map_limited", "retrying"]

"""The grid: an echo by every kind of server, at every size, on every number of connections.

Too many cases for every run: the catalogue has the telling ones, and the grid is asked for by its
name, or a case of it by its own, such as ``buffered_64k_x1000``.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.loads import Load

SERVERS = {
    "echo": "streams",
    "readline": "lines",
    "protocol": "protocol",
    "buffered": "buffered",
    "sock": "sockets",
}
"""How a case begins, and its server."""

SIZES = {"100": 100, "1k": 1 << 10, "64k": 1 << 16, "1m": 1 << 20}
CONNECTIONS = (1, 10, 100, 1000, 10_000)
MOST_UNDER_WAY = 64 << 20
"""Bytes of all messages that are on their way at once: more is about memory, and little else."""


def loads() -> Iterator[tuple[str, Load]]:
    """Return every case's name, and its load."""
    for prefix, server in SERVERS.items():
        for word, size in SIZES.items():
            for connections in CONNECTIONS:
                if size * connections <= MOST_UNDER_WAY:
                    line = size if server == "lines" else 0
                    yield name(prefix, word, connections), Load(server, size, connections, line)


def name(prefix: str, size: str, connections: int) -> str:
    """Return the name of a case: how it begins, a word for the size, how many connections."""
    return f"{prefix}_{size}_x{connections}"

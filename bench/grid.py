"""Grid of echo cases: every kind of server, every size, every number of connections.

The grid has too many cases for an ordinary run, so that the catalogue holds the most informative
ones. The grid is measured when it is asked for, as a whole or by the name of a case such as
``buffered_64k_x1000``.
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
"""Beginning of a case's name, and the server it stands for."""

SIZES = {"100": 100, "1k": 1 << 10, "64k": 1 << 16, "1m": 1 << 20}
CONNECTIONS = (1, 10, 100, 1000, 10_000)
MOST_UNDER_WAY = 64 << 20
"""Limit of the bytes in flight in all connections: beyond it a case measures mostly memory."""


def loads() -> Iterator[tuple[str, Load]]:
    """Yield the name and the load of every case."""
    for prefix, server in SERVERS.items():
        for word, size in SIZES.items():
            for connections in CONNECTIONS:
                if size * connections <= MOST_UNDER_WAY:
                    line = size if server == "lines" else 0
                    yield name(prefix, word, connections), Load(server, size, connections, line)


def name(prefix: str, size: str, connections: int) -> str:
    """Return the name of a case, from its prefix, size and number of connections."""
    return f"{prefix}_{size}_x{connections}"

"""Queries to PostgreSQL through asyncpg, which implements a protocol of its own on the loop."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator
from typing import Any

from bench.apis import Api
from bench.postgresql import DATABASE, USER

CONNECTIONS = 10


class Queries:
    """Connections to the server whose Unix socket is in ``folder``, and queries on them."""

    def __init__(self, folder: str) -> None:
        try:
            self._asyncpg: Any = importlib.import_module("asyncpg")
        except ImportError:
            raise NotImplementedError("asyncpg is not installed") from None
        self._folder = folder
        self._connections: list[Any] = []

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Open the connections and run one query on each, so that its statement is prepared."""
        where = {"host": self._folder, "user": USER, "database": DATABASE}
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                connection = await self._asyncpg.connect(**where)
                stack.push_async_callback(connection.close)
                self._connections.append(connection)
                await self._ask(connection, 1)
            try:
                yield
            finally:
                self._connections.clear()

    async def ask(self, api: Api, count: int) -> None:
        """Run ``count`` queries in total, from one task per connection."""
        each = count // CONNECTIONS
        await api.gather(*(self._ask(connection, each) for connection in self._connections))

    async def _ask(self, connection: Any, count: int) -> None:
        for _ in range(count):
            assert await connection.fetchval("SELECT 1") == 1

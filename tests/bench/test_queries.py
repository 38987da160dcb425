"""The case of database queries, on a temporary PostgreSQL with asyncpg, if both are installed."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from bench import apis, postgresql
from bench.cases.queries import CONNECTIONS, Queries
from bench.postgresql import PostgreSQL

pytestmark = pytest.mark.once


@pytest.mark.skipif(bool(postgresql.why_not()), reason=postgresql.why_not() or "available")
@pytest.mark.skipif(importlib.util.find_spec("asyncpg") is None, reason="needs asyncpg")
def test_queries_are_answered_and_nothing_is_left() -> None:
    api, _ = apis.load("asyncio")

    async def main(queries: Queries) -> None:
        for _ in range(2):
            async with queries.connected():
                await queries.ask(api, 2 * CONNECTIONS)

    with PostgreSQL() as server:
        folder = server.folder
        assert (folder / "data").is_dir()
        asyncio.run(main(Queries(str(folder))))
    assert not folder.exists()


def test_without_asyncpg_it_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(NotImplementedError, match="asyncpg is not installed"):
        Queries("/nowhere")


def test_without_postgresql_it_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgresql, "FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "initdb" in postgresql.why_not()
    with pytest.raises(FileNotFoundError, match="initdb"):
        PostgreSQL()


def test_the_newest_postgresql_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgresql, "FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", "")
    for version in ("9", "15", "8"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for program in ("initdb", "postgres"):
            (tmp_path / version / "bin" / program).touch()
    assert postgresql.programs() == tmp_path / "15/bin"

"""Loop runners and servers for the tests of the ecosystem."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from bench.postgresql import programs as find_postgresql
from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import (
    PostgreSQL,
    Redis,
    find_redis,
    running_postgresql,
    running_redis,
)
from tests.support.certificates import Certificates


@pytest.fixture(params=["asyncio", "runtime"])
def runner(request: pytest.FixtureRequest) -> LoopRunner:
    """Return a runner of scenarios, once for each loop."""
    return LoopRunner(request.param)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """Start Redis or Valkey."""
    server = find_redis()
    if server is None:
        _without("neither redis-server nor valkey-server is installed")
    with running_redis(server) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql(certificates: Certificates) -> Iterator[PostgreSQL]:
    """Start PostgreSQL."""
    programs = find_postgresql()
    if programs is None:
        _without("PostgreSQL's initdb and postgres are not installed")
    with running_postgresql(programs, certificates) as running:
        yield running


def _without(what: str) -> NoReturn:
    advice = "tests/ecosystem/install_servers.sh installs Debian's"
    if os.environ.get("RUNTIME_REQUIRE_SERVERS") == "1":
        pytest.fail(f"{what}: {advice}", pytrace=False)
    pytest.skip(f"{what}: {advice}")

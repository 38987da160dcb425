"""Fixture of the network tests: a test runs on a loop of asyncio's own, and on ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.net.transport_tools import LOOPS, Run


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return a function that runs a coroutine, on a loop of asyncio or of runtime."""
    loop: asyncio.AbstractEventLoop = request.param()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

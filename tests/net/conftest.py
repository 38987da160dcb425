"""What tests of the network get: each on a loop of asyncio's own, and on ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.net.transport_tools import LOOPS, Run


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop of asyncio's, and on one of ours."""
    loop: asyncio.AbstractEventLoop = request.param()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

"""``unittest.IsolatedAsyncioTestCase`` on a ``runtime.Loop``, as in docs/howto/testing.md."""

from __future__ import annotations

import asyncio
import sys
import unittest
from typing import Any

import pytest

import runtime


def outcome(case: Any) -> unittest.TestResult:
    """Run the tests of ``case``; return the result."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert result.testsRun == 2
    return result


class Base:
    """Two tests, for a subclass that chooses the loop."""

    async def asyncSetUp(self) -> None:
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        await self.queue.put(1)

    async def asyncTearDown(self) -> None:
        assert self.queue.empty()

    async def test_the_loop(self) -> None:
        assert type(asyncio.get_running_loop()) is runtime.Loop
        assert await self.queue.get() == 1

    async def test_runtime_s_own(self) -> None:
        async with runtime.timeout(60):
            assert await runtime.wait_for(self.queue.get(), 60) == 1


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since Python 3.13")
def test_with_a_loop_factory() -> None:
    class Case(Base, unittest.IsolatedAsyncioTestCase):
        loop_factory = runtime.Loop

    assert outcome(Case).wasSuccessful()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies are deprecated from 3.14")
def test_with_a_policy() -> None:
    class Case(Base, unittest.IsolatedAsyncioTestCase):
        pass

    runtime.install()
    try:
        assert outcome(Case).wasSuccessful()
    finally:
        asyncio.set_event_loop_policy(None)

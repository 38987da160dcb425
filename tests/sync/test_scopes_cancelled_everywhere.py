"""Waits in scopes, shields, groups and timeouts, cancelled at every suspension.

The task is cancelled by a request, by a scope around all, or by both at the same time. A request is
never lost, and the scope ends its own cancellation only.
"""

from __future__ import annotations

import pytest

import runtime
from tests.support.cancel_everywhere import CancelPoint, Way, cancel_everywhere, settled
from tests.sync.scoped_waits import SURROUNDINGS, WAITS, Surrounding, Wait


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
@pytest.mark.parametrize("way", Way)
def test_cancelled_everywhere(way: Way, surrounding: Surrounding, wait: Wait) -> None:
    async def scenario(point: CancelPoint) -> None:
        async with wait() as work:

            async def whole() -> None:
                await surrounding(work)
                await runtime.sleep(0)  # A cancellation that came with a result is raised here.

            task = point.start(whole())
            await settled(task)
            if way is Way.SCOPE:
                assert not task.cancelled()
                assert task.cancelling() == 0
                assert point.scope.cancelled_caught == point.cancelled
            else:
                assert task.cancelled() == point.cancelled
                assert task.cancelling() == point.cancelled
                assert not point.scope.cancelled_caught

    assert cancel_everywhere(scenario, way) >= 2

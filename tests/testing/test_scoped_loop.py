"""``ScopedLoop``: the owners of the tasks that are left when a test ends."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.diagnostics.awaited_by import waiters_of
from runtime.testing import scoped_loop
from runtime.testing.scoped_loop import ScopedLoop


@pytest.fixture
def loop() -> Iterator[ScopedLoop]:
    """Return a loop without fixtures, which is closed in the end."""
    loop = ScopedLoop()
    scope = loop.begin(width=0, for_test=True)
    yield loop
    loop.end(scope)


@pytest.mark.parametrize("backwards", [False, True])
def test_each_task_of_a_long_chain_is_examined_once(
    loop: ScopedLoop, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    examined = 0

    def counting(future: Any) -> list[Any]:
        nonlocal examined
        examined += 1
        return list(waiters_of(future))

    async def pass_on(awaitable: Awaitable[None]) -> None:
        await awaitable

    async def main() -> None:
        gate: runtime.Future[None] = runtime.get_running_loop().create_future()
        tasks: list[runtime.Task[None]] = []
        for _ in range(300):
            tasks.append(runtime.create_task(pass_on(tasks[-1] if tasks else gate)))
        await runtime.sleep(0.001)
        monkeypatch.setattr(scoped_loop, "waiters_of", counting)
        scopes = loop.scopes_of(tasks[::-1] if backwards else tasks)
        assert set(scopes.values()) == {None}
        assert len(scopes) == examined == 300
        gate.set_result(None)
        await tasks[-1]

    runtime.run(main())


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_the_loop_is_closed_if_a_task_that_is_left_raises(exception: type[BaseException]) -> None:
    async def fail_at_end() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise exception

    async def main() -> None:
        runtime.create_task(fail_at_end())
        await runtime.sleep(0)

    loop = ScopedLoop()
    scope = loop.begin(width=0, for_test=True)
    scope.run_test(main())
    with pytest.raises(exception):
        scope.end()
    assert loop._loop.is_closed()

"""Loops whose ``time()`` a test overrides or patches: their timers follow."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

import runtime


class Watch:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self, *_: object) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def follows(loop: asyncio.AbstractEventLoop, watch: Watch) -> None:
    """Check that a timer of an hour runs once the clock has advanced by an hour, and not before."""
    calls: list[str] = []
    assert loop.time() == watch.now
    handle = loop.call_later(3600, calls.append, "an hour later")
    assert handle.when() == watch.now + 3600
    loop.call_at(watch.now + 7200, calls.append, "two hours later")
    for _ in range(3):
        await asyncio.sleep(0)
    assert calls == []
    watch.now += 3600
    while not calls:
        await asyncio.sleep(0)
    async with asyncio.timeout(3600) as limit:
        assert limit.when() == watch.now + 3600
        watch.now += 3599
        await asyncio.sleep(0)
    assert calls == ["an hour later"]


def test_an_overridden_method(watch: Watch) -> None:
    class Travelling(runtime.Loop):
        def time(self) -> float:
            return watch.now

    with runtime.Runner(loop_factory=Travelling) as runner:
        runner.run(follows(runner.get_loop(), watch))


@pytest.mark.parametrize("when", ["before the run", "during the run"])
def test_an_assigned_function(watch: Watch, when: str) -> None:
    with runtime.Runner() as runner:
        loop = runner.get_loop()

        async def main() -> None:
            loop.time = watch  # type: ignore[method-assign]
            await follows(loop, watch)

        if when == "before the run":
            loop.time = watch  # type: ignore[method-assign]
            runner.run(follows(loop, watch))
        else:
            runner.run(main())


async def test_a_patch_of_the_loop_is_undone(watch: Watch) -> None:
    loop = runtime.get_running_loop()
    before = loop.time()
    with mock.patch.object(loop, "time", watch):
        await follows(loop, watch)
    after = loop.time()
    await runtime.sleep(0.001)
    assert before <= after < loop.time()


def test_a_patch_of_the_class(watch: Watch) -> None:
    with mock.patch.object(runtime.Loop, "time", watch), runtime.Runner() as runner:
        runner.run(follows(runner.get_loop(), watch))


def test_a_patched_class_put_back_while_a_loop_lives(watch: Watch) -> None:
    with mock.patch.object(runtime.Loop, "time", watch):
        loop = runtime.new_event_loop()
        assert loop.time() == watch.now
    try:
        assert loop.time() != watch.now
        loop.run_until_complete(runtime.sleep(0.001))
    finally:
        loop.close()

"""``Loop.collect_when_idle``: garbage is collected between turns, when the loop would wait."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.lifetime.idle_collector import IdleCollector


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Return the generations that are collected, in order."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


def allocate(count: int) -> list[object]:
    return [[] for _ in range(count)]


async def test_collections_are_held_back_until_the_loop_waits(collections: list[int]) -> None:
    loop = runtime.get_running_loop()
    loop.collect_when_idle()
    collections.clear()  # The first call has imported a module, which allocates.
    kept = []
    for _ in range(5):
        kept.append(allocate(5000))
        await runtime.sleep(0)
    assert collections == []
    while not collections:
        await runtime.sleep(0.001)
    del kept
    loop.collect_when_idle(False)
    assert gc.isenabled()


async def test_nothing_is_collected_if_nothing_is_due(collections: list[int]) -> None:
    loop = runtime.get_running_loop()
    gc.collect()
    collections.clear()
    loop.collect_when_idle()
    await runtime.sleep(0.001)
    assert collections == []
    loop.collect_when_idle(False)


async def test_a_busy_loop_collects_between_two_turns_when_too_much_is_left(
    collections: list[int],
) -> None:
    loop = runtime.get_running_loop()
    loop.collect_when_idle(most=10_000)
    kept: list[object] = []
    in_step = False

    def check(phase: str, info: object) -> None:
        assert not in_step

    gc.callbacks.append(check)
    while not collections:
        in_step = True
        kept += allocate(5000)
        in_step = False
        await runtime.sleep(0)
    gc.callbacks.remove(check)
    assert len(kept) >= 10_000
    loop.collect_when_idle(False)


def test_full_collections_take_a_limited_share_of_the_time(collections: list[int]) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.collect_when_idle(freeze=False)
        collector = loop._idle_collector
        assert collector is not None
        collector._collect(2)
        collector._next_full += 1000
        while len(collections) < 30:
            kept = allocate(5000)
            await runtime.sleep(0.001)
            del kept

    gc.collect()
    collections.clear()
    runtime.run(main(), debug=False)
    assert collections.count(2) == 1


def test_automatic_collections_are_back_after_the_run_and_stay_off_if_they_were() -> None:
    async def main() -> None:
        runtime.get_running_loop().collect_when_idle()
        await runtime.sleep(0)
        assert not gc.isenabled()

    runtime.run(main())
    assert gc.isenabled()
    gc.disable()
    try:
        runtime.run(main())
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_several_loops_hold_collections_back_until_the_last_one_ends() -> None:
    async def main() -> None:
        runtime.get_running_loop().collect_when_idle()
        thread = threading.Thread(target=runtime.run, args=(other(),))
        thread.start()
        while thread.is_alive():
            await runtime.sleep(0.001)
        assert not gc.isenabled()

    async def other() -> None:
        runtime.get_running_loop().collect_when_idle()
        runtime.get_running_loop().collect_when_idle()

    runtime.run(main())
    assert gc.isenabled()


def test_freeze_leaves_existing_objects_out() -> None:
    async def main() -> None:
        before = gc.get_freeze_count()
        runtime.get_running_loop().collect_when_idle(freeze=True)
        assert gc.get_freeze_count() > before

    runtime.run(main())
    gc.unfreeze()


def test_the_arguments_are_checked() -> None:
    loop = runtime.new_event_loop()
    with pytest.raises(ValueError, match="positive number of allocations, got 0"):
        loop.collect_when_idle(most=0)
    with pytest.raises(TypeError, match="whole number of allocations, got 'x'"):
        loop.collect_when_idle(most="x")  # type: ignore[arg-type]
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.collect_when_idle()


async def test_a_timer_that_a_finalizer_sets_in_such_a_collection_ends_the_wait() -> None:
    loop = runtime.get_running_loop()
    event = runtime.Event()

    class Cyclic:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            loop.call_later(0.001, event.set)

    late: list[bool] = []
    guard = loop.call_later(30, late.append, True)
    loop.collect_when_idle()
    Cyclic()
    kept = allocate(5000)
    await event.wait()
    assert not late
    guard.cancel()
    loop.collect_when_idle(False)
    del kept


def test_collections_are_on_after_a_run_whose_beginning_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disable = gc.disable

    def disable_and_raise() -> None:
        disable()
        raise KeyboardInterrupt

    loop = runtime.new_event_loop()
    loop.collect_when_idle()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(gc, "disable", disable_and_raise)
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(loop.create_future())
        assert gc.isenabled()
        loop.run_until_complete(runtime.sleep(0))
        assert gc.isenabled()
    finally:
        gc.enable()
        loop.close()


@pytest.mark.parametrize("other_first", [False, True])
def test_two_loops_that_begin_at_the_same_time(
    other_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = IdleCollector(1), IdleCollector(1)
    disable = gc.disable

    def other_begins() -> None:
        monkeypatch.setattr(gc, "disable", disable)
        if other_first:
            other.begin_run()
        disable()
        if not other_first:
            other.begin_run()

    monkeypatch.setattr(gc, "disable", other_begins)
    try:
        one.begin_run()
        one.end_run()
        assert not gc.isenabled()
        other.end_run()
        assert gc.isenabled()
    finally:
        gc.enable()

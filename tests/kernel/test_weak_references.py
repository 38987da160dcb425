"""Weak references to handles of callbacks, which asyncio's handles support, in both builds."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime


def nothing() -> None:
    """Do nothing."""


Make = Callable[[Any], Any]
MAKERS: dict[str, Make] = {
    "call_soon": lambda loop: loop.call_soon(nothing),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(nothing),
    "call_later": lambda loop: loop.call_later(1000, nothing),
    "call_at": lambda loop: loop.call_at(loop.time() + 1000, nothing),
}


@pytest.fixture(params=[runtime.Loop, asyncio.SelectorEventLoop], ids=["runtime", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    loop = request.param()
    yield loop
    loop.close()


def run_one_turn(loop: Any) -> None:
    """Run one turn."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_handle_is_gone_once_it_is_dropped(loop: Any, make: Make) -> None:
    gone: list[object] = []
    handle: Any = make(loop)
    reference = weakref.ref(handle, gone.append)
    handle.cancel()
    assert reference == weakref.ref(handle)
    assert reference() is handle
    loop.call_soon(nothing)
    del handle
    run_one_turn(loop)
    loop.close()  # until then, a cancelled timer stays in the heap
    assert reference() is None
    assert gone == [reference]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_collector_clears_references_to_handles_in_cycles(loop: Any, make: Make) -> None:
    handle: Any = make(loop)
    holder: list[Any] = []
    other = loop.call_soon(holder.append, holder)
    holder.append(other)
    holder.append(handle)
    references = [weakref.ref(handle), weakref.ref(other)]
    handle.cancel()
    del handle, other, holder
    run_one_turn(loop)
    loop.close()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_many_handles_are_keys(loop: Any) -> None:
    names: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
    handles = [make(loop) for make in MAKERS.values() for _ in range(100)]
    names.update(zip(handles, range(len(handles)), strict=True))
    assert len(names) == len(handles)
    assert names[handles[7]] == 7
    # Some handles are deallocated with the dictionary, some before it.
    del handles[::2]
    run_one_turn(loop)
    loop.close()
    gc.collect()
    assert len(names) == len(handles)

"""A guard around every test: descriptors and threads are back where they were, and no loop runs.

What escapes as an "unraisable" exception or out of a thread is caught by pytest itself, and made an
error by ``filterwarnings``; the collection at the end of each module makes the finalizers of its
objects run while that module, and no later one, is to blame.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from runtime.kernel.compat.registry import running_loops

DESCRIPTORS = next((path for path in ("/proc/self/fd", "/dev/fd") if Path(path).is_dir()), None)
PATIENCE = 5.0
"""Seconds for threads that are ending, and for what they hold, to go."""


def open_descriptors() -> set[int]:
    """Return the descriptors that are open in this process; none where that cannot be told."""
    if DESCRIPTORS is None:
        return set()
    found = set()
    for name in os.listdir(DESCRIPTORS):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # it was that of the listing
        found.add(int(name))
    return found


def left_over(before: set[int], threads: set[threading.Thread]) -> list[str]:
    """Describe the descriptors and threads that were not there before."""
    return [
        *(describe_descriptor(fd) for fd in sorted(open_descriptors() - before)),
        *(repr(thread) for thread in set(threading.enumerate()) - threads),
    ]


def describe_descriptor(fd: int) -> str:
    """Return a descriptor and what it refers to, where the system tells."""
    try:
        return f"descriptor {fd} -> {os.readlink(f'{DESCRIPTORS}/{fd}')}"
    except OSError:
        return f"descriptor {fd}"


def wait_until_nothing(leftovers: Callable[[], list[str]]) -> list[str]:
    """Give what is on its way out the time to go; return what stays."""
    if not leftovers():
        return []
    gc.collect()
    deadline = time.monotonic() + PATIENCE
    while (found := leftovers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def still_running() -> list[str]:
    """Describe what a loop that has ended must not leave behind; and remove it, for the next test.

    What runs in other threads is not looked at: a thread that goes on is found as such.
    """
    found = []
    if (loop := asyncio._get_running_loop()) is not None:
        found.append(f"asyncio's running loop {loop!r}")
        asyncio._set_running_loop(None)
    if (ours := running_loops.pop(threading.get_ident(), None)) is not None:
        found.append(f"the running loop {ours!r}")
    if any(hooks := sys.get_asyncgen_hooks()):
        found.append(f"{hooks!r}")
        sys.set_asyncgen_hooks(None, None)
    return found


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves descriptors open, threads running, or this thread in a loop."""
    before, threads = open_descriptors(), set(threading.enumerate())
    yield
    found = still_running() + wait_until_nothing(lambda: left_over(before, threads))
    if found:
        pytest.fail(f"left behind by the test: {', '.join(found)}", pytrace=False)


@cache
def make_hypothesis_generator() -> None:
    """Have hypothesis make its random numbers' generator before anything is frozen.

    It warns where it finds no reference to the generator that it has just made, and the collector
    does not look for references in what is frozen, which the holder of that one would be.
    """
    if "hypothesis" in sys.modules:
        from hypothesis import given, strategies

        given(strategies.none())(lambda nothing: None)()


@pytest.fixture(autouse=True, scope="module")
def finalizers_run() -> Iterator[None]:
    """Collect garbage at the end of a module, so that its finalizers run with its tests.

    What was there before the module is left alone, until ``pytest_sessionfinish``: a suite comes to
    a million objects, and the collector, or ``gc.get_objects()``, would go through them each time.
    """
    make_hypothesis_generator()
    gc.freeze()
    yield
    gc.collect()


def pytest_sessionfinish() -> None:
    """Give everything back to the collector."""
    gc.unfreeze()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Leave it to the reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()

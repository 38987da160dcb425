"""Leak check around every test: descriptors and threads are as before, and no loop is running.

pytest itself catches "unraisable" exceptions and exceptions of threads, and ``filterwarnings``
makes them errors. The collection at the end of each module runs the finalizers of its objects, so
that their errors are blamed on that module and not on a later one.
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
"""Seconds allowed for threads to end, and for their objects to be deallocated."""


def open_descriptors() -> set[int]:
    """Return the open descriptors of this process; an empty set if they cannot be listed."""
    if DESCRIPTORS is None:
        return set()
    found = set()
    for name in os.listdir(DESCRIPTORS):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # this descriptor was that of the listing
        found.add(int(name))
    return found


def left_over(before: set[int], threads: set[threading.Thread]) -> list[str]:
    """Describe the descriptors and threads that were not there before."""
    return [
        *(describe_descriptor(fd) for fd in sorted(open_descriptors() - before)),
        *(repr(thread) for thread in set(threading.enumerate()) - threads),
    ]


def describe_descriptor(fd: int) -> str:
    """Return a descriptor and the file that it refers to, if the system reports it."""
    try:
        return f"descriptor {fd} -> {os.readlink(f'{DESCRIPTORS}/{fd}')}"
    except OSError:
        return f"descriptor {fd}"


def wait_until_nothing(leftovers: Callable[[], list[str]]) -> list[str]:
    """Give objects that are being deallocated the time for it; return the remaining ones."""
    if not leftovers():
        return []
    gc.collect()
    deadline = time.monotonic() + PATIENCE
    while (found := leftovers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def still_running() -> list[str]:
    """Describe the traces of a loop that has ended; remove them for the next test.

    Other threads are not checked: a thread that keeps running is found as such.
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
    """Have hypothesis create its random number generator before objects are frozen.

    hypothesis warns if it finds no reference to the generator that it has just created; the
    collector ignores references in frozen objects, and the holder of the generator would be frozen.
    """
    if "hypothesis" in sys.modules:
        from hypothesis import given, strategies

        given(strategies.none())(lambda nothing: None)()


@pytest.fixture(autouse=True, scope="module")
def finalizers_run() -> Iterator[None]:
    """Collect garbage at the end of a module, so that its finalizers run with its tests.

    Older objects are frozen until ``pytest_sessionfinish``: a session has up to a million objects,
    and the collector, or ``gc.get_objects()``, would visit all of them each time.
    """
    make_hypothesis_generator()
    gc.freeze()
    yield
    gc.collect()


def pytest_sessionfinish() -> None:
    """Unfreeze all objects."""
    gc.unfreeze()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the collector, to test deallocation by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()

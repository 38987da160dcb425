"""Soak test, tested: a short soak finds nothing, and a soak finds every kind of problem."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

import runtime
from tests.soak.measures import Measures
from tests.support.programs import run_program


@pytest.mark.slow
def test_a_short_soak_leaves_nothing() -> None:
    done = run_program("-m", "tests.soak.run", "--minutes", "0.2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything is as it was" in done.stdout


@contextlib.contextmanager
def a_thread() -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_leaks_are_reported_by_kind() -> None:
    async def main() -> list[str]:
        before = Measures.now()
        assert Measures.now().more_than(before) == []
        task = runtime.create_task(runtime.sleep(3600))
        with a_thread(), socket.socket():
            objects = [[None] for _ in range(1000)]
            blocks = [float(number) for number in range(10_000)]
            memory = b"x" * (64 << 20)
            found = Measures.now().more_than(before)
        task.cancel()
        assert len(objects) + len(blocks) < len(memory)
        return [line.partition(":")[0] for line in found]

    expected = ["tasks", "threads", "descriptors", "objects", "blocks of memory", "memory"]
    found = runtime.run(main())
    if sys.getallocatedblocks() == 0:
        # Another allocator than Python's is in use. That of AddressSanitizer gives back memory that
        # was freed before when it allocates more, so that the resident memory may even shrink.
        expected.remove("blocks of memory")
        expected.remove("memory")
        found = [name for name in found if name != "memory"]
    assert found == expected

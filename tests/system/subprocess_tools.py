"""Helpers for the tests of processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.system import child

WAYS: dict[str, Callable[[Any], object]] = {
    "pidfd": lambda _patch: None,
    "thread": lambda patch: patch.setattr(child, "pidfds_work", lambda: False),
    "thread-without-waitid": lambda patch: (
        patch.setattr(child, "pidfds_work", lambda: False),
        patch.delattr(os, "waitid"),
    ),
}
"""Ways to notice the end of a process; each function selects one with a monkeypatch."""


class ProcessRecorder(asyncio.SubprocessProtocol):
    """Records the calls it receives, as words such as ``data 1`` and ``exited``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.errors: dict[int, BaseException | None] = {}
        self.transport: Any = None
        self._changed = asyncio.Event()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.data[fd] += data
        if self.calls[-1] != f"data {fd}":
            self.note(f"data {fd}")
        self._changed.set()

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.errors[fd] = exc
        self.note(f"lost {fd}")

    def process_exited(self) -> None:
        self.note("exited")

    def connection_lost(self, exc: BaseException | None) -> None:
        assert exc is None
        self.note("lost")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` holds, which is checked after each call."""
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_called(self, call: str) -> None:
        """Wait for a call."""
        await self.until(lambda: call in self.calls)


async def start(program: str, *args: Any, **options: Any) -> tuple[Any, ProcessRecorder]:
    """Run a program in the running loop; return its transport and its protocol."""
    transport, protocol = await asyncio.get_running_loop().subprocess_exec(
        ProcessRecorder, program, *args, **options
    )
    return transport, protocol


async def shell(command: str, **options: Any) -> tuple[Any, ProcessRecorder]:
    """Run a command line in the running loop; return its transport and its protocol."""
    transport, protocol = await asyncio.get_running_loop().subprocess_shell(
        ProcessRecorder, command, **options
    )
    return transport, protocol


def exists(pid: int) -> bool:
    """Return whether a process with this pid exists, possibly as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def children() -> list[int]:
    """Return the children of this process, including zombies, if the system lists them."""
    found = []
    for thread in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # The thread has ended meanwhile.
            found += [int(pid) for pid in thread.read_text().split()]
    return found

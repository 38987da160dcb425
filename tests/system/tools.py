"""Helpers for the tests of pipes."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import tty
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any

import runtime

Loop = Callable[[], Any]

LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "runtime": runtime.new_event_loop,
}


def run(
    make_loop: Callable[[], Any], main: Coroutine[Any, Any, Any], *, debug: bool = False
) -> Any:
    """Run ``main`` in a loop made by ``make_loop``."""
    with asyncio.Runner(loop_factory=make_loop, debug=debug) as runner:
        return runner.run(main)


class Recorder(asyncio.Protocol):
    """Records the calls it receives, as words; ``data`` contains the received bytes."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.error: BaseException | None = None
        self.transport: Any = None
        self._changed = asyncio.Event()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.note("data")

    def eof_received(self) -> None:
        self.note("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
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
        """Wait for a call, and for the turn that made it to end."""
        await self.until(lambda: call in self.calls)
        await turns(2)


async def turns(number: int = 5) -> None:
    """Let all ready callbacks run ``number`` times."""
    for _ in range(number):
        await asyncio.sleep(0)


async def take_until(pipe: IO[bytes], condition: Callable[[int], object]) -> None:
    """Read from a non-blocking pipe until ``condition`` holds for the bytes so far."""
    os.set_blocking(pipe.fileno(), False)
    size = 0
    async with asyncio.timeout(30):
        while not condition(size):
            size += len(pipe.read(1 << 16) or b"")
            await asyncio.sleep(0)


def make_pipe() -> tuple[IO[bytes], IO[bytes]]:
    """Return the read end and the write end of a pipe, unbuffered."""
    read_fd, write_fd = os.pipe()
    return os.fdopen(read_fd, "rb", 0), os.fdopen(write_fd, "wb", 0)


def fifo(folder: Path) -> tuple[Any, Any]:
    path = folder / "fifo"
    os.mkfifo(path)
    read_fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return os.fdopen(read_fd, "rb", 0), open(path, "wb", 0)


def terminal(_folder: Path) -> tuple[Any, Any]:
    main, other = os.openpty()
    tty.setraw(other)
    return os.fdopen(main, "rb", 0), os.fdopen(other, "wb", 0)


KINDS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "pipe": lambda _folder: make_pipe(),
    "fifo": fifo,
    "socket": lambda _folder: socket.socketpair(),
    "terminal": terminal,
}


def is_closed(pipe: IO[bytes] | socket.socket) -> bool:
    """Return whether a pipe was closed."""
    return pipe.fileno() == -1 if isinstance(pipe, socket.socket) else pipe.closed


async def reading(pipe: Any, protocol: Any = None) -> tuple[Any, Any]:
    """Read from ``pipe`` in the running loop; return the transport and its protocol."""
    protocol = protocol or Recorder()
    return await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)


async def writing(pipe: Any, protocol: Any = None) -> tuple[Any, Any]:
    """Write to ``pipe`` in the running loop; return the transport and its protocol."""
    protocol = protocol or Recorder()
    return await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, pipe)


def collect_reports() -> list[dict[str, Any]]:
    """Return a list that collects the running loop's exception reports from now on."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, report: reports.append(report))
    return reports


class Draining:
    """A thread that reads a pipe to its end; a context manager that returns and joins it.

    It begins at once or, with ``later``, on ``begin()``.
    """

    def __init__(self, pipe: IO[bytes] | socket.socket, *, later: bool = False) -> None:
        self.data = b""
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read)
        self._begun = threading.Event()
        if not later:
            self.begin()

    def begin(self) -> None:
        self._begun.set()

    def __enter__(self) -> Draining:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.begin()
        self._thread.join(30)

    def _read(self) -> None:
        self._begun.wait()
        parts = []
        while part := os.read(self._pipe.fileno(), 1 << 20):
            parts.append(part)
        self.data = b"".join(parts)

"""The cost of a line is linear in its length, whatever its pieces and the data behind it."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import runtime
from runtime.net.connection import receive_buffer
from runtime.net.connection.receive_buffer import ReceiveBuffer
from runtime.net.connection.stream_adapter import StreamAdapter
from tests.net.tools import stream_pair
from tests.support.build import is_compiled

PIECE = 4096
PIECES = 2048
LIMIT = 16 * 1024 * 1024
LINE_END = (b"\n",)


class Counted(bytes):
    """Bytes that count how many of them are searched."""

    searched = 0

    def find(self, *args: Any) -> int:
        start, stop = (*args[1:], len(self))[:2] if len(args) < 3 else args[1:]
        found = super().find(*args)
        Counted.searched += (found if found >= 0 else min(stop, len(self))) - start
        return found


def steps_of(work: Callable[[], object]) -> int:
    """Return the number of lines of the receive buffer's module that ``work`` executes."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        if frame.f_code.co_filename != receive_buffer.__file__:
            return None
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


interpreted = pytest.mark.skipif(is_compiled(), reason="compiled code cannot be traced")
separators = pytest.mark.parametrize(
    "separators",
    [(b"\n",), (b"\r\n",), (b"\r\n", b"\n"), (b"nowhere", b"\n"), (b"--" + b"b" * 70, b"\n")],
    ids=["LF", "CRLF", "either", "one is nowhere", "long"],
)


@interpreted
@separators
def test_the_steps_of_a_long_line_in_pieces(separators: tuple[bytes, ...]) -> None:
    def arrive(pieces: int) -> None:
        buffer = ReceiveBuffer()
        for _ in range(pieces):
            buffer.append(b"x" * PIECE)
            assert buffer.find(separators) == (-1, 0)
        buffer.append(separators[-1])
        stop = pieces * PIECE + len(separators[-1])
        assert buffer.find(separators)[1] == stop
        assert len(buffer.take(stop)) == stop

    few = steps_of(lambda: arrive(50))
    many = steps_of(lambda: arrive(500))
    assert many < 12 * few


@separators
def test_the_number_of_bytes_searched_for_a_long_line(separators: tuple[bytes, ...]) -> None:
    Counted.searched = 0
    buffer = ReceiveBuffer()
    for _ in range(PIECES):
        buffer.append(Counted(PIECE))
        buffer.find(separators)
    # Each separator is searched once in each piece, and again in a possible beginning of it.
    assert Counted.searched <= 1.2 * PIECES * PIECE * len(separators)


@separators
def test_the_number_of_bytes_searched_for_short_lines(separators: tuple[bytes, ...]) -> None:
    lines = PIECE // 32
    piece = (b"x" * 31 + b"\n") * lines
    if separators == (b"\r\n",):
        piece = piece.replace(b"x\n", b"\r\n")
    Counted.searched = 0
    buffer = ReceiveBuffer()
    for _ in range(PIECES):
        buffer.append(Counted(piece))
    for _ in range(lines):
        assert buffer.find(separators)[1] == 32
        buffer.take(32)
    # In a window for each line, but not in the whole piece.
    assert Counted.searched <= lines * 600 * len(separators)


@interpreted
def test_the_steps_of_short_lines_before_much_other_data() -> None:
    def take_lines(pieces: int) -> int:
        buffer = ReceiveBuffer()
        for _ in range(pieces):
            buffer.append(b"short\n" * 700)

        def work() -> None:
            for _ in range(100):
                buffer.take(buffer.find(LINE_END)[1])

        return steps_of(work)

    assert take_lines(PIECES) == take_lines(2)


@pytest.fixture
def traced() -> Iterator[None]:
    """Trace allocations."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@separators
def test_a_short_line_before_much_data_allocates_little(separators: tuple[bytes, ...]) -> None:
    buffer = ReceiveBuffer()
    piece = b"short\r\n" * 600
    for _ in range(PIECES):
        buffer.append(piece)
    buffer.take(buffer.find(separators)[1])
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    buffer.take(buffer.find(separators)[1])
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < PIECES


# -- Through a reader ------------------------------------------------------------------------------


def end_of(reader: runtime.StreamReader) -> StreamAdapter:
    return reader._adapter


@interpreted
@pytest.mark.parametrize("how", ["readline", "readuntil", "readuntil one of two"])
def test_reads_after_a_cancellation_do_not_search_again(how: str) -> None:
    async def read(reader: runtime.StreamReader) -> bytes:
        if how == "readline":
            return await reader.readline()
        return await reader.readuntil(b"\n" if how == "readuntil" else (b"\n", b"\r\n"))

    async def steps(pieces: int) -> int:
        async with stream_pair(LIMIT) as (reader, _, _peer):
            end = end_of(reader)

            async def impatient() -> bytes:
                for _ in range(pieces):
                    end.received(b"x" * PIECE)
                    reading = runtime.create_task(read(reader))
                    await runtime.sleep(0)
                    reading.cancel()
                    await runtime.wait([reading])
                end.received(b"\n")
                return await read(reader)

            task = runtime.create_task(impatient())
            count = 0

            def trace(frame: FrameType, event: str, argument: object) -> Any:
                nonlocal count
                if frame.f_code.co_filename != receive_buffer.__file__:
                    return None
                count += event == "line"
                return trace

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                line = await task
            finally:
                sys.settrace(before)
            assert line == b"x" * (pieces * PIECE) + b"\n"
            return count

    assert runtime.run(steps(500)) < 12 * runtime.run(steps(50))


async def test_a_line_beyond_the_limit_is_removed_and_the_next_is_read() -> None:
    async with stream_pair(100) as (reader, _, _peer):
        end = end_of(reader)
        end.received(b"x" * 3000)
        end.received(b"x" * 3000)
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        end.received(b"y" * 3000 + b"\nnext\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        assert await reader.readline() == b"next\n"


async def test_a_changed_bytearray_does_not_change_the_search() -> None:
    async with stream_pair() as (reader, _, _peer):
        end = end_of(reader)
        separator = bytearray(b"\n")
        end.received(b"first;second")
        reading = runtime.create_task(reader.readuntil(separator))  # type: ignore[arg-type]
        await runtime.sleep(0)
        reading.cancel()
        await runtime.wait([reading])
        separator[:] = b";"
        assert await reader.readuntil(separator) == b"first;"  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes-like"):
            await reader.readuntil("\n")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="one-byte"):
            await reader.readuntil(bytearray())  # type: ignore[arg-type]

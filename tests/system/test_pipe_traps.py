"""Pipes in the loop, in cases that asyncio handles wrongly or leaves undefined."""

from __future__ import annotations

import array
import asyncio
import contextvars
import gc
import os
import socket
import tty
import weakref
from typing import IO, Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.system.tools import (
    Draining,
    Recorder,
    collect_reports,
    make_pipe,
    reading,
    take_until,
    turns,
    writing,
)


async def test_callbacks_run_in_the_context_of_the_connecting_task() -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    class Contexts(Recorder):
        def note(self, call: str) -> None:
            super().note(f"{call} {variable.get()}")

    async def connect(kind: Any, pipe: Any) -> tuple[Any, Any]:
        variable.set("inside")
        return await asyncio.create_task(kind(pipe, Contexts()))

    read_end, write_end = make_pipe()
    reader, received = await asyncio.create_task(connect(reading, read_end))
    writer, sent = await asyncio.create_task(connect(writing, write_end))
    writer.set_write_buffer_limits(0)
    writer.write(b"x" * 100_000)
    await sent.until_called("resume inside")
    writer.close()
    await received.until_called("lost inside")
    assert not [call for call in received.calls if call.endswith("outside")]
    assert sent.calls == ["made inside", "pause outside", "resume inside", "lost inside"]
    assert reader.is_closing()


@pytest.mark.parametrize("connect", [reading, writing])
async def test_closed_from_the_beginning(connect: Any) -> None:
    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"too late")
        _, protocol = await connect(ours, Closing())
        await protocol.until_called("lost")
        assert protocol.calls == ["made", "lost"]
        assert ours.fileno() == -1


# -- Reading


def open_device(path: str) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDONLY), "rb", 0)


async def test_a_device_that_cannot_be_watched_is_read_all_the_same() -> None:
    _, received = await reading(open_device("/dev/null"))
    await received.until_called("lost")
    assert received.calls == ["made", "eof", "lost"]
    assert received.error is None
    reader, received = await reading(open_device("/dev/zero"))
    await received.until(lambda: len(received.data) > 500_000)
    reader.pause_reading()
    size = len(received.data)
    await all_tasks_blocked()
    assert len(received.data) == size
    for _ in range(2):
        reader.resume_reading()
        reader.pause_reading()
    reader.resume_reading()
    await received.until(lambda: len(received.data) > size)
    reader.close()
    await received.until_called("lost")
    assert received.calls[-2:] == ["data", "lost"]


async def test_the_pipe_is_closed_by_other_code() -> None:
    reports = collect_reports()
    read_end, write_end = make_pipe()
    with write_end:
        _, received = await reading(read_end)
        number = read_end.fileno()
        read_end.close()
        # Data that arrives for the next owner of the number ends the transport, and is not
        # lost.
        other_read, other_write = make_pipe()
        with other_write:
            assert other_read.fileno() == number
            other_write.write(b"for another")
            other, other_received = await reading(other_read)
            await received.until_called("lost")
            assert received.data == b""
            assert isinstance(received.error, OSError)
            assert "was closed while its transport was open" in str(received.error)
            assert [report["exception"] for report in reports] == [received.error]
            await other_received.until_called("data")
            assert other_received.data == b"for another"
            other.close()
            await other_received.until_called("lost")


async def test_nothing_is_written_to_a_reused_descriptor() -> None:
    read_end, write_end = make_pipe()
    with read_end:
        writer, sent = await writing(write_end)
        number = write_end.fileno()
        write_end.close()
        other_read, other_write = make_pipe()
        with other_read, other_write:
            # The number of the pipe's write end is reused by one of the two pipes.
            assert number in (other_read.fileno(), other_write.fileno())
            writer.write(b"not for another")
            await sent.until_called("lost")
            assert "was closed while its transport was open" in str(sent.error)
            other_write.write(b"ours")
            assert other_read.read(100) == b"ours"


@pytest.mark.parametrize("connect", [reading, writing])
async def test_a_closed_pipe_is_refused(connect: Any) -> None:
    file, other = make_pipe()
    sock, peer = socket.socketpair()
    for pipe in (file, sock, other, peer):
        pipe.close()
    for pipe in (file, sock):
        with pytest.raises(ValueError, match="closed"):
            await connect(pipe)


def test_system_exit_in_data_received_passes() -> None:
    class Exiting(Recorder):
        def data_received(self, data: bytes) -> None:
            raise SystemExit(7)

    async def main() -> None:
        read_end, write_end = make_pipe()
        with write_end:
            reader, received = await reading(read_end, Exiting())
            write_end.write(b"x")
            try:
                await received.until_called("lost")
            finally:
                reader.close()
                await received.until_called("lost")

    with pytest.raises(SystemExit):
        runtime.run(main())


async def test_several_chunks_for_a_reused_descriptor() -> None:
    read_end, write_end = make_pipe()
    with read_end:
        writer, sent = await writing(write_end)
        write_end.close()
        writer.writelines([b"not for ", b"another"])
        await sent.until_called("lost")
        assert "was closed while its transport was open" in str(sent.error)
        assert read_end.read(100) == b""


# -- Writing


async def test_a_socket_with_traffic_both_ways() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    with theirs, ours.dup() as also_ours:
        writer, sent = await writing(ours)
        reader, received = await reading(also_ours)
        reader.pause_reading()
        theirs.sendall(b"question")
        await all_tasks_blocked()
        assert not writer.is_closing()
        writer.write(b"answer")
        assert theirs.recv(100) == b"answer"
        reader.resume_reading()
        await received.until_called("data")
        assert received.data == b"question"
        theirs.close()
        await received.until_called("lost")
        writer.write(b"x")
        await sent.until_called("lost")
        assert isinstance(sent.error, BrokenPipeError)


async def test_a_fifo_opened_for_both(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_RDWR)
    writer, sent = await writing(os.fdopen(fd, "r+b", 0))
    writer.write(b"readable by ourselves")
    await all_tasks_blocked()
    assert not writer.is_closing()
    writer.close()
    await sent.until_called("lost")


@pytest.mark.parametrize("writer_first", [False, True])
async def test_a_terminal_through_one_descriptor(writer_first: bool) -> None:
    main_fd, other_fd = os.openpty()
    tty.setraw(other_fd)
    with os.fdopen(main_fd, "r+b", 0) as pipe, os.fdopen(other_fd, "r+b", 0) as other:
        if writer_first:
            writer, sent = await writing(pipe)
            writer.write(b"x" * 100_000)
            reader, received = await reading(pipe)
        else:
            reader, received = await reading(pipe)
            writer, sent = await writing(pipe)
            writer.write(b"x" * 100_000)
        assert writer.get_write_buffer_size()
        other.write(b"for the reader")
        await received.until_called("data")
        assert received.data == b"for the reader"
        await take_until(other, lambda size: size == 100_000)
        reader.pause_reading()
        reader.resume_reading()
        other.write(b", again")
        await received.until(lambda: received.data == b"for the reader, again")
        writer.close()
        await sent.until_called("lost")
        reader.close()
        await received.until_called("lost")


async def test_the_protocol_resumes_at_the_low_mark() -> None:
    read_end, write_end = make_pipe()
    with read_end:
        writer, sent = await writing(write_end)
        writer.set_write_buffer_limits(high=500_000, low=400_000)
        writer.write(b"x" * 600_000)
        await take_until(read_end, lambda _: "resume" in sent.calls)
        assert 300_000 < writer.get_write_buffer_size() <= 400_000
        writer.abort()
        await sent.until_called("lost")


async def test_buffers_with_items_of_several_bytes() -> None:
    numbers = array.array("i", range(100_000))
    read_end, write_end = make_pipe()
    with read_end, Draining(read_end) as drained:
        writer, sent = await writing(write_end)
        writer.write(memoryview(numbers))
        writer.writelines([numbers, memoryview(numbers)])
        writer.close()
        await sent.until_called("lost")
    assert drained.data == numbers.tobytes() * 3


async def test_bad_input_is_refused_and_the_transport_goes_on() -> None:
    read_end, write_end = make_pipe()
    with read_end:
        writer, sent = await writing(write_end)
        with pytest.raises(TypeError, match="str"):
            writer.write("text")
        with pytest.raises(TypeError, match="str"):
            writer.writelines([b"bytes", "text"])
        gaps = memoryview(b"abcdef")[::2]
        with pytest.raises(BufferError, match="contiguous"):
            writer.write(gaps)
        with pytest.raises(BufferError, match="contiguous"):
            writer.writelines([b"bytes", gaps])
        writer.write(b"good")
        writer.close()
        await sent.until_called("lost")
        assert read_end.read(100) == b"good"


@pytest.mark.parametrize("kind", ["close", "abort", "reader gone"])
async def test_connection_lost_comes_once(kind: str) -> None:
    read_end, write_end = make_pipe()
    writer, sent = await writing(write_end)
    writer.write(b"x" * 100_000)
    if kind == "reader gone":
        read_end.close()
        writer.write(b"x")
        await turns(1)
    elif kind == "close":
        writer.close()
    for _ in range(2):
        writer.abort()
    await sent.until_called("lost")
    writer.abort()
    writer.close()
    await all_tasks_blocked()
    assert sent.calls.count("lost") == 1
    read_end.close()


# -- Ending


async def test_no_reference_cycle_is_left_behind() -> None:
    read_end, write_end = make_pipe()
    reader, received = await reading(read_end)
    writer, sent = await writing(write_end)
    gone = [weakref.ref(each) for each in (reader, writer, received, sent)]
    writer.close()
    await received.until_called("lost")
    received.transport = sent.transport = None
    gc.disable()
    try:
        del reader, writer, received, sent
        await all_tasks_blocked()
        assert [ref() for ref in gone] == [None] * 4
    finally:
        gc.enable()


async def test_closed_while_the_protocol_resumes() -> None:
    class Aborting(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.abort()

    read_end, write_end = make_pipe()
    with read_end:
        writer, sent = await writing(write_end, Aborting())
        writer.write(b"x" * 200_000)
        await take_until(read_end, lambda _: writer.is_closing())
        await sent.until_called("lost")
        assert sent.calls == ["made", "pause", "resume", "lost"]
        assert writer.get_protocol() is None


async def test_writing_from_within_resume_writing() -> None:
    class Insatiable(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            if self.calls.count("resume") < 5:
                self.fill()
            else:
                self.transport.close()

        def fill(self) -> None:
            while self.transport.get_write_buffer_size() <= 64 * 1024:
                self.transport.write(b"x" * 100_000)

    read_end, write_end = make_pipe()
    with read_end, Draining(read_end) as drained:
        _, sent = await writing(write_end, Insatiable())
        sent.fill()
        await sent.until_called("lost")
    assert sent.calls == ["made", *["pause", "resume"] * 5, "lost"]
    assert len(drained.data) % 100_000 == 0

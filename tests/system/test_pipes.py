"""Pipes in the loop, with the same behaviour under asyncio's own loop and under runtime's."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support.blocked import all_tasks_blocked
from tests.system.tools import (
    KINDS,
    Loop,
    Recorder,
    collect_reports,
    is_closed,
    make_pipe,
    reading,
    run,
    writing,
)

# -- Both directions


def test_from_one_end_to_the_other(make_loop: Loop, ends: tuple[Any, Any]) -> None:
    payload = bytes(range(256)) * 500

    async def main() -> None:
        reader, received = await reading(ends[0])
        writer, sent = await writing(ends[1])
        assert received.calls == sent.calls == ["made"]
        assert isinstance(reader, asyncio.ReadTransport)
        assert isinstance(writer, asyncio.WriteTransport)
        assert reader.get_extra_info("pipe") is ends[0]
        assert reader.get_extra_info("socket", "none") == "none"
        writer.write(payload)
        await received.until(lambda: len(received.data) == len(payload))
        assert received.data == payload
        assert writer.can_write_eof()
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        await sent.until_called("lost")
        reader.close()
        await received.until_called("lost")
        assert sent.error is None
        assert is_closed(ends[0])
        assert is_closed(ends[1])
        assert writer.get_extra_info("pipe") is ends[1]

    run(make_loop, main())


@pytest.mark.parametrize("connect", [reading, writing])
def test_other_files_are_refused(make_loop: Loop, connect: Any, tmp_path: Path) -> None:
    async def main() -> None:
        with open(tmp_path / "file", "wb", 0) as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await connect(file)
            assert not file.closed

    run(make_loop, main())


@pytest.mark.parametrize("connect", [reading, writing])
def test_the_pipe_is_made_non_blocking(make_loop: Loop, connect: Any) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            transport, protocol = await connect(ours)
            assert not os.get_blocking(ours.fileno())
            transport.close()
            await protocol.until_called("lost")

    run(make_loop, main())


@pytest.mark.parametrize("connect", [reading, writing])
def test_cancelled_while_connecting(make_loop: Loop, connect: Any) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            protocol = Recorder()
            task = asyncio.ensure_future(connect(ours, protocol))
            asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            await protocol.until_called("lost")
            assert protocol.calls == ["made", "lost"]
            assert ours.fileno() == -1

    run(make_loop, main())


@pytest.mark.parametrize("connect", [reading, writing])
def test_an_exception_in_connection_made_is_reported(make_loop: Loop, connect: Any) -> None:
    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("made")

    async def main() -> None:
        reports = collect_reports()
        ours, theirs = socket.socketpair()
        with theirs:
            transport, protocol = await connect(ours, Failing())
            assert [type(report["exception"]) for report in reports] == [LookupError]
            transport.close()
            await protocol.until_called("lost")

    run(make_loop, main())


@pytest.mark.parametrize("connect", [reading, writing])
def test_another_protocol_takes_over(make_loop: Loop, connect: Any) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            first, second = Recorder(), Recorder()
            transport, _ = await connect(ours, first)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            transport.close()
            await second.until_called("lost")
            assert first.calls == ["made"]
            assert second.calls == ["lost"]

    run(make_loop, main())


@pytest.mark.parametrize("connect", [reading, writing])
def test_dropped_without_closing(make_loop: Loop, connect: Any) -> None:
    async def main() -> None:
        await connect(ours)

    ours, theirs = socket.socketpair()
    with theirs:
        loop = make_loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
        with pytest.warns(ResourceWarning, match="unclosed transport <.*PipeTransport"):
            del loop
            gc.collect()
        assert ours.fileno() == -1


def test_repr_shows_the_state(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        reader, _ = await reading(read_end)
        writer, sent = await writing(write_end)
        assert f"fd={read_end.fileno()}" in repr(reader)
        assert "polling" in repr(reader)
        reader.pause_reading()
        assert "idle" in repr(reader)
        writer.write(b"x" * 100_000)
        assert f"bufsize={writer.get_write_buffer_size()}" in repr(writer)
        writer.close()
        assert "closing" in repr(writer)
        reader.close()
        await sent.until_called("lost")
        assert "closed" in repr(reader)
        assert "closed" in repr(writer)

    run(make_loop, main())


def test_asyncio_streams_on_pipes(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        stream = asyncio.StreamReader()
        reader, _ = await reading(read_end, asyncio.StreamReaderProtocol(stream))
        transport, protocol = await writing(write_end, asyncio.streams.FlowControlMixin())
        loop = asyncio.get_running_loop()
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def send() -> None:
            for number in range(20_000):
                writer.writelines([b"line ", b"%d" % number, b"\n"])
                await writer.drain()
            writer.close()

        sending = asyncio.create_task(send())
        lines = [line async for line in stream]
        await sending
        assert lines == [b"line %d\n" % number for number in range(20_000)]
        assert reader.is_closing()

    run(make_loop, main())


# -- Reading


def test_the_end_comes_before_connection_lost(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        reader, received = await reading(read_end)
        write_end.write(b"last words")
        write_end.close()
        await received.until_called("lost")
        assert received.calls == ["made", "data", "eof", "lost"]
        assert received.data == b"last words"
        assert received.error is None
        assert read_end.closed
        assert reader.is_closing()
        assert not reader.is_reading()
        for call in (reader.close, reader.pause_reading, reader.resume_reading):
            call()
        await all_tasks_blocked()
        assert received.calls == ["made", "data", "eof", "lost"]

    run(make_loop, main())


def test_pausing(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with write_end:
            reader, received = await reading(read_end)
            for _ in range(2):
                reader.pause_reading()
            assert not reader.is_reading()
            write_end.write(b"kept")
            await all_tasks_blocked()
            assert received.data == b""
            for _ in range(2):
                reader.resume_reading()
            assert reader.is_reading()
            await received.until_called("data")
            assert received.data == b"kept"
            reader.close()
            await received.until_called("lost")

    run(make_loop, main())


def test_paused_from_the_beginning(make_loop: Loop) -> None:
    class Paused(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        read_end, write_end = make_pipe()
        with write_end:
            write_end.write(b"kept")
            reader, received = await reading(read_end, Paused())
            await all_tasks_blocked()
            assert received.calls == ["made"]
            reader.resume_reading()
            await received.until_called("data")
            reader.close()
            await received.until_called("lost")

    run(make_loop, main())


def test_nothing_is_delivered_after_close(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with write_end:
            reader, received = await reading(read_end)
            write_end.write(b"unwanted")
            for _ in range(2):
                reader.close()
            reader.resume_reading()
            await received.until_called("lost")
            await all_tasks_blocked()
            assert received.calls == ["made", "lost"]
            assert read_end.closed

    run(make_loop, main())


def test_an_exception_in_data_received_is_reported_and_reading_goes_on(make_loop: Loop) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.data) == 1:
                raise LookupError("data")

    async def main() -> None:
        reports = collect_reports()
        read_end, write_end = make_pipe()
        reader, received = await reading(read_end, Failing())
        write_end.write(b"1")
        await received.until_called("data")
        write_end.write(b"2")
        write_end.close()
        await received.until_called("lost")
        assert received.data == b"12"
        assert [type(report["exception"]) for report in reports] == [LookupError]
        assert reader.is_closing()

    run(make_loop, main())


def test_a_read_error_is_reported_once(make_loop: Loop) -> None:
    async def main() -> None:
        reports = collect_reports()
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        reader, received = await reading(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        await received.until_called("lost")
        assert received.calls == ["made", "lost"]
        assert isinstance(received.error, ConnectionResetError)
        assert len(reports) == 1
        assert reports[0]["message"] == "Fatal read error on pipe transport"
        assert reports[0]["exception"] is received.error
        assert reports[0]["transport"] is reader
        assert reports[0]["protocol"] is received

    run(make_loop, main())


def test_the_other_side_of_a_terminal_goes(make_loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        reports = collect_reports()
        read_end, write_end = KINDS["terminal"](tmp_path)
        _, received = await reading(read_end)
        write_end.close()
        await received.until_called("lost")
        assert isinstance(received.error, OSError)
        assert received.error.errno == errno.EIO
        assert not reports

    run(make_loop, main())

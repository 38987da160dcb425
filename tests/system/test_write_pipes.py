"""Writing to pipes, with the same behaviour under asyncio's own loop and under runtime's."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from pathlib import Path

import pytest

from tests.support.blocked import all_tasks_blocked
from tests.system.tools import (
    KINDS,
    Draining,
    Loop,
    Recorder,
    collect_reports,
    make_pipe,
    run,
    take_until,
    writing,
)


def test_written_at_once(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            for data in (b"by", bytearray(b"te"), memoryview(b"xsx")[::1], b""):
                writer.write(data)
            assert read_end.read(100) == b"bytexsx"
            assert writer.get_write_buffer_size() == 0
            writer.close()
            await sent.until_called("lost")

    run(make_loop, main())


def test_everything_arrives_in_order(make_loop: Loop) -> None:
    source = random.Random(7)
    sizes = [source.choice((1, 10, 1000, 50_000, 200_000)) for _ in range(60)] + [3] * 3000
    chunks = [source.randbytes(size) for size in sizes]

    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end, Draining(read_end) as drained:
            writer, sent = await writing(write_end)
            for number, chunk in enumerate(chunks):
                if number % 7 == 0:
                    writer.writelines([chunk, b"", bytearray(chunk)])
                    continue
                data = bytearray(chunk)
                writer.write((chunk, data, memoryview(data))[number % 3])
                data[:] = bytes(len(data))  # the writer must not refer to it any more
                if number % 50 == 0:
                    await asyncio.sleep(0)
            writer.close()
            await sent.until_called("lost")
        expected = [chunk * (2 if number % 7 == 0 else 1) for number, chunk in enumerate(chunks)]
        assert drained.data == b"".join(expected)
        assert sent.calls[0] == "made"
        assert sent.calls[-1] == "lost"
        assert sent.calls[1:-1] == ["pause", "resume"] * (len(sent.calls) // 2 - 1)

    run(make_loop, main())


def test_several_chunks_and_a_pipe_that_is_full(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end, Draining(read_end, later=True) as drained:
            os.set_blocking(write_end.fileno(), False)
            while write_end.write(b"-" * 4096):
                pass
            writer, sent = await writing(write_end)
            writer.writelines([b"one ", bytearray(b"two "), b"", memoryview(b"three ")])
            assert writer.get_write_buffer_size() == 14
            writer.writelines([b"four "])
            writer.writelines([])
            writer.set_write_buffer_limits(20)
            writer.writelines([b"five ", b"six"])
            assert sent.calls == ["made", "pause"]
            drained.begin()
            writer.close()
            await sent.until_called("lost")
            writer.writelines([b"too ", b"late"])
        assert drained.data.lstrip(b"-") == b"one two three four five six"

    run(make_loop, main())


def test_several_chunks_and_a_reader_that_is_gone(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        writer, sent = await writing(write_end)
        read_end.close()
        writer.writelines([b"one", b"two"])
        await sent.until_called("lost")
        assert isinstance(sent.error, BrokenPipeError)

    run(make_loop, main())


def test_flow_control(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            assert writer.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            writer.set_write_buffer_limits(high=1000)
            assert writer.get_write_buffer_limits() == (250, 1000)
            writer.set_write_buffer_limits(low=100)
            assert writer.get_write_buffer_limits() == (100, 400)
            with pytest.raises(ValueError, match="must be >= 0"):
                writer.set_write_buffer_limits(high=1, low=2)
            while not writer.get_write_buffer_size():
                writer.write(b"x" * 1000)
            size = writer.get_write_buffer_size()
            assert sent.calls == ["made", "pause"] if size > 400 else ["made"]
            writer.write(b"x" * 1000)
            assert sent.calls == ["made", "pause"]
            assert writer.get_write_buffer_size() == size + 1000
            await take_until(read_end, lambda _: "resume" in sent.calls)
            assert sent.calls == ["made", "pause", "resume"]
            assert writer.get_write_buffer_size() <= 100
            writer.close()
            await sent.until_called("lost")

    run(make_loop, main())


def test_limits_that_are_lowered_pause_at_once(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            writer.set_write_buffer_limits(1 << 20)
            writer.write(b"x" * 100_000)
            assert sent.calls == ["made"]
            writer.set_write_buffer_limits(0)
            assert sent.calls == ["made", "pause"]
            writer.abort()
            await sent.until_called("lost")
            assert sent.calls == ["made", "pause", "lost"]

    run(make_loop, main())


def test_exceptions_in_flow_control_are_reported(make_loop: Loop) -> None:
    class Failing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            raise LookupError("pause")

        def resume_writing(self) -> None:
            super().resume_writing()
            raise LookupError("resume")

    async def main() -> None:
        reports = collect_reports()
        read_end, write_end = make_pipe()
        with read_end, Draining(read_end):
            writer, sent = await writing(write_end, Failing())
            writer.write(b"x" * 1_000_000)
            writer.close()
            await sent.until_called("lost")
        assert sent.calls == ["made", "pause", "resume", "lost"]
        assert [report["message"] for report in reports] == [
            "protocol.pause_writing() failed",
            "protocol.resume_writing() failed",
        ]
        assert all(report["transport"] is writer for report in reports)

    run(make_loop, main())


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_closing_sends_written_data(make_loop: Loop, method: str) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            writer.write(b"x" * 300_000)
            getattr(writer, method)()
            getattr(writer, method)()
            assert writer.is_closing()
            await all_tasks_blocked()
            assert "lost" not in sent.calls
            with Draining(read_end) as drained:
                await sent.until_called("lost")
                assert write_end.closed
            assert len(drained.data) == 300_000
            assert sent.error is None

    run(make_loop, main())


def test_abort_drops_unsent_data(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            writer.write(b"x" * 300_000)
            unsent = writer.get_write_buffer_size()
            writer.close()
            writer.abort()
            assert writer.get_write_buffer_size() == 0
            await sent.until_called("lost")
            assert sent.error is None
            assert len(read_end.read(1 << 20)) == 300_000 - unsent
            assert sent.calls == ["made", "pause", "lost"]

    run(make_loop, main())


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
@pytest.mark.parametrize("unsent", [False, True])
def test_the_reader_goes(make_loop: Loop, kind: str, unsent: bool, tmp_path: Path) -> None:
    async def main() -> None:
        reports = collect_reports()
        read_end, write_end = KINDS[kind](tmp_path)
        writer, sent = await writing(write_end)
        if unsent:
            writer.write(b"x" * 1_000_000)
            await all_tasks_blocked()
        read_end.close()
        await sent.until_called("lost")
        assert isinstance(sent.error, BrokenPipeError if unsent else type(None))
        assert writer.is_closing()
        assert writer.get_write_buffer_size() == 0
        assert not reports

    run(make_loop, main())


def test_a_write_that_fails(make_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reports = collect_reports()
        read_end, write_end = make_pipe()
        writer, sent = await writing(write_end)
        read_end.close()
        writer.write(b"x")
        assert writer.is_closing()
        writer.write(b"x")
        await sent.until_called("lost")
        assert isinstance(sent.error, BrokenPipeError)
        assert sent.calls == ["made", "lost"]
        assert not reports
        for _ in range(3):
            writer.write(b"x")
        writer.write(b"")
        assert not caplog.records
        writer.write(b"x")
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    caplog.set_level(logging.WARNING, "asyncio")
    run(make_loop, main())


def test_a_failed_write_is_logged_in_debug_mode(
    make_loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        writer, sent = await writing(write_end)
        read_end.close()
        writer.write(b"x")
        await sent.until_called("lost")

    caplog.set_level(logging.DEBUG, "asyncio")
    run(make_loop, main(), debug=True)
    errors = [record for record in caplog.records if record.exc_info]
    assert [record.levelname for record in errors] == ["DEBUG"]
    assert "Fatal write error on pipe transport" in errors[0].getMessage()


def test_warnings_of_writes_after_close(make_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            writer.close()
            for _ in range(4):
                writer.write(b"x")
            assert not caplog.records
            # asyncio warns at the sixth time, and each time from then on.
            for _ in range(2):
                writer.write(b"x")
            assert len(caplog.records) == 1
            await sent.until_called("lost")
            assert read_end.read(100) == b""

    caplog.set_level(logging.WARNING, "asyncio")
    run(make_loop, main())


def test_it_is_a_transport_that_cannot_read(make_loop: Loop) -> None:
    """``asyncio.StreamReader`` tries to pause any transport that it is given."""

    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            writer, sent = await writing(write_end)
            assert isinstance(writer, asyncio.Transport)
            for method in (writer.pause_reading, writer.resume_reading, writer.is_reading):
                with pytest.raises(NotImplementedError):
                    method()
            reader = asyncio.StreamReader(limit=1)
            reader.set_transport(writer)
            reader.feed_data(b"more than the limit")
            writer.close()
            await sent.until_called("lost")

    run(make_loop, main())

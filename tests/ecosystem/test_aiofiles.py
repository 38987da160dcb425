"""aiofiles: file operations in the loop's threads."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiofiles
import aiofiles.os
import aiofiles.tempfile
import pytest

from tests.ecosystem.runners import LoopRunner


def test_many_files_at_once(runner: LoopRunner, tmp_path: Path) -> None:
    async def main() -> tuple[int, list[str]]:
        async def write_and_read(number: int) -> int:
            path = tmp_path / f"{number}"
            async with aiofiles.open(path, "w") as file:
                await file.writelines(f"line {line} of {number}\n" for line in range(200))
            async with aiofiles.open(path) as file:
                return len([line async for line in file])

        lines = await asyncio.gather(*(write_and_read(number) for number in range(30)))
        return sum(lines), sorted(await aiofiles.os.listdir(tmp_path))

    assert runner(main) == (6000, sorted(str(number) for number in range(30)))


def test_seeking_and_temporary_files(runner: LoopRunner) -> None:
    async def main() -> tuple[bytes, int, bool]:
        async with aiofiles.tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            async with aiofiles.open(path, "wb+") as file:
                await file.write(b"0123456789")
                await file.seek(4)
                middle = await file.read(3)
                position = await file.tell()
        return middle, position, await aiofiles.os.path.exists(folder)

    assert runner(main) == (b"456", 7, False)


def test_errors_and_cancellation(runner: LoopRunner, tmp_path: Path) -> None:
    async def main() -> list[str]:
        events = []
        with pytest.raises(FileNotFoundError) as raised:
            async with aiofiles.open(tmp_path / "missing"):
                pass
        events.append(type(raised.value).__name__)
        pipe = tmp_path / "pipe"
        await asyncio.to_thread(_make_fifo, pipe)
        # The thread waits for a writer; the task no longer waits for the thread.
        reading = asyncio.create_task(_read(pipe))
        await asyncio.sleep(0.01)
        reading.cancel()
        ended = await asyncio.gather(reading, return_exceptions=True)
        events.append(type(ended[0]).__name__)
        async with aiofiles.open(pipe, "w") as writer:
            await writer.write("")
        return events

    assert runner(main) == ["FileNotFoundError", "CancelledError"]


def _make_fifo(path: Path) -> None:
    os.mkfifo(path)


async def _read(path: Path) -> str:
    return await asyncio.to_thread(path.read_text)

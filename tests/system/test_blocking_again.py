"""Pipes that were blocking before become blocking again when their transport has ended.

The blocking mode belongs to the open file, which is shared with other users: the program's own
``print``, the shell that started it, and the processes started next.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.system.tools import Recorder, make_pipe, reading, run, writing

if sys.platform == "win32":
    pytest.skip("POSIX only", allow_module_level=True)


def run_ours(main: Any) -> None:
    run(runtime.new_event_loop, main)


class Asking(Recorder):
    """Records whether the pipe is blocking when ``connection_lost`` is called."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.blocking: bool | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.blocking = os.get_blocking(self._fd)
        super().connection_lost(exc)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("way", [reading, writing])
def test_it_is_as_it_was_before(ends: Any, way: Any, blocking: bool) -> None:
    async def main() -> None:
        pipe = ends[0 if way is reading else 1]
        others = os.dup(pipe.fileno())
        os.set_blocking(others, blocking)
        transport, protocol = await way(pipe, Asking(others))
        assert not os.get_blocking(others)
        transport.close()
        await protocol.until_called("lost")
        assert protocol.blocking is blocking
        assert os.get_blocking(others) is blocking
        os.close(others)

    run_ours(main())


def test_written_data_is_sent_first(ends: Any) -> None:
    async def main() -> None:
        read_end, write_end = ends
        others = os.dup(write_end.fileno())
        transport, protocol = await writing(write_end)
        os.set_blocking(read_end.fileno(), False)
        written = 0
        # The system may take some more by itself: the data of a terminal moves to a second buffer.
        while transport.get_write_buffer_size() < 1 << 18:
            transport.write(bytes(4096))
            written += 4096
        transport.close()
        await all_tasks_blocked()
        assert not os.get_blocking(others)
        async with asyncio.timeout(30):
            while written:
                try:
                    written -= len(os.read(read_end.fileno(), 1 << 16))
                except BlockingIOError:
                    await asyncio.sleep(0)
        await protocol.until_called("lost")
        assert os.get_blocking(others)
        os.close(others)

    run_ours(main())


def test_a_lost_reader() -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        others = os.dup(write_end.fileno())
        _, protocol = await writing(write_end)
        read_end.close()
        await protocol.until_called("lost")
        assert os.get_blocking(others)
        os.close(others)

    run_ours(main())


@pytest.mark.parametrize("way", [reading, writing])
def test_a_cancelled_call(way: Any) -> None:
    async def main() -> None:
        pipes = make_pipe()
        pipe = pipes[0 if way is reading else 1]
        others = os.dup(pipe.fileno())
        connecting = asyncio.ensure_future(way(pipe))
        await asyncio.sleep(0)
        connecting.cancel()
        await all_tasks_blocked()
        assert connecting.cancelled()
        assert os.get_blocking(others)
        os.close(others)
        for end in pipes:
            end.close()

    run_ours(main())


@pytest.mark.parametrize("way", [reading, writing])
def test_a_transport_that_is_dropped(way: Any) -> None:
    pipes = make_pipe()
    pipe = pipes[0 if way is reading else 1]
    others = os.dup(pipe.fileno())

    async def main() -> None:
        await way(pipe)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run_ours(main())
        gc.collect()
    assert os.get_blocking(others)
    os.close(others)
    for end in pipes:
        end.close()


# -- Several transports ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_last_one_on_an_open_file_restores_it(first: int) -> None:
    """Standard input, output and errors of a terminal share an open file in this way."""

    async def main() -> None:
        ours, peer = os.openpty()
        files = [open(os.dup(ours), "r+b", 0) for _ in range(3)]  # noqa: SIM115 - the transports'
        made = [await reading(files[0]), await writing(files[1]), await writing(files[2])]
        order = [first, (first + 1) % 3, (first + 2) % 3]
        for number in order:
            assert not os.get_blocking(ours)
            transport, protocol = made[number]
            transport.close()
            await protocol.until_called("lost")
        assert os.get_blocking(ours)
        os.close(ours)
        os.close(peer)

    run_ours(main())


def test_open_files_of_one_fifo_are_told_apart(tmp_path: Path) -> None:
    """Each was opened separately, and is restored separately."""

    async def main() -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        files = [open(path, "r+b", 0) for _ in range(2)]  # noqa: SIM115 - the transports'
        others = [os.dup(file.fileno()) for file in files]
        made = [await reading(files[0]), await writing(files[1])]
        for number in (0, 1):
            assert not os.get_blocking(others[number])
            transport, protocol = made[number]
            transport.close()
            await protocol.until_called("lost")
            assert os.get_blocking(others[number])
        for fd in others:
            os.close(fd)

    run_ours(main())


def test_no_other_flag_is_changed() -> None:
    """The comparison of two descriptors changes a flag of the open file for a moment."""
    fcntl = pytest.importorskip("fcntl")

    async def main() -> None:
        ours, peer = os.openpty()
        before = fcntl.fcntl(ours, fcntl.F_GETFL)
        files = [open(os.dup(ours), "r+b", 0) for _ in range(2)]  # noqa: SIM115 - the transports'
        for transport, protocol in [await reading(files[0]), await writing(files[1])]:
            transport.close()
            await protocol.until_called("lost")
        assert fcntl.fcntl(ours, fcntl.F_GETFL) == before
        os.close(ours)
        os.close(peer)

    run_ours(main())


# -- Open files that the transport does not own ----------------------------------------------------


def test_a_number_that_means_another_file_is_left_alone() -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        another_read_end, another_write_end = os.pipe()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        transport, protocol = await writing(write_end)
        os.set_blocking(another_write_end, False)
        os.dup2(another_write_end, write_end.fileno())
        transport.close()
        await protocol.until_called("lost")
        assert not os.get_blocking(another_write_end)
        read_end.close()
        os.close(another_read_end)
        os.close(another_write_end)

    run_ours(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_leaves_it_to_its_parent() -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            transport, protocol = await writing(write_end)
            others = os.dup(write_end.fileno())
            pid = os.fork()
            if not pid:
                try:
                    transport.abort()
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            assert not os.get_blocking(others)
            transport.close()
            await protocol.until_called("lost")
            assert os.get_blocking(others)
            os.close(others)

    run_ours(main())


# -- The process that started this one -------------------------------------------------------------

PROGRAM = """
import asyncio, os, sys
import runtime

kept = []

async def main():
    loop = runtime.get_running_loop()
    kept.append(await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout))
    kept[0][0].write(b"hello\\n")
    assert not os.get_blocking(2)
    END

END_OF_RUN
"""

ENDS = {
    "closed": ("kept[0][0].close()", "runtime.run(main())"),
    "left open": ("", "runtime.run(main())"),
    "left open with its loop": (
        "",
        "loop = runtime.new_event_loop(); loop.run_until_complete(main())",
    ),
    "failed": ("sys.exit(3)", "runtime.run(main())"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_parent_s_open_file_is_blocking_again(name: str) -> None:
    """The program's standard output and error output are one open file, as in a terminal."""
    end, run_it = ENDS[name]
    program = PROGRAM.replace("END_OF_RUN", run_it).replace("END", end)
    read_end, write_end = os.pipe()
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        stdout=write_end,
        stderr=write_end,
        timeout=100,
        check=False,
    )
    assert os.get_blocking(write_end)
    os.close(write_end)
    with open(read_end, "rb") as file:
        assert file.read() == b"hello\n"
    assert ended.returncode == (3 if name == "failed" else 0)


def test_print_after_the_transport_loses_nothing() -> None:
    program = """
import asyncio, os, sys
import runtime

async def main():
    loop = runtime.get_running_loop()
    pipe = open(os.dup(1), "wb", 0)
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
    transport.write(b"hello\\n")
    transport.close()

runtime.run(main())
print("x" * 500_000)
"""
    out = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=100, check=True
    ).stdout
    assert out == b"hello\n" + b"x" * 500_000 + b"\n"

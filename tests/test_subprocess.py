"""Processes with streams: runtime's functions, and asyncio's functions on a runtime loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.system.subprocess_tools import WAYS, children, exists

PIPE, DEVNULL, STDOUT = runtime.PIPE, runtime.DEVNULL, runtime.STDOUT


@dataclass
class API:
    """Functions that start a process, and the loop on which they are used."""

    name: str
    execute: Callable[..., Coroutine[Any, Any, Any]]
    shell: Callable[..., Coroutine[Any, Any, Any]]
    make_loop: Callable[[], Any]

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        async def in_time() -> Any:
            async with asyncio.timeout(60):
                return await main

        with asyncio.Runner(loop_factory=self.make_loop) as runner:
            return runner.run(in_time())


OURS = API(
    "runtime",
    runtime.create_subprocess_exec,
    runtime.create_subprocess_shell,
    runtime.new_event_loop,
)
MIXED = API(
    "asyncio's on runtime",
    asyncio.create_subprocess_exec,
    asyncio.create_subprocess_shell,
    runtime.new_event_loop,
)
THEIRS = API(
    "asyncio",
    asyncio.create_subprocess_exec,
    asyncio.create_subprocess_shell,
    asyncio.SelectorEventLoop,
)


@pytest.fixture(params=[THEIRS, MIXED, OURS], ids=lambda api: api.name)
def api(request: pytest.FixtureRequest) -> API:
    """Return each of the three APIs; the tests assert asyncio's behaviour."""
    found: API = request.param
    return found


@pytest.fixture(params=[MIXED, OURS], ids=lambda api: api.name)
def better(request: pytest.FixtureRequest) -> API:
    """Return the APIs on a runtime loop; the tests assert improvements over asyncio."""
    found: API = request.param
    return found


def test_constants() -> None:
    assert runtime.PIPE == subprocess.PIPE
    assert runtime.STDOUT == subprocess.STDOUT
    assert runtime.DEVNULL == subprocess.DEVNULL


def test_communicate(api: API) -> None:
    async def main() -> None:
        process = await api.shell("cat; echo error >&2; exit 3", PIPE, PIPE, PIPE)
        before: int | None = process.returncode
        assert before is None
        assert process.pid > 0
        assert await process.communicate(b"input") == (b"input", b"error\n")
        assert process.returncode == 3
        assert await process.wait() == 3

    api.run(main())


def test_streams(api: API) -> None:
    async def main() -> None:
        process = await api.execute("cat", stdin=PIPE, stdout=PIPE)
        assert process.stderr is None
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            await process.stdin.drain()
            assert await process.stdout.readline() == word
        process.stdin.writelines([b"three", b" ", b"four"])
        assert process.stdin.can_write_eof()
        process.stdin.write_eof()
        assert await process.stdout.readuntil(b" ") == b"three "
        assert await process.stdout.readexactly(2) == b"fo"
        assert await process.stdout.read() == b"ur"
        assert process.stdout.at_eof()
        await process.stdin.wait_closed()
        assert await process.wait() == 0

    api.run(main())


def test_no_pipes(api: API) -> None:
    async def main() -> None:
        process = await api.execute("true")
        assert {process.stdin, process.stdout, process.stderr} == {None}
        assert await process.communicate() == (None, None)
        assert process.returncode == 0

    api.run(main())


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        (PIPE, DEVNULL, (b"out\n", None)),
        (DEVNULL, PIPE, (None, b"err\n")),
        (PIPE, STDOUT, (b"out\nerr\n", None)),
    ],
)
def test_redirections(api: API, stdout: int, stderr: int, expected: Any) -> None:
    async def main() -> None:
        process = await api.shell("echo out; echo err >&2", stdout=stdout, stderr=stderr)
        assert await process.communicate() == expected

    api.run(main())


def test_much_of_everything(api: API) -> None:
    async def main() -> None:
        data = os.urandom(3_000_000)
        process = await api.shell("tee /dev/stderr", PIPE, PIPE, PIPE)
        assert await process.communicate(data) == (data, data)

    api.run(main())


def test_an_input_that_is_not_read_to_the_end(api: API) -> None:
    async def main() -> None:
        process = await api.shell("head -c 10; exit 2", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"x" * 3_000_000) == (b"x" * 10, None)
        assert process.returncode == 2

    api.run(main())


def test_a_reader_that_is_gone(api: API) -> None:
    async def main() -> None:
        process = await api.shell("read line; exec <&-; exec sleep 1000", stdin=PIPE)
        process.stdin.write(b"line\n" + bytes(3_000_000))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await process.stdin.drain()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await process.stdin.wait_closed()
        process.kill()
        await process.wait()

    api.run(main())


def test_back_pressure_of_the_output(api: API) -> None:
    async def main() -> None:
        process = await api.shell("seq 1 1000000", stdout=PIPE, limit=1000)
        assert await process.stdout.readline() == b"1\n"
        for _ in range(100):
            await asyncio.sleep(0)
        # The process waits for space in the pipe.
        assert process.returncode is None
        assert (await process.stdout.read()).endswith(b"\n1000000\n")
        assert await process.wait() == 0

    api.run(main())


def test_a_line_longer_than_the_limit(api: API) -> None:
    async def main() -> None:
        process = await api.shell("echo 0123456789; echo next", stdout=PIPE, limit=5)
        with pytest.raises(ValueError, match="limit"):
            await process.stdout.readline()
        await process.stdout.read()
        await process.wait()

    api.run(main())


def test_the_output_is_there_after_the_process_has_ended(api: API) -> None:
    async def main() -> None:
        process = await api.shell("seq 1 10000", stdout=PIPE)
        assert await process.wait() == 0
        numbers = [int(line) async for line in process.stdout]
        assert numbers == list(range(1, 10001))

    api.run(main())


def test_several_tasks_wait(api: API) -> None:
    async def main() -> None:
        process = await api.execute("cat", stdin=PIPE)
        tasks = [asyncio.create_task(process.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        process.stdin.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [0, 0, 0, 0]
        assert await process.wait() == 0

    api.run(main())


@pytest.mark.parametrize(
    ("how", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)]
)
def test_signals(api: API, how: str, number: int) -> None:
    async def main() -> None:
        process = await api.execute("sleep", "1000")
        getattr(process, how)()
        assert await process.wait() == -number
        process = await api.execute("sleep", "1000")
        process.send_signal(number)
        assert await process.wait() == -number
        with pytest.raises(ProcessLookupError):
            process.kill()

    api.run(main())


def test_bad_input(api: API) -> None:
    async def main() -> None:
        for options in ({"text": True}, {"encoding": "utf-8"}, {"bufsize": 1}):
            with pytest.raises(ValueError, match=next(iter(options))):
                await api.execute("true", **options)
            with pytest.raises(ValueError, match=next(iter(options))):
                await api.shell("true", **options)
        with pytest.raises(ValueError, match="cmd must be a string"):
            await api.shell(("true",))
        with pytest.raises(TypeError):
            await api.execute("echo", 1)
        with pytest.raises(FileNotFoundError):
            await api.execute("no-such-program")

    api.run(main())


def test_a_path_as_program(api: API) -> None:
    async def main() -> None:
        process = await api.execute(Path(sys.executable), "-c", "print(1)", stdout=PIPE)
        assert await process.communicate() == (b"1\n", None)

    api.run(main())


def test_many_at_once(api: API) -> None:
    async def one(number: int) -> None:
        process = await api.shell("cat; exit $CODE", PIPE, PIPE, env={"CODE": str(number)})
        assert await process.communicate(b"x" * number) == (b"x" * number, None)
        assert process.returncode == number

    async def main() -> None:
        await asyncio.gather(*map(one, range(1, 60)))

    before = children()
    api.run(main())
    assert set(children()) <= set(before)


# -- Better than asyncio ---------------------------------------------------------------------------


def test_a_wait_ends_with_the_process_although_another_holds_the_pipe(better: API) -> None:
    async def main() -> None:
        # The remaining process has the pipes, and waits for the end of its input.
        process = await better.shell("exec 3<&0; cat <&3 & echo started", stdin=source, stdout=PIPE)
        os.close(source)
        waiting = asyncio.create_task(process.wait())
        assert await process.stdout.readline() == b"started\n"
        assert await waiting == 0
        assert process.returncode == 0
        os.write(target, b"more")
        os.close(target)
        assert await process.stdout.read() == b"more"

    source, target = os.pipe()
    better.run(main())


# -- Cancellation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(6))
def test_communicate_again_after_a_cancelled_one_loses_nothing(after: int) -> None:
    async def main() -> None:
        data = os.urandom(1_000_000)
        process = await OURS.shell("cat; echo error >&2; exit 3", PIPE, PIPE, PIPE)
        first = asyncio.create_task(process.communicate(data))
        for _ in range(after):
            await asyncio.sleep(0)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert process.returncode is None
        again = await process.communicate(data if after == 0 else None)
        assert again == (data, b"error\n")
        assert process.returncode == 3

    OURS.run(main())


def test_cancelled_while_starting_it_kills_the_process(better: API) -> None:
    async def main() -> None:
        before = children()
        task = asyncio.create_task(better.execute("sleep", "1000"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before

    better.run(main())


def test_communicate_after_one_that_was_cancelled_and_a_kill(api: API) -> None:
    async def main() -> None:
        process = await api.execute("sleep", "1000", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        first = asyncio.create_task(process.communicate())
        for _ in range(5):
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        process.kill()
        assert await process.communicate() == (b"", b"")
        assert process.returncode == -signal.SIGKILL

    api.run(main())


# -- Remaining processes and descriptors -----------------------------------------------------------


def test_an_unreferenced_process_continues_and_leaves_no_zombie(better: API) -> None:
    async def main() -> None:
        source, target = os.pipe()
        pid = (await better.execute("cat", stdin=source)).pid
        os.close(source)
        assert exists(pid)
        os.close(target)
        while exists(pid):
            await asyncio.sleep(0.001)

    better.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_outlives_its_loop_is_killed(way: str, monkeypatch: Any) -> None:
    WAYS[way](monkeypatch)
    pids: list[int] = []

    async def main() -> None:
        process = await OURS.shell("exec sleep 1000", PIPE, PIPE, PIPE)
        pids.append(process.pid)

    with pytest.warns(ResourceWarning) as warned:
        OURS.run(main())
        gc.collect()
    assert any(f"pid={pids[0]}" in str(each.message) for each in warned)
    while exists(pids[0]):
        pass


def test_stdin_is_a_pipe_and_no_socket() -> None:
    async def main() -> None:
        process = await OURS.execute("cat", stdin=PIPE, stdout=PIPE)
        stdin, stdout = process.stdin, process.stdout
        with pytest.raises(RuntimeError, match="TLS"):
            await stdin.start_tls(ssl.create_default_context(), server_hostname="name")
        assert stdin.get_extra_info("pipe") is not None
        assert stdin.get_extra_info("socket") is None
        assert "Pipe" in repr(stdin)
        assert "Pipe" in repr(stdout)
        stdin.set_write_buffer_limits(high=10, low=5)
        with open(__file__, "rb") as file:
            size = await stdin.sendfile(file)
        with (
            open(__file__, "rb") as file,
            pytest.raises(runtime.SendfileNotAvailableError),
        ):
            await stdin.sendfile(file, fallback=False)
        stdin.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            stdin.write(b"more")
        assert len(await stdout.read()) == size
        await process.wait()

    OURS.run(main())


def test_stdin_aborted() -> None:
    async def main() -> None:
        process = await OURS.execute("cat", stdin=PIPE, stdout=PIPE)
        process.stdin.write(bytes(1_000_000))
        process.stdin.abort()
        assert process.stdin.is_closing()
        assert len(await process.stdout.read()) < 1_000_000
        assert await process.wait() == 0

    OURS.run(main())


def test_a_limit_that_cannot_be() -> None:
    async def main() -> None:
        for starting in (OURS.execute("true", limit=0), OURS.shell("true", limit=-1)):
            with pytest.raises(ValueError, match="limit"):
                await starting

    OURS.run(main())


def test_an_input_without_a_pipe() -> None:
    async def main() -> None:
        process = await OURS.execute("true")
        with pytest.raises(ValueError, match="stdin=PIPE"):
            await process.communicate(b"input")
        assert await process.wait() == 0
        assert repr(process) == f"<Process pid={process.pid} returncode=0>"

    OURS.run(main())

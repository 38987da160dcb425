"""Processes with protocols: the calls and their order, which are the same on asyncio's loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.system.subprocess_tools import ProcessRecorder, exists, shell, start
from tests.system.tools import Loop, run

NOTHING = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
}


def test_a_process_from_beginning_to_end(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await shell("cat; echo error >&2; exit 3")
        assert protocol.calls == ["made"]
        assert protocol.transport is transport
        assert transport.get_returncode() is None
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"some")
        stdin.writelines([b" ", b"input"])
        stdin.write_eof()
        await protocol.until_called("lost")
        assert protocol.data == {1: b"some input", 2: b"error\n"}
        assert transport.get_returncode() == 3
        calls = protocol.calls
        assert calls[-1] == "lost"
        assert sorted(calls[:-1]) == sorted(
            ["made", "data 1", "data 2", "lost 0", "lost 1", "lost 2", "exited"]
        )
        for fd in ("1", "2"):
            assert calls.index(f"data {fd}") < calls.index(f"lost {fd}")
        assert protocol.errors == {0: None, 1: None, 2: None}
        transport.close()

    run(make_loop, main())


def test_extra_info_of_a_process(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await start("cat", stderr=subprocess.STDOUT)
        popen = transport.get_extra_info("subprocess")
        assert isinstance(popen, subprocess.Popen)
        assert transport.get_pid() == popen.pid
        assert transport.get_pipe_transport(2) is None
        assert transport.get_pipe_transport(7) is None
        assert isinstance(transport, asyncio.SubprocessTransport)
        stdin: Any = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
        assert transport.get_protocol() is protocol
        assert not transport.is_closing()
        assert str(popen.pid) in repr(transport)
        assert "running" in repr(transport)
        stdin.close()
        await protocol.until_called("lost")
        assert "returncode=0" in repr(transport)
        assert popen.returncode == 0
        transport.close()
        assert transport.is_closing()

    run(make_loop, main())


def test_no_pipes(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await start("true", **NOTHING)
        await protocol.until_called("lost")
        assert protocol.calls == ["made", "exited", "lost"]
        transport.close()

    run(make_loop, main())


def test_files_instead_of_pipes(make_loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "in").write_text("input")
        with open(tmp_path / "in") as source, open(tmp_path / "out", "w") as target:
            transport, protocol = await start(
                "cat", stdin=source, stdout=target.fileno(), stderr=None
            )
            await protocol.until_called("lost")
            transport.close()
        assert (tmp_path / "out").read_text() == "input"

    run(make_loop, main())


@pytest.mark.parametrize("kind", [str, str.encode, Path])
def test_program_and_arguments_of_each_kind(make_loop: Loop, kind: Any, tmp_path: Path) -> None:
    async def main() -> None:
        transport, protocol = await start(kind(sys.executable), kind("-c"), kind("print(1)"))
        await protocol.until_called("lost")
        assert protocol.data[1] == b"1\n"
        transport.close()

    run(make_loop, main())


@pytest.mark.parametrize("command", ["exit 5", b"exit 5"])
def test_commands_of_each_kind(make_loop: Loop, command: Any) -> None:
    async def main() -> None:
        transport, protocol = await shell(command)
        await protocol.until_called("lost")
        assert transport.get_returncode() == 5
        transport.close()

    run(make_loop, main())


BAD_OPTIONS: list[dict[str, Any]] = [
    {"universal_newlines": True},
    {"bufsize": 4096},
    {"text": True},
    {"encoding": "utf-8"},
    {"errors": "strict"},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda options: next(iter(options)))
def test_options_that_cannot_be(make_loop: Loop, options: dict[str, Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[ProcessRecorder] = []

        def factory() -> ProcessRecorder:
            made.append(ProcessRecorder())
            return made[-1]

        name = next(iter(options))
        with pytest.raises(ValueError, match=name):
            await loop.subprocess_exec(factory, "true", **options)
        with pytest.raises(ValueError, match=name):
            await loop.subprocess_shell(factory, "true", **options)
        assert made == []

    run(make_loop, main())


def test_the_harmless_values_of_these_options(make_loop: Loop) -> None:
    async def main() -> None:
        harmless: dict[str, Any] = {
            "universal_newlines": False,
            "bufsize": 0,
            "text": False,
            "encoding": None,
            "errors": None,
        }
        for starting in (
            start("true", shell=False, **harmless, **NOTHING),
            shell("true", shell=True, **harmless, **NOTHING),
        ):
            transport, protocol = await starting
            await protocol.until_called("lost")
            transport.close()

    run(make_loop, main())


def test_shell_or_no_shell(make_loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="shell must be False"):
            await start("true", shell=True)
        with pytest.raises(ValueError, match="shell must be True"):
            await shell("true", shell=False)
        with pytest.raises(ValueError, match="cmd must be a string"):
            await shell(["true"])  # type: ignore[arg-type]

    run(make_loop, main())


@pytest.mark.parametrize("words", [(1,), ("echo", 1), (None,), ("echo", ["a"])])
def test_arguments_that_are_no_words(make_loop: Loop, words: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await start(*words)

    run(make_loop, main())


def test_a_program_that_is_not_there(make_loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await start("no-such-program")
        with pytest.raises(PermissionError):
            await start("/dev/null")

    run(make_loop, main())


def test_options_of_popen(make_loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        transport, protocol = await shell(
            "pwd; echo $WORD", cwd=tmp_path, env={"WORD": "word"}, start_new_session=True
        )
        await protocol.until_called("lost")
        assert protocol.data[1] == f"{tmp_path.resolve()}\nword\n".encode()
        transport.close()

    run(make_loop, main())


@pytest.mark.parametrize("how", ["terminate", "kill", "send_signal"])
def test_signals(make_loop: Loop, how: str) -> None:
    async def main() -> None:
        transport, protocol = await start("cat")
        number = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}.get(how, signal.SIGHUP)
        getattr(transport, how)(*([number] if how == "send_signal" else []))
        await protocol.until_called("lost")
        assert transport.get_returncode() == -number
        for again in (transport.terminate, transport.kill, lambda: transport.send_signal(1)):
            with pytest.raises(ProcessLookupError):
                again()
        transport.close()

    run(make_loop, main())


def test_close_kills_a_process_that_is_running(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await start("sleep", "1000")
        transport.close()
        assert transport.is_closing()
        transport.close()
        await protocol.until_called("lost")
        assert transport.get_returncode() == -signal.SIGKILL
        assert sorted(protocol.calls) == ["exited", "lost", "lost 0", "lost 1", "lost 2", "made"]
        assert not exists(transport.get_pid())

    run(make_loop, main())


def test_close_does_not_kill_a_process_that_has_ended() -> None:
    async def main() -> None:
        transport, protocol = await shell("read line; exit 5")
        transport.get_pipe_transport(0).write(b"go on\n")
        # The process ends unnoticed by the loop, because this call blocks the loop and leaves the
        # status.
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        transport.close()
        await protocol.until_called("lost")
        assert transport.get_returncode() == 5

    run(runtime.new_event_loop, main())


def test_more_output_than_a_pipe_holds_is_there_in_order(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await shell("seq 1 100000")
        await protocol.until_called("lost")
        assert protocol.data[1] == "".join(f"{n}\n" for n in range(1, 100001)).encode()
        transport.close()

    run(make_loop, main())


def test_flow_control_of_stdin(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await start("cat", stdout=subprocess.PIPE)
        stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
        stdout.pause_reading()
        data = os.urandom(1 << 20)
        stdin.write(data)
        assert "pause" in protocol.calls
        stdout.resume_reading()
        await protocol.until_called("resume")
        stdin.close()
        await protocol.until_called("lost")
        assert protocol.data[1] == data
        transport.close()

    run(make_loop, main())


def test_a_reader_of_stdin_that_goes_away(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await shell("read line; exec <&-; exec sleep 1000")
        transport.get_pipe_transport(0).write(b"line\n" + bytes(1 << 20))
        await protocol.until_called("lost 0")
        assert isinstance(protocol.errors[0], BrokenPipeError)
        assert transport.get_returncode() is None
        transport.kill()
        await protocol.until_called("lost")
        transport.close()

    run(make_loop, main())


def test_output_stays_in_the_pipe_while_reading_is_paused(make_loop: Loop) -> None:
    async def main() -> None:
        transport, protocol = await start("cat")
        stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
        stdout.pause_reading()
        stdin.write(b"late")
        stdin.close()
        await protocol.until_called("exited")
        await protocol.until_called("lost 2")
        await all_tasks_blocked()
        assert protocol.data[1] == b""
        assert "lost" not in protocol.calls
        stdout.resume_reading()
        await protocol.until_called("lost")
        assert protocol.data[1] == b"late"
        transport.close()

    run(make_loop, main())


def test_another_protocol(make_loop: Loop) -> None:
    async def main() -> None:
        transport, first = await start("cat")
        second = ProcessRecorder()
        second.note("made")
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.get_pipe_transport(0).write(b"x")
        transport.get_pipe_transport(0).close()
        await second.until_called("lost")
        assert second.data[1] == b"x"
        assert first.calls == ["made"]
        transport.close()

    run(make_loop, main())


def test_callbacks_run_in_the_context_of_the_starting_task(make_loop: Loop) -> None:
    word = contextvars.ContextVar("word", default="none")

    class Protocol(ProcessRecorder):
        def note(self, call: str) -> None:
            seen[call] = word.get()
            super().note(call)

    seen: dict[str, str] = {}

    async def main() -> None:
        word.set("mine")
        transport, protocol = await asyncio.get_running_loop().subprocess_shell(
            Protocol, "echo hello"
        )
        await protocol.until_called("lost")
        transport.close()
        # asyncio's loop runs some callbacks in no context at all
        if make_loop is not asyncio.SelectorEventLoop:
            assert set(seen.values()) == {"mine"}

    run(make_loop, main())


def test_cancelled_while_starting_it_kills_the_process(make_loop: Loop) -> None:
    async def main() -> None:
        made: list[ProcessRecorder] = []

        def factory() -> ProcessRecorder:
            made.append(ProcessRecorder())
            return made[0]

        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(loop.subprocess_exec(factory, "sleep", "1000"))
        while not made:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if (transport := made[0].transport) is not None:  # asyncio may not have created it yet
            assert transport.get_returncode() == -signal.SIGKILL
            assert not exists(transport.get_pid())
        await all_tasks_blocked()

    run(make_loop, main())


class _Failing(ProcessRecorder):
    def note(self, call: str) -> None:
        super().note(call)
        raise LookupError(call)


def test_exceptions_of_a_protocol_are_reported_and_later_calls_are_made() -> None:
    async def main() -> None:
        reports: list[Any] = []
        loop = runtime.get_running_loop()
        loop.set_exception_handler(lambda _loop, report: reports.append(str(report["exception"])))
        transport, protocol = await loop.subprocess_shell(_Failing, "echo x; echo y >&2")
        assert isinstance(protocol, _Failing)
        await protocol.until_called("lost")
        await all_tasks_blocked()
        assert transport.get_returncode() == 0
        assert transport.is_closing()
        assert sorted(reports) == sorted(protocol.calls)

    run(runtime.new_event_loop, main())


def test_all_is_let_go_of_without_the_collector() -> None:
    async def main() -> None:
        transport, protocol = await shell("cat; echo error >&2")
        transport.get_pipe_transport(0).close()
        await protocol.until_called("lost")
        await all_tasks_blocked()
        before = transport.get_extra_info("subprocess")
        gone: list[int] = []

        class Witness:
            def __del__(self) -> None:
                gone.append(1)

        transport._extra["witness"] = Witness()
        del before, transport, protocol
        assert gone == [1]

    gc.collect()
    gc.disable()
    try:
        run(runtime.new_event_loop, main())
    finally:
        gc.enable()


async def test_waits_that_are_cancelled_leave_no_futures_behind() -> None:
    transport, protocol = await shell("cat", stdout=subprocess.DEVNULL)
    for _ in range(100):
        task = runtime.create_task(transport._wait())
        await runtime.sleep(0)
        task.cancel()
        await runtime.wait([task])
    assert len(transport._exit_waiters) < 10
    waiting = runtime.create_task(transport._wait())
    transport.get_pipe_transport(0).close()
    assert await waiting == 0
    await protocol.until_called("lost")
    transport.close()

"""The end of a process: noticing it and reaping its exit status, with pidfds and without."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import selectors
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime.system import child
from tests.system.subprocess_tools import WAYS, children, exists, shell, start
from tests.system.tools import run

QUIET = {"stdin": None, "stdout": None, "stderr": None}


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Select one of the ways to notice the end of processes."""
    if request.param != "pidfd" and not child.pidfds_work():
        pytest.skip("pidfds do not work here, so that threads are used anyway")
    WAYS[request.param](monkeypatch)
    name: str = request.param
    return name


async def exit_status(command: str) -> int:
    """Run a command line; return the exit status of the process."""
    transport, protocol = await shell(command, **QUIET)
    await protocol.until_called("lost")
    assert not exists(transport.get_pid())
    returncode: int = transport.get_returncode()
    return returncode


@pytest.mark.parametrize(
    ("command", "returncode"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 255", 255),
        ("kill -9 $$", -signal.SIGKILL),
        ("kill -15 $$", -signal.SIGTERM),
        ("ulimit -c unlimited; cd /; kill -3 $$", -signal.SIGQUIT),
    ],
)
def test_exit_status(command: str, returncode: int) -> None:
    assert run(runtime.new_event_loop, exit_status(command)) == returncode


def test_a_stop_is_no_end() -> None:
    async def main() -> None:
        transport, protocol = await shell("kill -STOP $$; exit 4", stdout=None)
        os.waitid(os.P_PID, transport.get_pid(), os.WSTOPPED | os.WNOWAIT)
        await asyncio.sleep(0)
        assert transport.get_returncode() is None
        transport.send_signal(signal.SIGCONT)
        await protocol.until_called("lost")
        assert transport.get_returncode() == 4

    if hasattr(os, "waitid"):
        run(runtime.new_event_loop, main())


def in_threads(number: int, target: Callable[[], object]) -> None:
    """Run ``target`` in several threads at the same time; raise their exceptions."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def test_several_loops_in_other_threads_than_the_main_one() -> None:
    async def main() -> None:
        codes = await runtime.gather(*(exit_status(f"exit {n}") for n in range(10)))
        assert codes == list(range(10))

    before = children()
    in_threads(4, lambda: run(runtime.new_event_loop, main()))
    assert set(children()) <= set(before)


def test_two_hundred_at_once() -> None:
    async def main() -> None:
        codes = await runtime.gather(*(exit_status(f"exit {n}") for n in range(200)))
        assert codes == list(range(200))

    before = children()
    run(runtime.new_event_loop, main())
    assert set(children()) <= set(before)


@pytest.mark.slow
def test_a_thousand_one_after_another(way: str) -> None:
    async def main() -> None:
        for n in range(1000):
            assert await exit_status(f"exit {n % 256}") == n % 256

    before = children()
    run(runtime.new_event_loop, main())
    assert set(children()) <= set(before)


@pytest.mark.parametrize("name", ["SelectSelector", "PollSelector", "DefaultSelector"])
def test_any_selector(name: str) -> None:
    loop_class: Any = runtime.Loop
    selector = getattr(selectors, name)()
    assert run(lambda: loop_class(selector=selector), exit_status("exit 3")) == 3


def test_the_process_has_ended_before_the_loop_looks() -> None:
    async def main() -> None:
        transport, protocol = await start("true", **QUIET)
        if not protocol.calls[1:] and hasattr(os, "waitid"):
            # The loop is blocked meanwhile, and the process is a zombie when the loop continues,
            # unless a thread has reaped it before.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        await protocol.until_called("lost")
        assert transport.get_returncode() == 0

    run(runtime.new_event_loop, main())


# -- The status is reaped elsewhere ----------------------------------------------------------------


def test_the_status_was_taken(caplog: pytest.LogCaptureFixture, way: str) -> None:
    async def main() -> None:
        transport, protocol = await start("sleep", "1000", **QUIET)
        # kill() blocks the loop, so that the loop is certain to come too late.
        transport.kill()
        os.waitpid(transport.get_pid(), 0)
        await protocol.until_called("lost")
        assert transport.get_returncode() == child.STATUS_TAKEN == 255
        [record] = caplog.records
        assert str(transport.get_pid()) in record.getMessage()
        assert "255" in record.getMessage()

    if way == "thread-without-waitid":
        pytest.skip("the loop's own thread is as quick as the other waiter")
    with caplog.at_level(logging.WARNING, "asyncio"):
        run(runtime.new_event_loop, main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_sigchld_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with caplog.at_level(logging.WARNING, "asyncio"):
            assert run(runtime.new_event_loop, exit_status("exit 3")) == 255
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert "SIGCHLD" in caplog.text


def test_a_wait_through_the_popen_object_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport, protocol = await shell("read line; exit 7")
        popen = transport.get_extra_info("subprocess")
        waiting = threading.Thread(target=popen.wait)
        waiting.start()
        transport.get_pipe_transport(0).write(b"go on\n")
        await protocol.until_called("lost")
        waiting.join(30)
        assert transport.get_returncode() == popen.returncode == 7

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(runtime.new_event_loop, main())
    assert caplog.text == ""


def test_children_of_others_are_left_to_them() -> None:
    async def main() -> None:
        with subprocess.Popen(["sh", "-c", "exit 9"]) as other:
            assert await exit_status("exit 3") == 3
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], {})
            assert await exit_status("exit 4") == 4
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        assert other.returncode == 9

    run(runtime.new_event_loop, main())


# -- Missing system features -----------------------------------------------------------------------


def test_no_descriptor_left_for_a_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    assert child.pidfds_work() in (True, False)  # the result is cached, and is not tested here
    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    assert run(runtime.new_event_loop, exit_status("exit 6")) == 6


def test_no_thread_that_could_wait(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "pidfd":
        pytest.skip("no thread waits")
    real = threading.Thread.start

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name.startswith("runtime waits for process"):
            monkeypatch.setattr(threading.Thread, "start", real)
            raise RuntimeError("can't start new thread")
        real(thread)

    async def main() -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse_once)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            async with asyncio.timeout(30):
                await runtime.create_subprocess_exec("sleep", "60")
        assert not runtime.get_running_loop()._external_work
        # It was killed, and is reaped in the background.
        async with asyncio.timeout(30):
            while children():
                await runtime.sleep(0.001)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # The process may end after its object.
        runtime.run(main())


def test_a_stop_that_waitid_tells_of_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, waitid reports a stop although only ends are asked for: python/cpython#158287."""
    if not hasattr(os, "waitid"):
        pytest.skip("there is no waitid")
    monkeypatch.setattr(child, "pidfds_work", lambda: False)
    real = os.waitid
    stopped = threading.Event()

    def with_stops(kind: int, pid: int, options: int) -> os.waitid_result | None:
        if options == os.WEXITED | os.WNOWAIT:
            options |= os.WSTOPPED
        info = real(kind, pid, options)
        if info is not None and info.si_code == os.CLD_STOPPED:
            stopped.set()
        return info

    monkeypatch.setattr(os, "waitid", with_stops)

    async def main() -> int:
        transport, protocol = await shell("kill -STOP $$; exit 7", **QUIET)
        await asyncio.to_thread(stopped.wait)
        transport.send_signal(signal.SIGCONT)
        await protocol.until_called("lost")
        returncode: int = transport.get_returncode()
        return returncode

    assert run(runtime.new_event_loop, main()) == 7


@pytest.mark.parametrize("failing", ["pidfd_open", "waitid"])
def test_pidfds_are_not_used_where_they_do_not_work(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any) -> Any:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, failing, refuse, raising=False)
    probe: Any = child.pidfds_work
    if hasattr(probe, "__wrapped__"):
        assert not probe.__wrapped__()
        monkeypatch.delattr(os, "pidfd_open")
        assert not probe.__wrapped__()


def test_a_pidfd_closed_by_other_code(way: str) -> None:
    async def main() -> None:
        transport, protocol = await start("cat", stdout=None)
        pidfd = transport._child.pidfd
        os.close(pidfd)
        source, target = os.pipe()
        if pidfd not in (source, target):
            os.dup2(source, pidfd)
            os.close(source)
        # A new watcher of the number makes the loop notify the process's stale watcher of its loss.
        asyncio.get_running_loop().add_reader(pidfd, print)
        transport.get_pipe_transport(0).close()
        await protocol.until_called("lost")
        assert transport.get_returncode() == 0
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        os.close(target)

    if way == "pidfd":
        run(runtime.new_event_loop, main())


# -- Signals ---------------------------------------------------------------------------------------


def test_no_signal_for_a_process_whose_status_was_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen(["true"])
    popen.wait()
    killed: list[Any] = []
    monkeypatch.setattr(os, "kill", lambda *args: killed.append(args))
    child.Child(popen).send_signal(signal.SIGTERM)
    assert killed == []


def test_a_number_that_is_no_signal() -> None:
    async def main() -> None:
        transport, protocol = await start("cat")
        with pytest.raises(OSError, match="Invalid argument"):
            transport.send_signal(1000)
        transport.close()
        await protocol.until_called("lost")

    run(runtime.new_event_loop, main())

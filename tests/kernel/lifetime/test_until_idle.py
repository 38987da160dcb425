"""``run(..., until="idle")`` and daemon tasks: the objects that keep a run alive."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.support.programs import interrupted, started_program


def idle(main: Awaitable[Any], **options: Any) -> Any:
    return runtime.run(main, until="idle", **options)


async def log_after(log: list[str], seconds: float, word: str) -> None:
    try:
        await runtime.sleep(seconds)
    except runtime.CancelledError:
        log.append(f"{word} cancelled")
        raise
    log.append(word)


def test_the_run_goes_on_until_every_task_has_ended() -> None:
    log: list[str] = []

    async def main() -> str:
        runtime.create_task(log_after(log, 0.02, "slow"))
        runtime.create_task(log_after(log, 0.01, "quick"))
        return "main"

    assert idle(main()) == "main"
    assert log == ["quick", "slow"]


def test_without_it_the_run_ends_with_main() -> None:
    log: list[str] = []

    async def main() -> None:
        runtime.create_task(log_after(log, 3600, "slow"))
        await runtime.sleep(0)

    runtime.run(main())
    assert log == ["slow cancelled"]


async def by_timer(log: list[str]) -> None:
    runtime.get_running_loop().call_later(0.01, log.append, "came")


async def by_descriptor(log: list[str]) -> None:
    one, two = socket.socketpair()
    loop = runtime.get_running_loop()

    def read() -> None:
        loop.remove_reader(one)
        log.append(one.recv(10).decode())
        one.close()
        two.close()

    loop.add_reader(one, read)
    send = threading.Timer(0.01, two.send, (b"came",))
    send.daemon = True
    send.start()


async def by_stream(log: list[str]) -> None:
    one, two = socket.socketpair()
    reader, writer = await runtime.open_connection(sock=one)
    send = threading.Timer(0.01, two.send, (b"came\n",))
    send.daemon = True
    send.start()

    async def read() -> None:
        log.append((await reader.readline()).decode().strip())
        writer.close()
        two.close()

    runtime.create_task(read())


async def by_thread(log: list[str]) -> None:
    loop = runtime.get_running_loop()
    threading.Timer(0.01, loop.call_soon_threadsafe, (log.append, "came")).start()


async def by_call_in_a_thread(log: list[str]) -> None:
    called = threading.Event()
    future = runtime.get_running_loop().run_in_executor(None, called.wait, 60)
    future.add_done_callback(lambda future: log.append("came"))
    threading.Timer(0.01, called.set).start()


async def by_signal(log: list[str]) -> None:
    loop = runtime.get_running_loop()

    def handle() -> None:
        loop.remove_signal_handler(signal.SIGUSR1)
        log.append("came")

    loop.add_signal_handler(signal.SIGUSR1, handle)
    send = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    send.daemon = True
    send.start()


async def by_process(log: list[str]) -> None:
    process = await runtime.create_subprocess_exec("true")
    task = runtime.create_task(process.wait())
    task.add_done_callback(lambda task: log.append("came"))


async def by_asyncio(log: list[str]) -> None:
    async def wait() -> None:
        await asyncio.wait_for(asyncio.sleep(0.01), 60)
        log.append("came")

    task = asyncio.create_task(wait())
    assert not task.done()


EVERYTHING = [
    by_timer,
    by_descriptor,
    by_stream,
    by_thread,
    by_call_in_a_thread,
    by_signal,
    by_process,
    by_asyncio,
]


@pytest.mark.parametrize("begin", EVERYTHING)
def test_possible_events_keep_the_run_alive(
    begin: Callable[[list[str]], Awaitable[None]],
) -> None:
    log: list[str] = []
    idle(begin(log))
    assert log == ["came"]


def test_a_thread_of_the_executor_that_has_nothing_to_do_is_not_waited_for() -> None:
    async def main() -> str:
        await runtime.to_thread(int)
        return "done"

    assert idle(main()) == "done"


@pytest.mark.parametrize("daemon", [None, 3600])
def test_a_thread_that_ends_without_a_word_is_noticed(daemon: float | None) -> None:
    async def main() -> str:
        if daemon is not None:
            runtime.create_task(runtime.sleep(daemon), daemon=True)
        threading.Timer(0.02, int).start()
        return "done"

    assert idle(main()) == "done"


def test_daemon_threads_and_earlier_threads_are_not_waited_for() -> None:
    ended = threading.Event()

    async def main() -> str:
        threading.Thread(target=ended.wait, daemon=True).start()
        return "done"

    before = threading.Thread(target=ended.wait)
    before.start()
    try:
        assert idle(main()) == "done"
    finally:
        ended.set()
        before.join()


def test_a_task_that_can_never_resume_is_cancelled() -> None:
    log: list[str] = []

    async def wait() -> None:
        try:
            await runtime.Queue[int]().get()
        finally:
            log.append("cleaned up")

    async def main() -> str:
        runtime.create_task(wait())
        return "done"

    assert idle(main()) == "done"
    assert idle(main(), debug=True) == "done"
    assert log == ["cleaned up"] * 2


@pytest.mark.parametrize("debug", [False, True])
def test_a_main_that_can_never_end_is_a_deadlock(debug: bool) -> None:
    async def main() -> None:
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError) as caught:
        idle(main(), debug=debug)
    assert len(caught.value.tasks) == 1


def test_a_main_that_fails_ends_the_run() -> None:
    log: list[str] = []

    async def main() -> None:
        runtime.create_task(log_after(log, 3600, "slow"))
        await runtime.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        idle(main())
    assert log == ["slow cancelled"]


def test_a_main_that_is_cancelled_ends_the_run() -> None:
    async def main() -> None:
        task = runtime.current_task()
        assert task is not None
        runtime.create_task(runtime.sleep(3600))
        runtime.get_running_loop().call_soon(task.cancel)
        await runtime.sleep(3600)

    with pytest.raises(runtime.CancelledError):
        idle(main())


def test_a_loop_that_is_stopped() -> None:
    async def stop() -> None:
        runtime.get_running_loop().stop()
        await runtime.sleep(3600)

    with pytest.raises(RuntimeError, match="stopped before"):
        idle(stop())


def test_until_is_done_or_idle() -> None:
    coro: Any = runtime.sleep(0)
    with pytest.raises(ValueError, match="idle"):
        runtime.run(coro, until="never")  # type: ignore[arg-type]
    assert coro.cr_frame is None


def test_in_a_runner_the_rest_is_for_the_next_run() -> None:
    log: list[str] = []
    event = runtime.Event()

    async def wait() -> None:
        await event.wait()
        log.append("woken")

    async def main() -> None:
        runtime.create_task(wait())

    async def wake() -> None:
        event.set()

    with runtime.Runner() as runner:
        runner.run(main(), until="idle")
        assert log == []
        runner.run(wake(), until="idle")
        assert log == ["woken"]


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt, ZeroDivisionError])
def test_in_a_runner_a_failure_does_not_stop_the_next_run(exception: type[BaseException]) -> None:
    async def fail() -> None:
        raise exception

    with runtime.Runner() as runner:
        with pytest.raises(exception):
            runner.run(fail(), until="idle")
        assert runner.run(runtime.sleep(0.01, "slept")) == "slept"


def test_the_loop_can_be_run_by_itself() -> None:
    log: list[str] = []
    loop = runtime.new_event_loop()
    try:
        assert loop.run_until_idle()
        loop.call_later(0.01, log.append, "timer")
        assert loop.run_until_idle()
        assert log == ["timer"]
        loop.call_later(0.01, loop.stop)
        loop.call_later(3600, log.append, "too late")
        assert not loop.run_until_idle()
    finally:
        loop.close()
    assert log == ["timer"]


# -- Daemons ---------------------------------------------------------------------------------------


async def beat(log: list[str], pause: float) -> None:
    try:
        while True:
            log.append("beat")
            await runtime.sleep(pause)
    except runtime.CancelledError:
        log.append("cancelled")
        raise


@pytest.mark.parametrize("pause", [0, 0.001, 3600])
def test_a_daemon_does_not_keep_the_run_going(pause: float) -> None:
    log: list[str] = []

    async def main() -> None:
        runtime.create_task(beat(log, pause), daemon=True)
        runtime.create_task(log_after(log, 0.005, "worker"))

    idle(main())
    assert log[0] == "beat"
    assert log[-1] == "cancelled"
    assert log.count("worker") == 1
    assert "beat" in log[: log.index("worker")]


async def wait_in_a_timeout() -> None:
    async with runtime.timeout(3600):
        await runtime.Event().wait()


async def wait_for_a_callback() -> None:
    runtime.get_running_loop().call_later(3600, print)


async def wait_for_a_socket() -> None:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        await runtime.wait_readable(one)


async def wait_for_a_stream() -> None:
    one, two = socket.socketpair()
    reader, writer = await runtime.open_connection(sock=one)
    try:
        await reader.read(1)
    finally:
        writer.close()
        two.close()


async def wait_for_children() -> None:
    await runtime.gather(runtime.sleep(3600), runtime.create_task(wait_in_a_timeout()))


async def wait_for_a_group() -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(runtime.sleep(3600))


async def wait_for_clients() -> None:
    async with await runtime.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
        await server.serve_forever()


async def wait_for_a_signal() -> None:
    runtime.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
    await runtime.Event().wait()


async def wait_for_asyncio() -> None:
    await asyncio.wait_for(asyncio.gather(asyncio.sleep(3600)), 3600)


BACKGROUND = [
    wait_in_a_timeout,
    wait_for_a_callback,
    wait_for_a_socket,
    wait_for_a_stream,
    wait_for_children,
    wait_for_a_group,
    wait_for_clients,
    wait_for_a_signal,
    wait_for_asyncio,
]


@pytest.mark.parametrize("work", BACKGROUND)
def test_neither_does_an_operation_awaited_by_a_daemon(work: Callable[[], Awaitable[None]]) -> None:
    async def daemon() -> None:
        await work()

    async def main() -> str:
        runtime.create_task(daemon(), daemon=True)
        await runtime.sleep(0.005)
        return "done"

    assert idle(main()) == "done"


def test_a_daemon_may_still_wake_others() -> None:
    log: list[str] = []

    async def set_later(event: runtime.Event) -> None:
        await runtime.sleep(0.01)
        event.set()

    async def wait(event: runtime.Event) -> None:
        await event.wait()
        log.append("woken")

    async def main() -> None:
        event = runtime.Event()
        runtime.create_task(set_later(event), daemon=True)
        runtime.create_task(wait(event))

    idle(main())
    assert log == ["woken"]


def test_tasks_created_by_a_daemon_are_daemons_by_default() -> None:
    log: list[str] = []

    async def daemon() -> None:
        runtime.create_task(log_after(log, 3600, "child"))
        runtime.create_task(log_after(log, 0.01, "ordinary"), daemon=False)

    async def main() -> None:
        runtime.create_task(daemon(), daemon=True)
        await runtime.sleep(0)

    idle(main())
    assert log == ["ordinary", "child cancelled"]


async def test_a_daemon_runs_in_a_copy_of_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def daemon() -> None:
        seen.append(variable.get())
        variable.set("of the daemon")

    context = contextvars.copy_context()
    context.run(variable.set, "given")
    loop = runtime.get_running_loop()
    await loop.create_task(daemon(), context=context, daemon=True, name="named")
    await runtime.create_task(daemon(), daemon=True, eager_start=True)
    assert context[variable] == "given"
    assert seen == ["given", "unset"]


def test_the_executor_of_a_daemon() -> None:
    release = threading.Event()

    async def daemon() -> None:
        await runtime.to_thread(release.wait, 60)

    async def main() -> str:
        runtime.create_task(daemon(), daemon=True)
        await runtime.sleep(0.005)
        loop = runtime.get_running_loop()
        loop.set_exception_handler(None)
        return "done"

    with runtime.Runner() as runner:
        assert runner.run(main(), until="idle") == "done"
        release.set()


def test_an_executor_of_the_program_s_own_counts_as_long_as_its_threads_live() -> None:
    async def main() -> str:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            loop = runtime.get_running_loop()
            assert await loop.run_in_executor(pool, int) == 0
            loop.set_default_executor(pool)
            assert await runtime.to_thread(int) == 0
        return "done"

    assert idle(main()) == "done"


def test_ctrl_c_ends_a_run_that_is_not_idle_yet() -> None:
    program = """
import runtime, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
async def work():
    try:
        await runtime.sleep(3600)
    finally:
        print("cleaned up", flush=True)
async def main():
    runtime.create_task(work())
    runtime.get_running_loop().call_later(0.01, lambda: print("ready", flush=True))
try:
    runtime.run(main(), until="idle")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with started_program("-c", program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert interrupted(process) == (0, "cleaned up\ninterrupted\n", "")


def test_tasks_of_a_group_that_a_task_of_asyncio_has_entered() -> None:
    async def main() -> str:
        async with runtime.TaskGroup() as group:
            task = group.create_task(runtime.sleep(0, "done"))
            # The end of the task is reported while the body continues.
            await runtime.sleep(0)
            await runtime.sleep(0)
        return task.result()

    loop: Any = runtime.new_event_loop()
    try:
        task = asyncio.Task(main(), loop=loop)
        assert loop.run_until_idle()
        assert task.result() == "done"
    finally:
        loop.close()

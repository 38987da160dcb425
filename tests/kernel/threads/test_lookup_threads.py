"""Name lookups, which use threads of their own beside the default executor."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.kernel.threads.executor import LOOKUP_THREADS
from tests.net.tools import serving, until

LOOKUPS: dict[str, Callable[[runtime.Loop, int], Awaitable[Any]]] = {
    "getaddrinfo": lambda loop, port: loop.getaddrinfo("localhost", port),
    "getnameinfo": lambda loop, port: loop.getnameinfo(("127.0.0.1", port)),
    "open_connection": lambda loop, port: runtime.open_connection("localhost", port),
    "open_datagram": lambda loop, port: runtime.open_datagram(remote_addr=("localhost", port)),
    "start_server": lambda loop, port: runtime.start_server(lambda *_: None, "localhost", 0),
}


def lookup_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("runtime-lookup")]


@pytest.mark.parametrize("name", LOOKUPS)
async def test_a_look_up_does_not_wait_behind_calls_in_the_executor(name: str) -> None:
    release = threading.Event()

    loop = runtime.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, release.wait)
    try:
        async with runtime.timeout(30), serving() as (_, port):
            made = await LOOKUPS[name](loop, port)
    finally:
        release.set()
    await busy
    if name == "open_connection":
        made[1].close()
    elif hasattr(made, "close"):
        made.close()


def test_there_are_so_many_threads_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def getaddrinfo(*args: Any) -> list[Any]:
        release.wait(30)
        return [args[0]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        loop = runtime.get_running_loop()
        names = [f"host{n}.invalid" for n in range(2 * LOOKUP_THREADS)]
        found = runtime.gather(*[loop.getaddrinfo(name, 80) for name in names])
        await until(lambda: len(lookup_threads()) == LOOKUP_THREADS)
        await runtime.sleep(0)
        release.set()
        assert await found == [[name] for name in names]
        assert len(lookup_threads()) == LOOKUP_THREADS

    runtime.run(main())
    assert lookup_threads() == []


async def test_it_starts_no_thread_before_a_name_is_looked_up() -> None:
    loop = runtime.get_running_loop()
    await runtime.to_thread(int)
    await loop.getaddrinfo("127.0.0.1", 80)
    assert lookup_threads() == []


def test_the_end_of_a_run_waits_for_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started, release = threading.Event(), threading.Event()

    def getaddrinfo(*args: Any) -> list[Any]:
        started.set()
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        runtime.create_task(runtime.get_running_loop().getaddrinfo("a.invalid", 80))
        await until(started.is_set)
        runtime.get_running_loop().call_later(0.01, release.set)

    with runtime.Runner() as runner:
        runner.run(main())
        loop = runner.get_loop()
        loop.run_until_complete(loop.shutdown_default_executor())
        assert release.is_set()
        assert lookup_threads() == []
        with pytest.raises(RuntimeError, match="lookups of names was shut down"):
            loop.run_until_complete(loop.getaddrinfo("a.invalid", 80))


def test_a_closed_loop_looks_nothing_up() -> None:
    loop = runtime.new_event_loop()
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    threads = lookup_threads()
    loop.close()
    for thread in threads:
        thread.join(30)
    assert lookup_threads() == []


def test_its_idle_threads_do_not_prevent_a_deadlock_report() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        await loop.getaddrinfo("localhost", 80)
        await loop.create_future()

    with pytest.raises(runtime.DeadlockError):
        runtime.run(main(), debug=True)

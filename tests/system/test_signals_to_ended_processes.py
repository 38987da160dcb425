"""Signals to processes that have ended: their pid may belong to another process by now.

Once a process has ended and its exit status was reaped, the system may assign its pid to any other
process. The status is reaped by the loop, through the ``Popen`` object, or by code that does not
know of the loop; and the loop may not have noticed when the next signal is to be sent.

In these tests ``os.kill`` records its calls, and sends nothing: each record is a signal that
another process might have received. A pidfd refers to the same process for ever, so that a signal
through a pidfd is harmless.

Source: python/cpython#127049.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.system import child
from tests.support.asyncio_reference import MakeLoop, run, unless_faulty
from tests.system.subprocess_tools import WAYS, start


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Select one of the ways in which runtime's loop notices the end of processes."""
    if request.param != "pidfd" and not child.pidfds_work():
        pytest.skip("pidfds do not work here, so that threads are used anyway")
    WAYS[request.param](monkeypatch)
    name: str = request.param
    return name


@pytest.fixture
def certain_way(way: str) -> str:
    """Skip the way that cannot detect a status reaped elsewhere before it is recorded.

    This is the case on macOS before Python 3.13, which has neither pidfds nor ``waitid``.
    """
    if way == "thread-without-waitid":
        pytest.skip("the waiting thread reaps the status before it can record it")
    return way


@pytest.fixture
def misdirected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Make ``os.kill`` record its arguments, a pid and a signal, in the returned list."""
    notes: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: notes.append((pid, number)))
    return notes


# -- Ways to start and to signal a process ---------------------------------------------------------


async def as_transport(stdin: int) -> Any:
    return (await start("cat", stdin=stdin, stdout=subprocess.DEVNULL, stderr=None))[0]


async def as_process(stdin: int) -> Any:
    return await runtime.create_subprocess_exec("cat", stdin=stdin, stdout=subprocess.DEVNULL)


async def as_asyncio_s_process(stdin: int) -> Any:
    return await asyncio.create_subprocess_exec("cat", stdin=stdin, stdout=subprocess.DEVNULL)


Start = Callable[[int], Awaitable[Any]]

starting = pytest.mark.parametrize(
    "start_cat", [as_transport, as_process, as_asyncio_s_process], ids=lambda start: start.__name__
)

SIGNALS: dict[str, Callable[[Any], object]] = {
    "send_signal": lambda process: process.send_signal(signal.SIGUSR1),
    "terminate": lambda process: process.terminate(),
    "kill": lambda process: process.kill(),
}

signals = pytest.mark.parametrize("send", SIGNALS.values(), ids=SIGNALS)


def transport_of(process: Any) -> Any:
    """Return the transport of a process; ``process`` may be the transport itself."""
    return getattr(process, "_transport", process)


async def until_over(process: Any) -> None:
    """Wait until the loop knows that a process has ended."""
    async with asyncio.timeout(30):
        await transport_of(process)._wait()


# -- Ways to reap the exit status ------------------------------------------------------------------


def by_others(process: Any) -> None:
    # If the loop's own thread waits in the same way, it may reap the status first.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(transport_of(process).get_pid(), 0)


def by_popen(process: Any) -> None:
    transport_of(process).get_extra_info("subprocess").wait()


taking = pytest.mark.parametrize("take", [by_others, by_popen], ids=["by_others", "by_popen"])


@starting
@signals
@taking
@pytest.mark.usefixtures("certain_way")
def test_no_signal_before_the_loop_has_noticed(
    start_cat: Start,
    send: Callable[[Any], object],
    take: Callable[[Any], None],
    misdirected: list[tuple[int, int]],
) -> None:
    async def main() -> None:
        source, target = os.pipe()
        process = await start_cat(source)
        os.close(source)
        os.close(target)
        take(process)
        with contextlib.suppress(ProcessLookupError):
            send(process)
        assert misdirected == []
        await until_over(process)

    run(runtime.new_event_loop, main())


@pytest.mark.parametrize(
    ("make_loop", "start_cat"),
    [
        unless_faulty(asyncio.SelectorEventLoop, as_transport, name="asyncio", works=True),
        unless_faulty(
            asyncio.SelectorEventLoop, as_asyncio_s_process, name="asyncio-process", works=True
        ),
        pytest.param(runtime.new_event_loop, as_transport, id="transport"),
        pytest.param(runtime.new_event_loop, as_process, id="process"),
        pytest.param(runtime.new_event_loop, as_asyncio_s_process, id="asyncio's process"),
    ],
)
@signals
@pytest.mark.usefixtures("certain_way")
def test_no_signal_when_the_loop_has_noticed(
    make_loop: MakeLoop,
    start_cat: Start,
    send: Callable[[Any], object],
    misdirected: list[tuple[int, int]],
) -> None:
    async def main() -> None:
        source, target = os.pipe()
        process = await start_cat(source)
        os.close(source)
        os.close(target)
        await until_over(process)
        for _ in range(2):
            with contextlib.suppress(ProcessLookupError):
                send(process)
        assert misdirected == []
        transport_of(process).close()
        assert misdirected == []

    run(make_loop, main())


@starting
@taking
@pytest.mark.usefixtures("certain_way")
def test_closing_a_transport_kills_nothing_else(
    start_cat: Start, take: Callable[[Any], None], misdirected: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        source, target = os.pipe()
        process = await start_cat(source)
        os.close(source)
        os.close(target)
        take(process)
        transport_of(process).close()
        assert misdirected == []
        await until_over(process)

    run(runtime.new_event_loop, main())


@starting
@pytest.mark.parametrize("send", ["send_signal", "terminate", "kill", "close"])
@pytest.mark.usefixtures("certain_way")
def test_no_signal_while_a_thread_has_the_status_and_has_not_noted_it(
    start_cat: Start, send: str, misdirected: list[tuple[int, int]]
) -> None:
    """``Popen.wait()`` in another thread holds a lock from the system call to the record."""

    async def main() -> None:
        source, target = os.pipe()
        process = await start_cat(source)
        os.close(source)
        popen = transport_of(process).get_extra_info("subprocess")
        with popen._waitpid_lock:
            os.close(target)
            by_others(process)
            if send == "close":
                transport_of(process).close()
            else:
                with contextlib.suppress(ProcessLookupError):
                    SIGNALS[send](process)
        assert misdirected == []
        await until_over(process)

    run(runtime.new_event_loop, main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@taking
@pytest.mark.usefixtures("certain_way")
def test_a_process_that_is_dropped_with_its_loop_kills_nothing_else(
    take: Callable[[Any], None], misdirected: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        source, target = os.pipe()
        kept.append(await as_transport(source))
        os.close(source)
        os.close(target)

    kept: list[Any] = []
    run(runtime.new_event_loop, main())
    take(kept[0])
    kept.clear()
    gc.collect()
    assert misdirected == []

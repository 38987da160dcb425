"""Forks while a loop runs: the child leaves the loop, and does not disturb the parent's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime.kernel.scheduler import FORKED
from tests.support.programs import run_code

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


def status_in_child(work: Callable[[], object]) -> int:
    """Call ``work`` in a forked child; return its exit status, which is 1 after an exception."""
    pid = os.fork()
    if not pid:  # pragma: no cover  # another process
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def refused(work: Callable[[], object]) -> None:
    """Call ``work``, which may raise the RuntimeError about forks."""
    try:
        work()
    except RuntimeError as error:
        if str(error) != FORKED:
            raise


class Traffic:
    """An echo server and a connection to it, a callback, and a task that waits for a socket."""

    def __init__(self) -> None:
        self.called = 0
        self.waiting: runtime.Task[bytes]

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        self.loop = runtime.get_running_loop()
        self.server = await runtime.start_server(self._echo, "127.0.0.1", 0)
        stack.push_async_callback(self.server.shutdown, 0)
        self.address = self.server.sockets[0].getsockname()
        self.reader, self.writer = await runtime.open_connection(*self.address)
        await stack.enter_async_context(self.writer)
        self.watched, self._far = (stack.enter_context(each) for each in socket.socketpair())
        self.received, self._sender = (stack.enter_context(each) for each in socket.socketpair())
        for each in (self.watched, self.received, self._sender):
            each.setblocking(False)
        self.loop.add_reader(self.watched, self._on_readable)
        stack.callback(self.loop.remove_reader, self.watched)
        await self._receive()
        await self._receive()  # The registration of the third wait is kept.
        self.waiting = runtime.create_task(self.loop.sock_recv(self.received, 1))
        stack.callback(self.waiting.cancel)
        await self.echo(self.reader, self.writer)

    async def _receive(self) -> None:
        receiving = runtime.create_task(self.loop.sock_recv(self.received, 1))
        await runtime.sleep(0)
        self._sender.send(b"1")
        assert await receiving == b"1"

    async def _echo(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        while data := await reader.readline():
            writer.write(data)

    def _on_readable(self) -> None:
        self.called += len(self.watched.recv(1))

    async def echo(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(b"line\n")
        async with asyncio.timeout(30):
            assert await reader.readline() == b"line\n"

    async def check(self) -> None:
        """Use all of it."""
        await self.echo(self.reader, self.writer)
        async with asyncio.timeout(30):
            reader, writer = await runtime.open_connection(*self.address)
        async with writer:
            await self.echo(reader, writer)
        self._sender.send(b"2")
        async with asyncio.timeout(30):
            assert await self.waiting == b"2"
        self._far.send(b"3")
        async with asyncio.timeout(30):
            while not self.called:
                await runtime.sleep(0.001)


def close_connection(traffic: Traffic) -> None:
    refused(traffic.writer.close)


def abort_connection(traffic: Traffic) -> None:
    refused(traffic.writer.transport.abort)


def close_server(traffic: Traffic) -> None:
    refused(traffic.server.close)


def remove_reader(traffic: Traffic) -> None:
    refused(lambda: traffic.loop.remove_reader(traffic.watched))


def end_wait(traffic: Traffic) -> None:
    refused(lambda: traffic.waiting.get_coro().close())  # type: ignore[union-attr]


def watch(traffic: Traffic) -> None:
    with pytest.raises(RuntimeError, match="when its process forked"):
        traffic.loop.add_reader(traffic.watched, print)
    with pytest.raises(RuntimeError, match="when its process forked"):
        traffic.loop._poller.selector.register(traffic.received, selectors.EVENT_READ)


def run_another_loop(traffic: Traffic) -> None:
    del traffic
    assert runtime.run(runtime.sleep(0, "slept")) == "slept"


ACTIONS = [
    close_connection,
    abort_connection,
    close_server,
    remove_reader,
    end_wait,
    watch,
    run_another_loop,
]


def standard() -> None:
    return None


SELECTORS: list[Any] = [standard, selectors.DefaultSelector, selectors.SelectSelector]


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_parent_gets_its_events(action: Callable[[Traffic], None], selector: Any) -> None:
    async def main() -> None:
        traffic = Traffic()
        async with contextlib.AsyncExitStack() as stack:
            await traffic.open(stack)
            assert status_in_child(lambda: action(traffic)) == 0
            await traffic.check()

    runtime.run(main(), loop_factory=lambda: runtime.Loop(selector()))


UNWOUND = """
import asyncio, os, runtime, signal

async def echo(reader, writer):
    while data := await reader.readline():
        writer.write(data)

async def main():
    async with await runtime.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        async with writer:
            writer.write(b"first\\n")
            await reader.readline()
            child = os.fork()
            if not child:
                signal.alarm(30)
                return
            _, status = os.waitpid(child, 0)
            print("child", os.waitstatus_to_exitcode(status))
            writer.write(b"second\\n")
            print(await asyncio.wait_for(reader.readline(), 30))

try:
    runtime.run(main())
except RuntimeError as error:
    os._exit(3 if "when its process forked" in str(error) else 4)
"""


def test_a_child_that_unwinds() -> None:
    done = run_code(UNWOUND)
    assert (done.stdout, done.returncode) == ("child 3\nb'second\\n'\n", 0), done.stderr


# -- Signals ---------------------------------------------------------------------------------------

SIGNALLED = """
import os, runtime, signal

async def main():
    loop = runtime.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, print, "the parent's handler")
    signal.signal(signal.SIGTERM, lambda *_: print("the child's handler", flush=True))
    child = os.fork()
    if not child:
        signal.alarm(30)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(signal.set_wakeup_fd(-1) + 1)
    _, status = os.waitpid(child, 0)
    for _ in range(3):
        await runtime.sleep(0.001)
    print("child", os.waitstatus_to_exitcode(status))

runtime.run(main())
"""


def test_a_signal_to_the_child_calls_no_handler_of_the_parent() -> None:
    done = run_code(SIGNALLED)
    assert done.stdout == "the child's handler\nchild 0\n", done.stderr


async def test_the_child_keeps_another_wake_up_descriptor() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def work() -> None:
        kept = signal.set_wakeup_fd(-1)
        # Newer interpreters forget the descriptor themselves.
        assert kept == write_end or (kept == -1 and sys.version_info >= (3, 12))

    before = signal.set_wakeup_fd(write_end)
    try:
        assert status_in_child(work) == 0
    finally:
        signal.set_wakeup_fd(before)
        os.close(read_end)
        os.close(write_end)


# -- Garbage collection ----------------------------------------------------------------------------


async def test_garbage_is_collected_in_the_child() -> None:
    def work() -> None:
        assert gc.isenabled()

    loop = runtime.get_running_loop()
    loop.collect_when_idle()
    try:
        assert status_in_child(work) == 0
        assert not gc.isenabled()
    finally:
        loop.collect_when_idle(False)

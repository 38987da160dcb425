"""Exceptions that end the loop in the middle of a batch of events: no other event is lost.

The system reports events in batches. Some of the descriptors are watched for one event only, and
are disarmed by then. Therefore, when KeyboardInterrupt, SystemExit or the exception of a signal
handler leaves the batch, the remaining events must be delivered, or armed again, when the loop next
runs.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.native import accelerator
from runtime.kernel.native.wait_meter import meter_of

LOOPS: dict[str, Callable[[], Any]] = {
    "default": runtime.new_event_loop,
    "select": lambda: runtime.Loop(selectors.SelectSelector()),
    "asyncio": asyncio.new_event_loop,
}
if hasattr(selectors, "PollSelector"):
    LOOPS["poll"] = lambda: runtime.Loop(selectors.PollSelector())


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    one = LOOPS[request.param]()
    yield one
    one.close()


class Receivers:
    """Tasks that each wait for a byte, with one descriptor in the middle that is not waited for."""

    def __init__(self, loop: Any, count: int = 20) -> None:
        self.loop = loop
        self.pairs = [socket.socketpair() for _ in range(count)]
        self.middle, self.trigger = socket.socketpair()
        for sock in (self.middle, *(pair[0] for pair in self.pairs)):
            sock.setblocking(False)
        self.tasks = [loop.create_task(loop.sock_recv(one, 10)) for one, _ in self.pairs]
        loop.run_until_complete(asyncio.sleep(0))

    def send(self) -> None:
        """Make all descriptors ready, in order."""
        half = len(self.pairs) // 2
        others = [pair[1] for pair in self.pairs]
        for sock in (*others[:half], self.trigger, *others[half:]):
            sock.send(b"x")

    def run(self) -> None:
        """Run until every task has its byte."""
        every = asyncio.wait(self.tasks, timeout=30)
        self.loop.run_until_complete(self.loop.create_task(every))
        assert [task.done() and task.result() for task in self.tasks] == [b"x"] * len(self.tasks)

    def close(self) -> None:
        for sock in (self.middle, self.trigger, *(sock for pair in self.pairs for sock in pair)):
            sock.close()


@pytest.fixture
def receivers(loop: Any) -> Iterator[Receivers]:
    one = Receivers(loop)
    yield one
    one.close()


class Interrupted(asyncio.Protocol):
    """Raises when data is received."""

    error: type[BaseException] = KeyboardInterrupt

    def data_received(self, data: bytes) -> None:
        raise self.error


class InterruptedBuffer(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(100)

    def buffer_updated(self, nbytes: int) -> None:
        raise KeyboardInterrupt


class Exiting(Interrupted):
    error = SystemExit


@pytest.mark.parametrize("protocol", [Interrupted, InterruptedBuffer, Exiting])
def test_tasks_whose_events_were_in_the_batch_of_a_connection(
    loop: Any, receivers: Receivers, protocol: Any
) -> None:
    connect = loop.create_connection(protocol, sock=receivers.middle)
    transport, _ = loop.run_until_complete(connect)
    loop.call_soon(receivers.send)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        loop.run_until_complete(asyncio.sleep(30))
    receivers.run()
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))


def test_tasks_whose_events_were_in_the_batch_of_a_pipe(loop: Any, receivers: Receivers) -> None:
    sock = receivers.middle
    transport, _ = loop.run_until_complete(loop.connect_read_pipe(Interrupted, sock))
    loop.call_soon(receivers.send)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(30))
    receivers.run()
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))


def test_tasks_whose_events_were_in_the_batch_of_a_report(loop: Any, receivers: Receivers) -> None:
    """An exception handler may raise KeyboardInterrupt as well."""

    class Fails(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    def on_report(_: Any, context: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    connect = loop.create_connection(Fails, sock=receivers.middle)
    transport, _ = loop.run_until_complete(connect)
    loop.set_exception_handler(on_report)
    loop.call_soon(receivers.send)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(30))
    loop.set_exception_handler(None)
    receivers.run()
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


def test_several_in_a_row(loop: Any, receivers: Receivers) -> None:
    """Each interrupt leaves the batch again; the task is armed again each time."""
    more = [socket.socketpair() for _ in range(3)]
    transports = []
    for one, _ in more:
        one.setblocking(False)
        connect = loop.create_connection(Interrupted, sock=one)
        transports.append(loop.run_until_complete(connect)[0])

    def send() -> None:
        for _, other in more:
            other.send(b"x")
        receivers.send()

    loop.call_soon(send)
    for _ in more:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(30))
    receivers.run()
    for transport in transports:
        transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    for _, other in more:
        other.close()


def test_a_task_whose_coroutine_was_closed_ends_with_the_awaited_future(loop: Any) -> None:
    awaited = loop.create_future()

    async def wait() -> None:
        await awaited

    def interrupt() -> None:
        raise KeyboardInterrupt

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    task.get_coro().close()
    loop.call_soon(interrupt)
    sleeper = loop.create_task(asyncio.sleep(30))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(sleeper)
    sleeper.cancel()
    assert not task.done()
    awaited.set_result(None)
    with pytest.raises(RuntimeError, match="already awaited"):
        loop.run_until_complete(task)


def test_a_wait_to_write_under_the_number_of_a_closed_socket(
    loop: Any, receivers: Receivers
) -> None:
    """A task has waited to read from the closed socket."""
    closed, peer = socket.socketpair()
    closed.setblocking(False)
    receiving = loop.create_task(loop.sock_recv(closed, 10))
    loop.run_until_complete(asyncio.sleep(0))
    peer.send(b"x")
    loop.run_until_complete(receiving)
    first, reader = socket.socketpair()
    number = closed.fileno()
    closed.close()
    os.dup2(first.fileno(), number)
    with peer, first, reader, socket.socket(fileno=number) as writer:
        reader.setblocking(False)
        writer.setblocking(False)
        sending = loop.create_task(loop.sock_sendall(writer, bytes(1 << 20)))
        loop.run_until_complete(asyncio.sleep(0))
        connect = loop.create_connection(Interrupted, sock=receivers.middle)
        transport, _ = loop.run_until_complete(connect)
        receivers.send()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(30))
        while not sending.done():
            loop.run_until_complete(loop.sock_recv(reader, 1 << 20))
        assert sending.result() is None
        receivers.run()
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))


# -- Signals ---------------------------------------------------------------------------------------


class Handled(KeyboardInterrupt):
    """Exception raised by the signal handler."""


@pytest.fixture
def raising_handler() -> Iterator[None]:
    def handle(number: int, frame: Any) -> None:
        raise Handled

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("busy", [False, True])
def test_the_handler_of_a_signal_that_came_just_before_the_poll(
    loop: Any, receivers: Receivers, raising_handler: None, busy: bool
) -> None:
    """The C library's function does not check for signals, so that the loop has to."""
    send_signal = ctypes.CDLL(None)["raise"]
    # The task has begun when the signal arrives: if Python code runs the callbacks, the signal is
    # handled soon.
    sleeper = loop.create_task(asyncio.sleep(30))
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(receivers.send)
    loop.call_soon(send_signal, int(signal.SIGUSR1))
    if busy:
        loop.call_soon(loop.call_soon, int)  # This keeps the next poll from waiting.
    with pytest.raises(Handled):
        loop.run_until_complete(sleeper)
    receivers.run()
    sleeper.cancel()


# -- The wait itself -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
def test_events_that_a_wait_took_and_could_not_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, the kernel may lack the memory for the report; epoll has disarmed the events."""
    fail = False
    original = accelerator.epoll_wait

    def epoll_wait(fd: int) -> Any:
        wait = original(fd)

        def failing(timeout: float) -> Any:
            nonlocal fail
            found = wait(timeout)
            if fail and found:
                fail = False
                raise MemoryError
            return found

        vars(failing)["__self__"] = meter_of(wait)
        return failing

    monkeypatch.setattr(accelerator, "epoll_wait", epoll_wait)
    loop = runtime.new_event_loop()
    receivers = Receivers(loop)
    receivers.send()
    fail = True
    with pytest.raises(MemoryError):
        loop.run_until_complete(asyncio.sleep(30))
    receivers.run()
    receivers.close()
    loop.close()

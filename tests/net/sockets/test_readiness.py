"""Waiting for the readiness of descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

import runtime
from runtime.net.sockets.readiness import wait_exceptional_in_thread
from tests.net.tools import until


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    with one, two:
        yield one, two


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        two, _ = server.accept()
    one.setblocking(False)
    with one, two:
        yield one, two


async def test_wait_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair

    for target in (one, one.fileno()):
        task = runtime.create_task(runtime.wait_readable(target))
        await runtime.sleep(0)
        assert not task.done()
        two.send(b"x")
        await task
        assert one.recv(1) == b"x"


async def test_wait_writable(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair

    await runtime.wait_writable(one)
    with pytest.raises(BlockingIOError):
        while True:
            one.send(b"x" * 65536)
    task = runtime.create_task(runtime.wait_writable(one))
    await runtime.sleep(0.001)
    assert not task.done()
    with pytest.raises(BlockingIOError):
        while True:
            two.recv(1 << 20)
    await task


async def test_both_directions_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair

    reading = runtime.create_task(runtime.wait_readable(one))
    await runtime.sleep(0)
    await runtime.wait_writable(one)
    assert not reading.done()
    two.send(b"x")
    await reading


async def test_a_pipe() -> None:
    receiver, sender = os.pipe()
    try:
        task = runtime.create_task(runtime.wait_readable(receiver))
        await runtime.wait_writable(sender)
        os.write(sender, b"x")
        await task
    finally:
        os.close(receiver)
        os.close(sender)


async def test_a_second_waiter_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair

    first = runtime.create_task(runtime.wait_readable(one))
    await runtime.sleep(0)
    with pytest.raises(RuntimeError, match="waited for already"):
        await runtime.wait_readable(one)
    two.send(b"x")
    await first


async def test_cancelled(pair: tuple[socket.socket, socket.socket]) -> None:
    one, _ = pair

    for wait in (runtime.wait_readable, runtime.wait_exceptional):
        task = runtime.create_task(wait(one))
        await runtime.sleep(0)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task
    loop = runtime.get_running_loop()
    assert not loop.remove_reader(one)
    assert not loop.remove_writer(one)


async def test_closed_sockets_and_other_objects_are_refused_at_the_call() -> None:
    sock = socket.socket()
    sock.close()
    for wait in (runtime.wait_readable, runtime.wait_writable, runtime.wait_exceptional):
        with pytest.raises(ValueError, match="closed"):
            await wait(sock)
        with pytest.raises(ValueError, match="descriptor"):
            await wait("socket")  # type: ignore[arg-type]


WAITS = [runtime.wait_exceptional, wait_exceptional_in_thread]


@pytest.mark.parametrize("wait", WAITS)
async def test_urgent_data(wait: object, tcp_pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = tcp_pair

    task = runtime.create_task(wait(one.fileno()))  # type: ignore[operator]
    two.send(b"ordinary")
    await runtime.wait_readable(one)
    assert not task.done()
    two.send(b"!", socket.MSG_OOB)
    await runtime.wait_for(task, 30)
    assert one.recv(1, socket.MSG_OOB) == b"!"
    assert one.recv(100) == b"ordinary"


@pytest.mark.parametrize("wait", WAITS)
async def test_a_hang_up(wait: object, tcp_pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = tcp_pair

    task = runtime.create_task(wait(one.fileno()))  # type: ignore[operator]
    await runtime.sleep(0)
    one.shutdown(socket.SHUT_WR)
    two.close()
    await runtime.wait_for(task, 30)


async def test_the_thread_ends_when_the_wait_is_cancelled(
    tcp_pair: tuple[socket.socket, socket.socket],
) -> None:
    task = runtime.create_task(wait_exceptional_in_thread(tcp_pair[0].fileno()))
    await runtime.sleep(0.001)
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task


async def test_a_reused_descriptor_is_watched_anew() -> None:
    loop = runtime.get_running_loop()
    events: list[str] = []
    one, two = socket.socketpair()
    number = one.fileno()
    loop.add_reader(number, events.append, "old")
    one.close()
    three, four = socket.socketpair()
    again = three if three.fileno() == number else four
    other = four if again is three else three
    assert again.fileno() == number
    loop.add_reader(number, events.append, "new")
    other.send(b"x")
    await until(lambda: events)
    assert set(events) == {"new"}
    assert loop.remove_reader(number)
    for sock in (two, three, four):
        sock.close()

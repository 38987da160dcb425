"""Registrations that stay armed while the same socket object waits again and again.

A wait of ``sock_recv`` then needs no system call. The hazards are an event for which no task waits,
a socket that was closed, and another file under the number of an open socket object.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtime
from runtime.kernel.descriptors import DescriptorWatcher
from tests.kernel.test_closed_while_watched import epoll_of, kept_alive, until_quiet

if not hasattr(select, "epoll") or sys.platform != "linux":
    pytest.skip("needs Linux's epoll", allow_module_level=True)

ONESHOT = 1 << 30
FEW_TURNS = 20
"""More turns than a short sleep takes; a loop that spins makes thousands."""

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = make_pair()
    with one, two:
        yield one, two


def make_pair() -> Pair:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    return one, two


def registered(sock: socket.socket | int) -> int | None:
    """Return the mask with which a descriptor is registered with the loop's epoll, or None."""
    number = sock if isinstance(sock, int) else sock.fileno()
    info = Path(f"/proc/self/fdinfo/{epoll_of(runtime.get_running_loop())}").read_text()
    for line in info.splitlines():
        words = line.split()
        if words[0] == "tfd:" and int(words[1]) == number:
            return int(words[3], 16) & (select.EPOLLIN | select.EPOLLOUT | ONESHOT)
    return None


async def converse(one: socket.socket, two: socket.socket, times: int = 3) -> None:
    """Have a task wait for ``one`` several times, each time until ``two`` has sent."""
    loop = runtime.get_running_loop()
    for number in range(times):
        task = runtime.create_task(loop.sock_recv(one, 100))
        await runtime.sleep(0)
        word = b"%d" % number
        two.send(word)
        assert await runtime.wait_for(task, 30) == word


async def make_kept(one: socket.socket, two: socket.socket) -> None:
    await converse(one, two)
    assert registered(one) == select.EPOLLIN


def turns() -> int:
    return runtime.get_running_loop()._turns


async def test_the_second_wait_of_a_socket_keeps_its_registration_armed(pair: Pair) -> None:
    one, two = pair
    await converse(one, two, 1)
    assert registered(one) == ONESHOT  # The kernel has disarmed it after its event.
    await converse(one, two, 1)
    assert registered(one) == select.EPOLLIN
    await converse(one, two, 100)
    assert registered(one) == select.EPOLLIN


async def test_waits_by_number_are_armed_for_one_event(pair: Pair) -> None:
    one, two = pair
    for _ in range(3):
        task = runtime.create_task(runtime.wait_readable(one))
        await runtime.sleep(0)
        two.send(b"x")
        await task
        assert one.recv(1) == b"x"
        assert registered(one) == ONESHOT


async def test_an_event_for_which_no_task_waits_disarms(pair: Pair) -> None:
    one, two = pair
    await make_kept(one, two)
    two.send(b"early")
    before = turns()
    await runtime.sleep(0.02)
    assert turns() - before < FEW_TURNS
    assert registered(one) == ONESHOT
    assert await runtime.get_running_loop().sock_recv(one, 100) == b"early"


async def test_after_such_an_event_some_waits_are_armed_for_one_event(pair: Pair) -> None:
    one, two = pair
    await make_kept(one, two)
    two.send(b"early")
    await runtime.sleep(0.001)
    assert await runtime.get_running_loop().sock_recv(one, 100) == b"early"
    await converse(one, two, 5)
    assert registered(one) == ONESHOT
    await converse(one, two, 100)
    assert registered(one) == select.EPOLLIN


async def test_a_hang_up_for_which_no_task_waits_does_not_spin(pair: Pair) -> None:
    one, two = pair
    await make_kept(one, two)
    two.close()
    before = turns()
    await runtime.sleep(0.02)
    assert turns() - before < FEW_TURNS
    assert await runtime.get_running_loop().sock_recv(one, 100) == b""


async def test_bytes_that_are_left_are_received_later(pair: Pair) -> None:
    one, two = pair
    loop = runtime.get_running_loop()
    await make_kept(one, two)
    two.send(b"abcdef")
    parts = []
    for _ in range(3):
        parts.append(await loop.sock_recv(one, 2))
        await runtime.sleep(0.001)
    assert parts == [b"ab", b"cd", b"ef"]
    await converse(one, two)


async def test_a_long_wait_takes_few_turns(pair: Pair) -> None:
    one, two = pair
    loop = runtime.get_running_loop()
    await make_kept(one, two)
    task = runtime.create_task(loop.sock_recv(one, 100))
    before = turns()
    await runtime.sleep(0.3)
    assert turns() - before < FEW_TURNS
    two.send(b"late")
    assert await task == b"late"
    await make_kept(one, two)


# -- Sockets that are closed -----------------------------------------------------------------------


async def test_another_socket_object_under_the_number_is_armed_anew() -> None:
    for _ in range(20):
        one, two = make_pair()
        with one, two:
            await make_kept(one, two)


async def test_a_socket_that_is_closed_between_its_waits_and_lives_on_elsewhere() -> None:
    one, two = make_pair()
    with one, two:
        await make_kept(one, two)
        with kept_alive(one.fileno()):
            one.close()
            two.send(b"to the duplicate")
            await until_quiet()
            before = turns()
            await runtime.sleep(0.02)
            assert turns() - before < FEW_TURNS


def pair_under(number: int) -> Pair:
    """Return a new pair of sockets, of which the first has a number that was just closed."""
    one, two = make_pair()
    ours, peer = (one, two) if one.fileno() == number else (two, one)
    assert ours.fileno() == number
    return ours, peer


async def test_events_of_the_old_file_do_not_go_on_for_a_new_socket_under_the_number() -> None:
    one, two = make_pair()
    with one, two:
        await make_kept(one, two)
        number = one.fileno()
        with kept_alive(number):
            one.close()
            ours, peer = pair_under(number)
            with ours, peer:
                task = runtime.create_task(runtime.get_running_loop().sock_recv(ours, 100))
                await runtime.sleep(0)
                two.send(b"to the duplicate")
                await until_quiet()
                assert not task.done()
                peer.send(b"new")
                assert await runtime.wait_for(task, 30) == b"new"
                await make_kept(ours, peer)


async def test_they_do_not_go_on_either_if_the_new_socket_waits_no_more() -> None:
    one, two = make_pair()
    with one, two:
        await make_kept(one, two)
        number = one.fileno()
        with kept_alive(number):
            one.close()
            ours, peer = pair_under(number)
            with ours, peer:
                await converse(ours, peer, 1)
                two.send(b"to the duplicate")
                await until_quiet()
                await make_kept(ours, peer)


async def test_a_resumed_wait_fails_if_its_socket_is_closed() -> None:
    one, two = make_pair()
    with one, two:
        await make_kept(one, two)
        task = runtime.create_task(runtime.get_running_loop().sock_recv(one, 100))
        await runtime.sleep(0)
        one.close()
        with pytest.raises(OSError, match="was closed while a task waited"):
            await runtime.wait_for(task, 30)


async def test_it_fails_as_well_if_the_number_is_used_again_but_not_waited_for() -> None:
    one, two = make_pair()
    with one, two:
        await make_kept(one, two)
        number = one.fileno()
        task = runtime.create_task(runtime.get_running_loop().sock_recv(one, 100))
        await runtime.sleep(0)
        one.close()
        three, four = make_pair()
        with three, four:
            assert number in (three.fileno(), four.fileno())
            with pytest.raises(OSError, match="was closed while a task waited"):
                await runtime.wait_for(task, 30)
            await make_kept(three, four)
            await make_kept(four, three)


async def test_a_stream_takes_over_a_socket_that_has_waited(pair: Pair) -> None:
    one, two = pair
    await make_kept(one, two)
    reader, writer = await runtime.open_connection(sock=one)
    two.send(b"x")
    assert await reader.read(10) == b"x"
    writer.close()
    await writer.wait_closed()


async def test_a_detached_descriptor_is_waited_for_by_another_object() -> None:
    one, two = make_pair()
    await make_kept(one, two)
    with socket.socket(fileno=one.detach()) as other, two:
        other.setblocking(False)
        await make_kept(other, two)


# -- Another file under the number of an open socket object ----------------------------------------


@pytest.mark.parametrize("is_busy", [False, True], ids=["quiet", "busy"])
async def test_another_file_is_put_under_the_number(pair: Pair, is_busy: bool) -> None:
    one, two = pair
    other, far = make_pair()
    busy = runtime.create_task(spin()) if is_busy else None
    with other, far:
        await make_kept(one, two)
        os.dup2(other.fileno(), one.fileno())
        for _ in range(3):
            await converse(one, far)
    if busy is not None:
        busy.cancel()


async def spin() -> None:
    while True:
        await runtime.sleep(0)


async def test_the_old_file_is_not_polled_for_the_new_one(pair: Pair) -> None:
    one, two = pair
    other, far = make_pair()
    with other, far:
        await make_kept(one, two)
        with kept_alive(one.fileno()):
            os.dup2(other.fileno(), one.fileno())
            two.send(b"to the duplicate")
            task = runtime.create_task(runtime.get_running_loop().sock_recv(one, 100))
            await runtime.sleep(0)
            await until_quiet()
            assert not task.done()
            far.send(b"new")
            assert await runtime.wait_for(task, 30) == b"new"


async def test_a_number_that_was_closed_behind_the_object(pair: Pair) -> None:
    one, two = make_pair()
    with two:
        await make_kept(one, two)
        os.close(one.fileno())
        with pytest.raises(OSError, match=r"closed|Bad file descriptor"):
            await runtime.wait_for(runtime.get_running_loop().sock_recv(one, 100), 30)
        one.detach()


# -- Other uses of the same descriptor -------------------------------------------------------------


async def test_a_callback_between_two_waits(pair: Pair) -> None:
    one, two = pair
    loop = runtime.get_running_loop()
    for _ in range(3):
        await make_kept(one, two)
        received = loop.create_future()
        loop.add_reader(one, lambda received=received: received.set_result(one.recv(10)))
        two.send(b"called")
        assert await received == b"called"
        with pytest.raises(RuntimeError, match="waited for already"):
            await loop.sock_recv(one, 10)
        assert loop.remove_reader(one)
        assert registered(one) is None


async def test_a_writer_and_a_reader_at_the_same_time(pair: Pair) -> None:
    one, two = pair
    loop = runtime.get_running_loop()
    await make_kept(one, two)
    size = 1 << 22
    for reader_first in (False, True):
        sending = reading = None
        for is_reader in (reader_first, not reader_first):
            if is_reader:
                reading = runtime.create_task(loop.sock_recv(one, 100))
            else:
                sending = runtime.create_task(loop.sock_sendall(one, bytes(size)))
            await runtime.sleep(0)
        assert sending is not None
        assert reading is not None
        two.send(b"x")
        assert await runtime.wait_for(reading, 30) == b"x"
        received = 0
        while received < size:
            received += len(await loop.sock_recv(two, 1 << 20))
        await runtime.wait_for(sending, 30)
        await converse(one, two)


async def test_a_cancelled_wait_ends_the_registration(pair: Pair) -> None:
    one, two = pair
    await make_kept(one, two)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await runtime.get_running_loop().sock_recv(one, 100)
        assert registered(one) is None
        await make_kept(one, two)


async def test_the_socket_object_is_not_kept_alive() -> None:
    one, two = make_pair()
    number = one.fileno()
    with two:
        await make_kept(one, two)
        # detach() prevents the warning about an object that was not closed.
        one.detach()
        watcher = runtime.get_running_loop()._poller.watcher(number)
        assert isinstance(watcher, DescriptorWatcher)
        assert watcher._sock is not None
        del one
        assert watcher._sock() is None
        os.close(number)


def test_another_loop_has_the_same_socket(pair: Pair) -> None:
    one, two = pair
    with asyncio.Runner(loop_factory=runtime.new_event_loop) as first:
        with asyncio.Runner(loop_factory=runtime.new_event_loop) as second:
            for _ in range(3):
                for runner in (first, second):
                    runner.run(converse(one, two))
        first.run(converse(one, two))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_process_has_the_sockets_of_its_parent(pair: Pair) -> None:
    one, two = pair
    loop = runtime.new_event_loop()
    loop.run_until_complete(converse(one, two))
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        code = 1
        try:
            runtime.run(converse(one, two))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.run_until_complete(converse(one, two))
    loop.close()

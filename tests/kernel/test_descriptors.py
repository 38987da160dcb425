"""Waits for a descriptor, and their outcome when it is closed and its number is reused."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

import runtime
from runtime.kernel.descriptors import readable, writable
from tests.net.tools import until
from tests.support.blocked import all_tasks_blocked

KINDS = [
    getattr(selectors, name)
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector")
    if hasattr(selectors, name)
]
Pair = tuple[socket.socket, socket.socket]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def make_pair() -> Pair:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    return one, two


def fill(sock: socket.socket) -> None:
    """Send until the buffer of the socket is full, so that it is not writable."""
    with pytest.raises(BlockingIOError):
        while True:
            sock.send(bytes(65536))


def waits_in_both_directions(sock: socket.socket | int) -> list[runtime.Task[None]]:
    """Return two tasks that are about to wait until ``sock`` is readable, and writable."""
    return [
        runtime.create_task(runtime.wait_readable(sock)),
        runtime.create_task(runtime.wait_writable(sock)),
    ]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = make_pair()
    with one, two:
        yield one, two


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Run:
    def factory() -> runtime.Loop:
        return runtime.Loop(request.param())

    def run_it(coro: Coroutine[Any, Any, Any]) -> Any:
        return runtime.run(coro, loop_factory=factory)

    return run_it


class Reused:
    """A pair whose first socket was closed, and a pair whose first socket reuses its number."""

    def __init__(self, close: Callable[[socket.socket], object]) -> None:
        self.old, self.old_peer = make_pair()
        self.number = self.old.fileno()
        self._close = close

    def replace(self) -> None:
        self._close(self.old)
        one, two = make_pair()
        self.new, self.peer = (one, two) if one.fileno() == self.number else (two, one)
        assert self.new.fileno() == self.number

    def close(self) -> None:
        if self.old.fileno() == self.number:
            self.old.detach()  # the number was closed without the object's knowledge
        for sock in (self.old_peer, self.new, self.peer):
            sock.close()


CLOSINGS: dict[str, Callable[[socket.socket], object]] = {
    "close": socket.socket.close,
    "os.close": lambda sock: os.close(sock.fileno()),
}


@pytest.fixture(params=list(CLOSINGS))
def reused(request: pytest.FixtureRequest) -> Iterator[Reused]:
    reused = Reused(CLOSINGS[request.param])
    yield reused
    reused.close()


async def expect_closed(task: runtime.Task[Any]) -> None:
    with pytest.raises(OSError, match="was closed while a task waited") as caught:
        await task
    assert caught.value.errno == errno.EBADF


def test_waiting_again_and_again(run: Run, pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        for _ in range(5):
            waiting = readable(loop, one.fileno())
            assert "Readiness of <file descriptor" in repr(waiting)
            assert "pending" in repr(waiting)
            await writable(loop, one.fileno())
            assert not waiting.done()
            two.send(b"x")
            await waiting
            await readable(loop, one.fileno())  # the registration still exists
            assert one.recv(10) == b"x"
        assert len(loop._poller.watchers()) == 1

    run(main())


def test_an_event_without_a_waiter_is_not_polled(run: Run, pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        two.send(b"x")
        await readable(loop, one.fileno())
        turns = loop._turns
        await runtime.sleep(0.02)
        assert loop._turns - turns < 10  # the loop sleeps although there is data to read

    run(main())


def test_the_other_direction_goes_on(run: Run, pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        reading = runtime.create_task(runtime.wait_readable(one))
        writing = runtime.create_task(runtime.wait_writable(one))
        await writing
        assert not reading.done()
        abandoned = runtime.create_task(runtime.wait_writable(one))
        await runtime.sleep(0)
        abandoned.cancel()
        await runtime.wait([abandoned])
        two.send(b"x")
        await reading
        assert len(loop._poller.watchers()) == 1

    run(main())


def test_a_hang_up_wakes_both(run: Run) -> None:
    one, two = make_pair()

    async def main() -> None:
        fill(one)
        tasks = waits_in_both_directions(one)
        await runtime.sleep(0)
        two.close()
        await runtime.wait_for(runtime.gather(*tasks), 30)

    with one, two:
        run(main())


def test_a_callback_in_one_direction_and_a_task_in_the_other(run: Run, pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        calls: list[bytes] = []
        reading = runtime.create_task(runtime.wait_readable(one))
        await runtime.sleep(0)
        written: list[int] = []
        loop.add_writer(one, written.append, 1)
        await until(lambda: written)
        assert not reading.done()
        two.send(b"x")
        await reading
        loop.remove_writer(one)
        loop.add_reader(one, lambda: calls.append(one.recv(10)))
        await runtime.wait_writable(one)
        await runtime.wait_writable(one)
        await until(lambda: calls)
        two.send(b"y")
        await until(lambda: len(calls) == 2)
        assert calls == [b"x", b"y"]
        assert loop.remove_reader(one)
        assert not loop.remove_reader(one)
        assert len(loop._poller.watchers()) == 1

    run(main())


def test_one_at_a_time(run: Run, pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        fill(one)
        for wait, add, remove in (
            (runtime.wait_readable, loop.add_reader, loop.remove_reader),
            (runtime.wait_writable, loop.add_writer, loop.remove_writer),
        ):
            task = runtime.create_task(wait(one))
            await runtime.sleep(0)
            with pytest.raises(RuntimeError, match="waited for already"):
                await wait(one)
            with pytest.raises(RuntimeError, match="waited for already"):
                add(one, print)
            task.cancel()
            await runtime.wait([task])
            add(one, int)
            with pytest.raises(RuntimeError, match="waited for already"):
                await wait(one)
            assert remove(one)
        two.send(b"x")
        await runtime.wait_readable(one)

    run(main())


def test_a_wait_that_was_cancelled_is_over_at_once(run: Run, pair: Pair) -> None:
    """The cancelled task has not even run yet when the next wait begins."""
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        fill(one)
        for wait, add, remove in (
            (runtime.wait_readable, loop.add_reader, loop.remove_reader),
            (runtime.wait_writable, loop.add_writer, loop.remove_writer),
        ):
            first = runtime.create_task(wait(one))
            await runtime.sleep(0)
            first.cancel()
            second = runtime.create_task(wait(one))
            await all_tasks_blocked()
            assert first.cancelled()
            second.cancel()
            calls: list[int] = []
            add(one, calls.append, 1)
            await runtime.wait([second])
            two.send(b"x")
            with pytest.raises(BlockingIOError):
                while True:
                    two.recv(1 << 20)
            await until(partial(len, calls))
            assert remove(one)
        assert len(loop._poller.watchers()) == 1

    run(main())


def test_a_wait_that_was_cancelled_hides_no_deadlock(pair: Pair) -> None:
    one, _ = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        for wait in (runtime.wait_readable(one), loop.sock_recv(one, 10)):
            task = runtime.create_task(wait)
            await runtime.sleep(0)
            task.cancel()
            await runtime.wait([task])
            assert len(loop._poller.watchers()) == 1
        await loop.create_future()

    with pytest.raises(runtime.DeadlockError):
        runtime.run(main(), debug=True)


def test_a_wait_that_is_dropped_frees_the_descriptor(run: Run, pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        coro = runtime.wait_readable(one)
        coro.send(None)
        coro.close()
        task = runtime.create_task(runtime.wait_readable(one))
        await runtime.sleep(0)
        two.send(b"x")
        await task

    run(main())


def test_files_that_cannot_be_watched(tmp_path: Any) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        with open(tmp_path / "file", "w") as file:
            for wait in (runtime.wait_readable, runtime.wait_writable):
                with pytest.raises(PermissionError):
                    await wait(file)
            number = file.fileno()
        for wait in (runtime.wait_readable, runtime.wait_writable):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await wait(number)
        assert len(loop._poller.watchers()) == 1

    runtime.run(main(), loop_factory=runtime.new_event_loop)


def test_a_closed_loop_waits_for_nothing(pair: Pair) -> None:
    loop = runtime.new_event_loop()
    loop.close()
    for wait in (readable, writable):
        with pytest.raises(RuntimeError, match="closed"):
            wait(loop, pair[0].fileno())


def test_the_old_waiter_fails_and_the_new_one_succeeds(run: Run, reused: Reused) -> None:
    async def main() -> None:
        old = runtime.create_task(runtime.wait_readable(reused.number))
        await runtime.sleep(0)
        reused.replace()
        new = runtime.create_task(runtime.wait_readable(reused.new))
        await expect_closed(old)
        assert not new.done()
        reused.peer.send(b"x")
        await new

    run(main())


def test_both_old_waiters_fail(run: Run, reused: Reused) -> None:
    async def main() -> None:
        fill(reused.old)
        old = waits_in_both_directions(reused.number)
        await runtime.sleep(0)
        reused.replace()
        await runtime.wait_writable(reused.new)
        for task in old:
            await expect_closed(task)

    run(main())


def test_a_callback_takes_a_number_over(run: Run, reused: Reused) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        old = runtime.create_task(runtime.wait_readable(reused.number))
        await runtime.sleep(0)
        reused.replace()
        calls: list[bytes] = []
        loop.add_reader(reused.new, lambda: calls.append(reused.new.recv(10)))
        await expect_closed(old)
        reused.peer.send(b"x")
        await until(lambda: calls)
        assert loop.remove_reader(reused.new)

    run(main())


def test_a_stream_takes_a_number_over(run: Run, reused: Reused) -> None:
    async def main() -> None:
        old = runtime.create_task(runtime.wait_readable(reused.number))
        await runtime.sleep(0)
        reused.replace()
        reader, writer = await runtime.open_connection(sock=reused.new)
        await expect_closed(old)
        reused.peer.send(b"x")
        assert await reader.read(10) == b"x"
        writer.close()

    run(main())


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="needs epoll")
async def expect_passed_on(task: runtime.Task[Any]) -> None:
    with pytest.raises(
        RuntimeError,
        match=r"^file descriptor \d+ was passed to a stream, a transport or a server while a task "
        "waited for it: end the task first$",
    ):
        await task


@pytest.mark.parametrize("waits", [0, 3])
def test_a_stream_takes_the_socket_of_a_waiting_task_over(run: Run, pair: Pair, waits: int) -> None:
    one, two = pair

    async def main() -> None:
        loop = runtime.get_running_loop()
        for _ in range(waits):
            task = runtime.create_task(loop.sock_recv(one, 10))
            await all_tasks_blocked()
            two.send(b"x")
            assert await task == b"x"
        task = runtime.create_task(loop.sock_recv(one, 10))
        await all_tasks_blocked()
        reader, writer = await runtime.open_connection(sock=one)
        await expect_passed_on(task)
        two.send(b"y")
        assert await reader.read(10) == b"y"
        writer.close()
        await writer.wait_closed()

    run(main())


def test_both_directions_of_a_socket_are_taken_over(run: Run, pair: Pair) -> None:
    one, _ = pair

    async def main() -> None:
        fill(one)
        tasks = waits_in_both_directions(one)
        await all_tasks_blocked()
        _, writer = await runtime.open_connection(sock=one)
        for task in tasks:
            await expect_passed_on(task)
        writer.abort()

    run(main())


def test_a_server_takes_the_socket_of_an_accepting_task_over(run: Run) -> None:
    async def serve(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(await reader.read(10))

    async def main() -> None:
        loop = runtime.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        task = runtime.create_task(loop.sock_accept(listener))
        await all_tasks_blocked()
        async with await runtime.start_server(serve, sock=listener) as server:
            await expect_passed_on(task)
            reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            assert await reader.read(10) == b"x"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_task_takes_a_number_over_from_a_stream() -> None:
    reused = Reused(socket.socket.close)

    async def main() -> None:
        loop = runtime.get_running_loop()
        reader, writer = await runtime.open_connection(sock=reused.old)
        with pytest.raises(RuntimeError, match="is used by"):
            await runtime.wait_readable(reused.number)
        reused.replace()
        task = runtime.create_task(loop.sock_recv(reused.new, 10))
        with pytest.raises(ConnectionError):
            await reader.read(10)
        reused.peer.send(b"x")
        assert await task == b"x"
        writer.close()

    runtime.run(main())
    reused.close()


def test_a_number_is_reused_between_two_waits(run: Run, reused: Reused) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        reused.old_peer.send(b"old")
        await runtime.wait_readable(reused.old)
        reused.replace()
        task = runtime.create_task(loop.sock_recv(reused.new, 10))
        await runtime.sleep(0)
        reused.peer.send(b"new")
        assert await runtime.wait_for(task, 30) == b"new"

    run(main())


def test_another_file_is_put_under_the_number(run: Run, pair: Pair) -> None:
    """``dup2`` changes the file of a socket object without its knowledge."""
    one, two = pair
    other, far = make_pair()

    async def main() -> None:
        loop = runtime.get_running_loop()
        for new, peer, word in ((None, two, b"1"), (other, far, b"2"), (None, far, b"3")):
            if new is not None:
                os.dup2(new.fileno(), one.fileno())
            task = runtime.create_task(loop.sock_recv(one, 10))
            await runtime.sleep(0)
            peer.send(word)
            assert await runtime.wait_for(task, 30) == word

    with other, far:
        run(main())


def test_a_closed_socket_that_lives_on_elsewhere_is_not_polled(run: Run) -> None:
    """Its stale registration cannot be removed, and must not cause repeated events."""
    one, two = make_pair()

    async def main() -> None:
        loop = runtime.get_running_loop()
        task = runtime.create_task(loop.sock_recv(one, 10))
        await runtime.sleep(0)
        two.send(b"x")
        assert await task == b"x"
        with one.dup() as elsewhere:
            one.close()
            two.send(b"y")
            turns = loop._turns
            await runtime.sleep(0.02)
            assert loop._turns - turns < 10
            assert await loop.sock_recv(elsewhere, 10) == b"y"

    with one, two:
        run(main())


def test_file_comes_back_under_its_number() -> None:
    """The kernel still has the registration made before another file took the number."""
    one, two = make_pair()
    other, far = make_pair()

    async def main() -> None:
        with one.dup() as kept:
            two.send(b"x")
            await runtime.wait_readable(one)
            os.dup2(other.fileno(), one.fileno())
            task = runtime.create_task(runtime.wait_readable(one))
            await runtime.sleep(0)
            task.cancel()
            await runtime.wait([task])
            os.dup2(kept.fileno(), one.fileno())
            await runtime.wait_for(runtime.wait_readable(one), 30)

    with one, two, other, far:
        runtime.run(main())


def test_a_socket_that_waited_once_hides_no_deadlock(pair: Pair) -> None:
    one, two = pair

    async def main() -> None:
        two.send(b"x")
        await runtime.wait_readable(one)
        await runtime.get_running_loop().create_future()

    with pytest.raises(runtime.DeadlockError):
        runtime.run(main(), debug=True)

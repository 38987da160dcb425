"""The C accelerator and its fallback, tested by the contracts in ``accelerator.py``."""

from __future__ import annotations

import collections
import contextvars
import errno
import functools
import importlib
import operator
import os
import select
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from runtime.kernel.native import accelerator

try:
    built: Any = importlib.import_module("runtime.kernel.native._accelerator")
except ImportError:
    built = None

IMPLEMENTATIONS = {
    "fallback": types.SimpleNamespace(
        step=accelerator.python_step,
        call=accelerator.python_call,
        recv=accelerator.python_recv,
        recv_large=accelerator.python_recv_large,
        read=accelerator.python_read,
        recv_some=accelerator.python_recv_some,
        send=accelerator.python_send,
        write=accelerator.python_write,
        recvfrom=accelerator.python_recvfrom,
        sendto=accelerator.python_sendto,
        epoll_wait=accelerator.python_epoll_wait,
        epoll_modify=accelerator.python_epoll_modify,
        ReceiveTarget=accelerator.PythonReceiveTarget,
    )
}
if built is not None:
    IMPLEMENTATIONS["C"] = built


@pytest.fixture(params=list(IMPLEMENTATIONS))
def implementation(request: pytest.FixtureRequest) -> Any:
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    with one, two:
        yield one, two


@types.coroutine
def bare_yield(value: Any) -> Generator[Any, Any, Any]:
    return (yield value)


def no_descriptor() -> int:
    """Return the number of a closed descriptor."""
    number = os.dup(0)
    os.close(number)
    return number


def test_step(implementation: Any) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def coroutine() -> str:
        variable.set(1)
        assert await bare_yield("one") is None
        assert await bare_yield(None) is None
        assert variable.get() == 1
        await bare_yield((1, 2))
        await bare_yield(())
        return "value"

    context = contextvars.copy_context()
    coro = coroutine()
    assert implementation.step(coro, context) == "one"
    assert variable.get() == 0
    assert context[variable] == 1
    assert implementation.step(coro, context) is None
    assert implementation.step(coro, context) == [(1, 2)]
    assert implementation.step(coro, context) == [()]
    assert implementation.step(coro, context) == ("value",)


def test_step_raises_the_exception_of_the_coroutine(implementation: Any) -> None:
    async def coroutine() -> None:
        raise ZeroDivisionError

    context = contextvars.copy_context()
    with pytest.raises(ZeroDivisionError):
        implementation.step(coroutine(), context)
    context.run(lambda: None)  # the context was left


def test_step_of_a_plain_generator(implementation: Any) -> None:
    def generator() -> Generator[int, None, str]:
        yield 1
        return "end"

    running = generator()
    context = contextvars.copy_context()
    assert implementation.step(running, context) == 1
    assert implementation.step(running, context) == ("end",)


def test_step_in_a_context_that_is_entered(implementation: Any) -> None:
    async def coroutine() -> None: ...

    context = contextvars.copy_context()
    coro = coroutine()
    with pytest.raises(RuntimeError, match="already entered"):
        context.run(implementation.step, coro, context)
    coro.close()


def test_call(implementation: Any) -> None:
    """The method is looked up on the object first, then on its class; it runs in the context."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")

    class Owner:
        def method(self, argument: str) -> tuple[Owner, str, str]:
            return self, argument, variable.get()

        @staticmethod
        def alone(argument: str) -> str:
            return argument

    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    owner: Any = Owner()
    assert implementation.call(context, "method", owner, "x") == (owner, "x", "inside")
    assert implementation.call(context, "alone", owner, "x") == "x"
    for assigned in (str.upper, functools.partial(str.split, "axb"), Owner.alone):
        owner.method = assigned
        assert implementation.call(context, "method", owner, "x") == assigned("x")
    assert variable.get() == "outside"


def test_call_of_a_missing_or_failing_method(implementation: Any) -> None:
    context = contextvars.copy_context()
    with pytest.raises(AttributeError, match="nothing"):
        implementation.call(context, "nothing", object(), 1)
    with pytest.raises(ValueError, match="not in list"):
        implementation.call(context, "remove", [], 1)
    with pytest.raises(TypeError):
        implementation.call(context, "__len__", [], 1)
    context.run(lambda: None)  # the context was left


def test_call_in_a_context_that_is_entered(implementation: Any) -> None:
    context = contextvars.copy_context()
    found: list[int] = []
    with pytest.raises(RuntimeError, match="already entered"):
        context.run(implementation.call, context, "append", found, 1)
    assert found == []


def test_recv_some(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    assert implementation.recv_some(one.fileno(), 10) is None
    two.send(b"hello")
    assert implementation.recv_some(one.fileno(), 2) == b"he"
    assert implementation.recv_some(one.fileno(), accelerator.LARGE_RECEIVE_SIZE) == b"llo"
    two.close()
    assert implementation.recv_some(one.fileno(), 1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        implementation.recv_some(no_descriptor(), 1)


@pytest.mark.parametrize(
    ("name", "most"),
    [("recv", accelerator.RECEIVE_SIZE), ("recv_large", accelerator.LARGE_RECEIVE_SIZE)],
)
def test_recv(
    implementation: Any, pair: tuple[socket.socket, socket.socket], name: str, most: int
) -> None:
    receive = getattr(implementation, name)
    one, two = pair
    assert receive(one.fileno()) is None
    two.send(b"hello")
    assert receive(one.fileno()) == b"hello"
    two.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * most)
    sent = b""
    try:
        while True:
            part = os.urandom(60_000)
            sent += part[: two.send(part)]
    except BlockingIOError:
        pass
    received = []
    while (data := receive(one.fileno())) is not None:
        received.append(data)
    assert b"".join(received) == sent
    # As much as is available, up to the limit.
    assert len(received[0]) == min(most, len(sent))
    assert max(len(data) for data in received) <= most
    two.close()
    assert receive(one.fileno()) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        receive(no_descriptor())


@pytest.mark.skipif(built is None, reason="the accelerator was not built")
@pytest.mark.parametrize("size", [-1, 0, accelerator.LARGE_RECEIVE_SIZE + 1, 1 << 40])
def test_recv_some_of_a_size_that_the_buffer_has_not(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    with pytest.raises(
        ValueError, match=f"1 to {accelerator.LARGE_RECEIVE_SIZE} bytes, got {size}"
    ):
        built.recv_some(pair[0].fileno(), size)


def test_send(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    for data in (b"bytes", bytearray(b"array"), memoryview(b"view"), memoryview(b"part")[1:]):
        assert implementation.send(one.fileno(), data) == len(data)
        assert two.recv(100) == bytes(data)
    total = 0
    while sent := implementation.send(one.fileno(), b"x" * 100_000):
        total += sent
    assert total
    assert implementation.send(one.fileno(), b"more") == 0
    two.close()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        implementation.send(one.fileno(), b"x")
    assert caught.value.errno in (errno.EPIPE, errno.ECONNRESET)


def test_a_pipe(implementation: Any) -> None:
    reading, writing = os.pipe()
    try:
        for end in (reading, writing):
            os.set_blocking(end, False)
        assert implementation.read(reading) is None
        assert implementation.write(writing, b"bytes") == 5
        assert implementation.read(reading) == b"bytes"
        total = 0
        while sent := implementation.write(writing, b"x" * 50_000):
            total += sent
        while (data := implementation.read(reading)) is not None:
            total -= len(data)
        assert total == 0
    finally:
        os.close(writing)
    assert implementation.read(reading) == b""
    os.close(reading)


def test_bad_descriptors(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    number = no_descriptor()
    calls: list[Callable[[], object]] = [
        lambda: implementation.recv(number),
        lambda: implementation.send(number, b""),
        lambda: implementation.read(number),
        lambda: implementation.write(number, b""),
    ]
    for call in calls:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            call()
        assert caught.value.errno == errno.EBADF
    with pytest.raises(TypeError):
        implementation.recv("x")
    with pytest.raises(TypeError):
        implementation.send(pair[0].fileno(), "text")


@pytest.mark.skipif(built is None, reason="the C accelerator is not built")
def test_bad_arguments_of_the_accelerator() -> None:
    calls: list[Callable[[], object]] = [
        lambda: built.step(1),
        lambda: built.send(1),
        lambda: built.step(1, 2),
        lambda: built.epoll_wait(0)("soon"),
        lambda: built.step(object(), contextvars.copy_context()),
    ]
    for call in calls:
        with pytest.raises((TypeError, AttributeError)):
            call()
    for wrong in (-1, 2**40):
        with pytest.raises(ValueError, match="file descriptor"):
            built.recv(wrong)
    with pytest.raises(ValueError, match="NaN"):
        built.epoll_wait(0)(float("nan"))
    with pytest.raises(OverflowError):
        built.recv(2**80)
    modify = built.epoll_modify(0)
    for arguments in ((1,), (1, "mask"), ("x", 1)):
        with pytest.raises(TypeError):
            modify(*arguments)
    with pytest.raises(TypeError):
        built.epoll_modify(None)
    with pytest.raises(OSError, match="descriptor"):
        built.epoll_wait(no_descriptor())(0.0)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
def test_epoll_modify(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    with select.epoll() as epoll:
        modify = implementation.epoll_modify(epoll)
        assert modify(one.fileno(), select.EPOLLIN) is False
        epoll.register(one.fileno(), 0)
        two.send(b"x")
        assert epoll.poll(0) == []
        assert modify(one.fileno(), select.EPOLLIN | select.EPOLLONESHOT) is True
        assert epoll.poll(0) == [(one.fileno(), select.EPOLLIN)]
        assert epoll.poll(0) == []
        assert modify(one.fileno(), select.EPOLLOUT | select.EPOLLONESHOT) is True
        assert epoll.poll(0) == [(one.fileno(), select.EPOLLOUT)]
        number = one.fileno()
        one.close()
        assert modify(number, select.EPOLLIN) is False


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
def test_epoll_wait(implementation: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    one, two = pair
    with select.epoll() as epoll:
        epoll.register(one.fileno(), select.EPOLLIN)
        wait = implementation.epoll_wait(epoll.fileno())
        for timeout in (0.0, 0.0001, 0.002):
            assert wait(timeout) == []
        for _ in range(200):
            assert wait(0.0) == []
        two.send(b"x")
        for timeout in (0.0, 5.0, -1.0):
            assert wait(timeout) == [(one.fileno(), select.EPOLLIN)]
        two.close()
        ((number, mask),) = wait(1)
        assert number == one.fileno()
        assert mask & select.EPOLLHUP
        accelerator.release(wait)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
def test_polls_that_do_not_wait_let_other_threads_run(implementation: Any) -> None:
    """Also between compiled tasks, where the interpreter runs no instruction of Python code."""
    timeouts: list[float | None] = [0.0]

    def run_for_a_while() -> None:
        for _ in range(20):
            time.sleep(0)
        timeouts[0] = None

    thread = threading.Thread(target=run_for_a_while)
    with select.epoll() as epoll:
        wait = implementation.epoll_wait(epoll.fileno())
        thread.start()
        # All of this iterates in C, until the thread has ended.
        polls = map(wait, iter(functools.partial(operator.getitem, timeouts, 0), None))
        collections.deque(polls, maxlen=0)
    thread.join()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
def test_frames_of_a_poll_tell_their_module(implementation: Any) -> None:
    """Trace functions read it, and so does the code that tells frames of the program apart."""
    found: set[str] = set()

    def profile(frame: types.FrameType, event: str, argument: object) -> None:
        found.add(frame.f_globals["__name__"])

    with select.epoll() as epoll:
        wait = implementation.epoll_wait(epoll.fileno())
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            for _ in range(100):
                wait(0.0)
        finally:
            sys.setprofile(before)
        accelerator.release(wait)
    assert all(name.startswith("runtime.") for name in found - {__name__})


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def datagrams(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two datagram sockets on loopback; the second is connected to the first."""
    host = "127.0.0.1" if request.param == socket.AF_INET else "::1"
    with (
        socket.socket(request.param, socket.SOCK_DGRAM) as one,
        socket.socket(request.param, socket.SOCK_DGRAM) as two,
    ):
        try:
            one.bind((host, 0))
        except OSError:
            pytest.skip("this host has no such address")
        two.connect(one.getsockname())
        one.setblocking(False)
        two.setblocking(False)
        yield one, two


def test_datagrams(implementation: Any, datagrams: tuple[socket.socket, socket.socket]) -> None:
    one, two = datagrams
    assert implementation.recvfrom(one) is None
    for data in (b"bytes", b"", bytearray(b"array"), memoryview(b"part")[1:]):
        assert implementation.sendto(two, data, None) == 1
        received = implementation.recvfrom(one)
        assert received == (bytes(data), two.getsockname())
        assert implementation.sendto(one, data, received[1]) == 1
        assert implementation.recvfrom(two) == (bytes(data), one.getsockname())
    assert implementation.recvfrom(two) is None


def test_a_datagram_may_be_as_large_as_there_are(
    implementation: Any, datagrams: tuple[socket.socket, socket.socket]
) -> None:
    one, two = datagrams
    data = bytes(range(256)) * 255
    assert implementation.sendto(two, data, None) == 1
    assert implementation.recvfrom(one) == (data, two.getsockname())
    with pytest.raises(OSError) as caught:  # noqa: PT011
        implementation.sendto(two, b"x" * 70_000, None)
    assert caught.value.errno == errno.EMSGSIZE


def test_a_full_socket_takes_no_datagram(implementation: Any) -> None:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two:
        two.setblocking(False)
        count = 0
        while implementation.sendto(two, b"x", None):
            count += 1
        assert count


def test_datagram_sockets_that_fail(
    implementation: Any, datagrams: tuple[socket.socket, socket.socket]
) -> None:
    one, two = datagrams
    address = one.getsockname()
    implementation.sendto(two, b"x", None)
    known = implementation.recvfrom(one)[1]
    one.close()
    calls: list[Callable[[], object]] = [
        lambda: implementation.recvfrom(one),
        lambda: implementation.sendto(one, b"", None),
        lambda: implementation.sendto(one, b"", known),
    ]
    for call in calls:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            call()
        assert caught.value.errno == errno.EBADF
    with pytest.raises(TypeError):
        implementation.sendto(two, "text", None)
    implementation.sendto(two, b"to nobody", None)
    with pytest.raises(ConnectionRefusedError):
        implementation.recvfrom(two)
    assert two.getpeername() == address


@pytest.mark.skipif(built is None, reason="the C accelerator is not built")
def test_addresses_that_are_remembered(datagrams: tuple[socket.socket, socket.socket]) -> None:
    one, two = datagrams
    address = two.getsockname()
    # An equal address is not enough: an address that did not come from recvfrom may be a name, or
    # malformed.
    for unknown in ((*address,), "text", 7, object()):
        assert built.sendto(one, b"x", unknown) == -1
    assert built.recvfrom(two) is None
    seen = []
    for _ in range(3):
        built.sendto(two, b"x", None)
        seen.append(built.recvfrom(one)[1])
    assert seen == [address] * 3
    assert seen[0] is seen[1] is seen[2]


@pytest.mark.skipif(built is None, reason="the C accelerator is not built")
def test_more_addresses_than_are_remembered() -> None:
    # Every address is reported correctly; for an address that was forgotten, the accelerator leaves
    # the answer to the socket module.
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        known = []
        for number in range(3000):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.connect(server.getsockname())
                client.settimeout(30)
                client.send(b"%d" % number)
                data, address = built.recvfrom(server)
                assert data == b"%d" % number
                assert address == client.getsockname()
                assert built.sendto(server, data, address) == 1
                assert client.recv(10) == data
                known.append(address)
        assert -1 in {built.sendto(server, b"x", address) for address in known}


@pytest.mark.skipif(built is None, reason="the C accelerator is not built")
def test_bad_arguments_of_the_accelerators_datagrams() -> None:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two:
        calls: list[Callable[[], object]] = [
            lambda: built.sendto(one, b"x"),
            lambda: built.sendto(7, b"x", None),
            lambda: built.recvfrom("x"),
        ]
        for call in calls:
            with pytest.raises((TypeError, AttributeError)):
                call()


def test_room_is_filled_and_taken(implementation: Any) -> None:
    target = implementation.ReceiveTarget(10)
    target.view(0, 4)[:] = b"abcd"
    target.view(4, 100)[:] = b"efghij"
    taken = target.take(10)
    assert type(taken) is bytes
    assert taken == b"abcdefghij"
    with pytest.raises(ValueError, match="were taken"):
        target.take(10)
    with pytest.raises(ValueError, match="were taken"):
        target.view(0, 1)


@pytest.mark.parametrize("size", [0, 1, 9])
def test_room_that_was_filled_in_part(implementation: Any, size: int) -> None:
    target = implementation.ReceiveTarget(10)
    target.view(0, size)[:] = b"x" * size
    assert target.take(size) == b"x" * size


def test_room_is_not_taken_while_it_can_be_written_to(implementation: Any) -> None:
    target = implementation.ReceiveTarget(1000)
    view = target.view(0, 10)
    with pytest.raises(BufferError):
        target.take(1)
    view.release()
    assert len(target.take(1)) == 1


def test_a_view_keeps_its_room(implementation: Any) -> None:
    view = implementation.ReceiveTarget(1 << 20).view(0, 1 << 20)
    view[:] = b"x" * (1 << 20)
    assert bytes(view[-3:]) == b"xxx"


@pytest.mark.skipif(built is None, reason="the C accelerator is not built")
def test_bad_arguments_of_the_accelerators_receive_target() -> None:
    target = built.ReceiveTarget(10)
    calls: list[Callable[[], object]] = [
        built.ReceiveTarget,
        lambda: built.ReceiveTarget("x"),
        lambda: built.ReceiveTarget(size=1),
        lambda: target.view(0),
        lambda: target.view("x", 1),
        lambda: target.take("x"),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    for size in (0, -1):
        with pytest.raises(ValueError, match="at least 1 byte"):
            built.ReceiveTarget(size)
    for size in (-1, 11):
        with pytest.raises(ValueError, match="0 to 10 bytes"):
            target.take(size)
    with pytest.raises(OverflowError):
        built.ReceiveTarget(sys.maxsize)

"""Many connections, slow ones beside fast ones, and floods: their cost, and no leaks."""

from __future__ import annotations

import errno
import gc
import resource
import socket
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from tests.net.tools import connected, echo, serving, until
from tests.net.transport_tools import LOCAL, Recorder, collect_reports
from tests.support.blocked import all_tasks_blocked
from tests.support.leaks import open_descriptors

MEBIBYTE = 1 << 20


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Raise the limit of descriptors as far as possible, up to 4,000; yield the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4000 if hard == resource.RLIM_INFINITY else min(4000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield max(soft, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Echo(Recorder):
    """Protocol that sends all received data back."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def by_streams(address: Any, count: int) -> None:
    pairs = await runtime.gather(*[runtime.open_connection(*address) for _ in range(count)])
    for number, (_, writer) in enumerate(pairs):
        writer.write(b"%06d" % number)
    for number, (reader, _) in enumerate(pairs):
        assert await reader.readexactly(6) == b"%06d" % number
    for _, writer in pairs:
        writer.close()
    for _, writer in pairs:
        await writer.wait_closed()


async def by_protocols(address: Any, count: int) -> None:
    loop = runtime.get_running_loop()
    made = await runtime.gather(*[loop.create_connection(Recorder, *address) for _ in range(count)])
    for number, (transport, _) in enumerate(made):
        transport.write(b"%06d" % number)
    for number, (transport, protocol) in enumerate(made):
        await protocol.until_received(6)
        assert protocol.received == b"%06d" % number
        transport.close()
    for _, protocol in made:
        await protocol.until_lost()


async def batches_leave_nothing(use: Any, total: int, batch: int) -> None:
    loop = runtime.get_running_loop()
    server: Any
    if use is by_streams:
        server = await runtime.start_server(echo, *LOCAL, backlog=1000)
    else:
        server = await loop.create_server(Echo, *LOCAL, backlog=1000)
    address = server.sockets[0].getsockname()

    async def settle() -> None:
        await until(lambda: not server._clients and len(runtime.all_tasks()) == 1)
        await all_tasks_blocked()

    await use(address, batch)
    await settle()
    descriptors, watchers = open_descriptors(), len(loop._poller.watchers())
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        await use(address, batch)
        await settle()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(total // batch):
            await use(address, batch)
            await settle()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert open_descriptors() == descriptors
    assert len(loop._poller.watchers()) == watchers
    assert not loop._ready
    # A hundred bytes for each connection would be a leak of an object.
    assert grown < 100 * total, f"{grown} bytes for {total} connections"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("use", [by_streams, by_protocols])
def test_some_connections_leave_nothing_behind(use: Any) -> None:
    runtime.run(batches_leave_nothing(use, 400, 50))


@pytest.mark.slow
@pytest.mark.parametrize("use", [by_streams, by_protocols])
def test_ten_thousand_connections_leave_nothing_behind(use: Any, many_descriptors: int) -> None:
    batch = min(1000, (many_descriptors - 200) // 2)
    runtime.run(batches_leave_nothing(use, 10_000, batch))


# -- Slow beside fast ------------------------------------------------------------------------------


async def test_a_slow_reader_delays_only_itself() -> None:
    high = 128 * 1024

    class Pouring(Recorder):
        """Protocol that writes pieces of 32 KiB until it is paused."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=high)
            self.held = False
            self.pour()

        def pause_writing(self) -> None:
            self.held = True

        def resume_writing(self) -> None:
            self.held = False
            self.pour()

        def pour(self) -> None:
            while not self.held and not self.transport.is_closing():
                self.transport.write(b"x" * 32768)
                most.append(self.transport.get_write_buffer_size())

    most: list[int] = []

    loop = runtime.get_running_loop()
    pouring = await loop.create_server(Pouring, *LOCAL)
    async with serving() as fast:
        with connected(pouring.sockets[0].getsockname()) as slow:
            await until(lambda: most and max(most) > high)
            pairs = [await runtime.open_connection(*fast) for _ in range(10)]
            for number in range(20):
                # The peer reads a little, so that as much can be written.
                slow.recv(100_000)
                for _, writer in pairs:
                    writer.write(b"%04d" % number * 1000)
                for reader, _ in pairs:
                    assert await reader.readexactly(4000) == b"%04d" % number * 1000
            for _, writer in pairs:
                writer.close()
            assert max(most) <= high + 32768
        await pouring.shutdown(0)


async def test_a_slow_handler_delays_only_its_own_client() -> None:
    """Data that the handler does not read stays in the system's buffers, and not in ours."""

    async def slow(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        sleepy.append(reader)
        await go_on.wait()
        while await reader.read(MEBIBYTE):
            pass
        writer.close()

    sleepy: list[runtime.StreamReader] = []
    go_on = runtime.Event()

    async with serving(slow, limit=10_000) as address, serving(echo) as fast:
        with connected(address) as flooding:
            flooding.setblocking(False)
            sent = 0
            quiet = 0
            while quiet < 20:
                try:
                    sent += flooding.send(b"x" * 100_000)
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                await runtime.sleep(0)
            [reader] = sleepy
            assert reader._adapter.unread.size <= 2 * 10_000 + 65536
            assert sent > reader._adapter.unread.size
            other, writer = await runtime.open_connection(*fast)
            writer.write(b"served")
            assert await other.readexactly(6) == b"served"
            writer.close()
            go_on.set()


# -- Floods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocols", [False, True])
async def test_silent_connections_do_not_keep_a_real_client_waiting(protocols: bool) -> None:
    count = 200

    loop = runtime.get_running_loop()
    server: Any = (
        await loop.create_server(Echo, *LOCAL, backlog=count)
        if protocols
        else await runtime.start_server(echo, *LOCAL, backlog=count)
    )
    address = server.sockets[0].getsockname()
    silent = [socket.create_connection(address, 30) for _ in range(count)]
    try:
        reader, writer = await runtime.open_connection(*address)
        for number in range(50):
            # Other connections are opened and closed meanwhile.
            silent.pop(0).close()
            silent.append(socket.create_connection(address, 30))
            writer.write(b"%04d" % number)
            assert await reader.readexactly(4) == b"%04d" % number
        await until(lambda: len(server._clients) == count + 1)
        writer.close()
    finally:
        for sock in silent:
            sock.close()
    await until(lambda: not server._clients)
    server.close()
    await server.wait_closed()


class Failing:
    """Listening socket whose ``accept`` fails temporarily, in several ways."""

    def __init__(self, sock: socket.socket, codes: list[int]) -> None:
        self._sock = sock
        self.codes = codes

    def accept(self) -> tuple[socket.socket, Any]:
        if self.codes and (code := self.codes.pop(0)):
            raise OSError(code, errno.errorcode[code])
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EPERM])
async def test_a_failing_listener_leaves_the_other_ones_alone(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._REST", 0.01)

    collect_reports()
    loop = runtime.get_running_loop()
    server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2"], 0)
    addresses = [sock.getsockname() for sock in server.sockets]
    assert server._listeners is not None
    listener = server._listeners[0]
    failing = Failing(listener.sock, [code, 0, code, 0, 0, code, code])
    listener.sock = failing  # type: ignore[assignment]
    listener._by_accelerator = False
    for _ in range(5):
        for address in reversed(addresses):
            reader, writer = await runtime.open_connection(*address)
            writer.write(b"served")
            assert await runtime.wait_for(reader.readexactly(6), 30) == b"served"
            writer.close()
    assert failing.codes == []
    await server.shutdown(0)


async def test_listeners_take_turns() -> None:
    """A burst on one listener is accepted in batches, with the other listener in between."""
    order: list[str] = []
    busy = 150

    class Noting(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            order.append(transport.get_extra_info("sockname")[0])

    loop = runtime.get_running_loop()
    server = await loop.create_server(
        Noting, ["127.0.0.1", "127.0.0.2"], 0, backlog=busy, start_serving=False
    )
    await server.start_serving()
    one, other = (sock.getsockname() for sock in server.sockets)
    clients = [socket.create_connection(one, 30) for _ in range(busy)]
    clients += [socket.create_connection(other, 30) for _ in range(5)]
    await until(lambda: len(order) == busy + 5)
    for client in clients:
        client.close()
    await until(lambda: not server._clients)
    server.close()
    await server.wait_closed()
    assert "127.0.0.2" in order[:64], "the busy one goes first for good"


async def test_established_connections_are_served_during_a_burst() -> None:
    served: list[int] = []
    async with serving(echo, backlog=1000) as address:
        reader, writer = await runtime.open_connection(*address)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        burst = [socket.create_connection(address, 30) for _ in range(300)]
        before = len(runtime.all_tasks())
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        served.append(len(runtime.all_tasks()) - before)
        for sock in burst:
            sock.close()
        writer.close()
    assert served[0] < 300, "the burst was accepted first"

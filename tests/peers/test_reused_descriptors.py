"""Descriptors closed under a connection whose number another connection then reuses.

Data written to the old connection must not reach the new one, and the old one must not receive data
of the new one.

See https://github.com/MagicStack/uvloop/issues/653 for a program that was affected.
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any

import pytest

import runtime
from tests.net.transport_tools import LOCAL, Recorder, collect_reports, turns


def close_number(sock: socket.socket) -> None:
    """Close the descriptor without the knowledge of its socket object."""
    os.close(sock.fileno())


def close_object(sock: socket.socket) -> None:
    sock.close()


rudely = pytest.mark.parametrize("rude", [close_number, close_object])


async def connection(sock: socket.socket) -> tuple[Any, Recorder]:
    sock.setblocking(False)
    return await runtime.get_running_loop().create_connection(Recorder, sock=sock)


@rudely
@pytest.mark.parametrize("paused", [False, True])
async def test_a_new_connection_takes_the_number_over(rude: Any, paused: bool) -> None:
    reports = collect_reports()
    listening = socket.create_server(LOCAL)
    ours, peer = socket.socketpair()
    transport, protocol = await connection(ours)
    if paused:
        transport.pause_reading()
    number = ours.fileno()
    rude(ours)
    loop = runtime.get_running_loop()
    with peer, listening:
        # Connecting takes several steps; after each step, the old connection writes.
        connecting = runtime.create_task(loop.create_connection(Recorder, *listening.getsockname()))
        while not connecting.done():
            await runtime.sleep(0)
            transport.write(b"secret of the old connection")
        new, heard = connecting.result()
        assert new.get_extra_info("socket").fileno() == number
        far, _ = listening.accept()
        with far:
            new.write(b"for the new one")
            assert far.recv(100) == b"for the new one"
            far.sendall(b"answer")
            await heard.until_received(6)
            transport.resume_reading()
            transport.write_eof()
            transport.abort()
            await protocol.until_lost()
            new.write(b"still open")
            assert far.recv(100) == b"still open"
            new.close()
            await heard.until_lost()
            assert far.recv(100) == b""
    assert heard.received == b"answer"
    assert protocol.received == b""
    assert isinstance(protocol.lost[0], ConnectionAbortedError)
    assert reports == []


@rudely
async def test_an_accepted_connection_takes_the_number_over(rude: Any) -> None:
    class Writing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            old[0].write(b"secret of the old connection")

    old: list[Any] = []

    loop = runtime.get_running_loop()
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Writing())
        return made[-1]

    server = await loop.create_server(factory, *LOCAL)
    ours, peer = socket.socketpair()
    transport, protocol = await connection(ours)
    old.append(transport)
    client = socket.create_connection(server.sockets[0].getsockname())
    number = ours.fileno()
    rude(ours)
    with client, peer:
        while not made:
            await runtime.sleep(0)
        assert made[0].transport.get_extra_info("socket").fileno() == number
        transport.write(b"secret of the old connection")
        made[0].transport.write(b"for the client")
        made[0].transport.close()
        received = b""
        while part := client.recv(100):
            received += part
        assert received == b"for the client"
        await protocol.until_lost()
        await made[0].until_lost()
    assert protocol.received == b""
    server.close()
    await server.wait_closed()


@rudely
async def test_callbacks_may_take_the_number_over(rude: Any) -> None:
    ours, peer = socket.socketpair()
    _, protocol = await connection(ours)
    number = ours.fileno()
    rude(ours)
    new, far = socket.socketpair()
    new.setblocking(False)
    with new, far, peer:
        assert new.fileno() == number
        loop = runtime.get_running_loop()
        far.sendall(b"for the new one")
        assert await loop.sock_recv(new, 100) == b"for the new one"
        waiting = runtime.create_task(loop.sock_recv(new, 100))
        await turns()
        far.sendall(b"more for it")
        assert await waiting == b"more for it"
        await protocol.until_lost()
        assert protocol.received == b""


async def test_many_connections_while_others_are_rudely_closed() -> None:
    """Every connection sends its name repeatedly, and receives no other name."""
    chance = random.Random(6)
    rounds = 400

    class Named(Recorder):
        """Checks that it receives only its own letter."""

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            letters.append(len(set(self.received)))

    class Echo(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            letters.append(len(set(self.received)))
            self.transport.write(data)

    letters: list[int] = []

    loop = runtime.get_running_loop()
    collect_reports()
    server = await loop.create_server(Echo, *LOCAL)
    address = server.sockets[0].getsockname()
    living: list[tuple[Any, Named, bytes, socket.socket | None]] = []
    dead: list[tuple[Any, bytes]] = []
    for number in range(rounds):
        name = b"%c" % (33 + number % 90)
        sock: socket.socket | None = None
        if number % 2:
            sock = socket.create_connection(address)
            made = await loop.create_connection(Named, sock=sock)
        else:
            made = await loop.create_connection(Named, *address)
        made[0].write(name * 10)
        living.append((*made, name, sock))
        for transport, old_name in dead:
            transport.write(old_name * 3)
        while len(living) > 10:
            transport, _, name, sock = living.pop(chance.randrange(len(living)))
            if sock is None:
                chance.choice([transport.close, transport.abort])()
                continue
            if chance.random() < 0.3:
                transport.pause_reading()
            if chance.random() < 0.5:
                sock.close()
            else:
                close_number(sock)
            dead.append((transport, name))
        for transport, _, name, _ in living:
            transport.write(name * 5)
        await turns(chance.randrange(4))
    for transport, protocol, name, _ in living:
        await protocol.until_received(10)
        assert set(protocol.received) == set(name)
        transport.close()
        await protocol.until_lost()
    for transport, _ in dead:
        transport.abort()
    await server.shutdown(0)
    await turns()
    assert len(loop._poller.watchers()) == 1
    assert set(letters) == {1}


async def test_a_socket_in_use_is_not_for_callbacks() -> None:
    ours, peer = socket.socketpair()
    with peer:
        transport, protocol = await connection(ours)
        with pytest.raises(RuntimeError, match="used by"):
            runtime.get_running_loop().add_reader(ours, print)
        transport.write(b"as before")
        assert peer.recv(100) == b"as before"
        transport.close()
        await protocol.until_lost()

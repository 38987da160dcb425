"""Connecting and serving that is cancelled or disturbed: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest

import runtime
from tests.net.tools import reset
from tests.net.transport_tools import LOCAL, Recorder, collect_reports
from tests.support.blocked import all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled


def test_connecting_can_be_cancelled_everywhere() -> None:
    lost: list[Recorder] = []

    async def scenario(point: CancelPoint) -> None:
        loop = runtime.get_running_loop()
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        with socket.create_server(LOCAL) as listening:
            task = point.start(loop.create_connection(factory, *listening.getsockname()))
            await settled(task)
            if task.cancelled():
                await all_tasks_blocked()
                # Each protocol with connection_made has had connection_lost.
                assert all(
                    protocol.calls in ([], ["connection_made", "connection_lost"])
                    for protocol in made
                )
                lost.extend(made)
            else:
                transport, protocol = task.result()
                transport.close()
                await protocol.until_lost()
        assert len(loop._poller.watchers()) == 1

    assert cancel_everywhere(scenario) >= 1
    assert lost


def test_serving_can_be_cancelled_everywhere() -> None:
    async def scenario(point: CancelPoint) -> None:
        loop = runtime.get_running_loop()

        async def serve() -> None:
            server = await loop.create_server(Recorder, ["localhost", "127.0.0.1"], 0)
            try:
                await server.serve_forever()
            finally:
                server.close()
                await server.wait_closed()

        task = point.start(serve())
        for _ in range(1000):
            await runtime.sleep(0.001)
            if len(loop._poller.watchers()) > 1 or task.done():
                break
        await all_tasks_blocked()
        task.cancel()
        await settled(task)
        assert len(loop._poller.watchers()) == 1

    assert cancel_everywhere(scenario) >= 1


async def test_a_socket_that_is_closed_before_it_is_used() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    ours, theirs = socket.socketpair()
    with theirs:
        connecting = runtime.create_task(loop.create_connection(Recorder, sock=ours))
        await runtime.sleep(0)
        ours.close()
        transport, protocol = await runtime.wait_for(connecting, 30)
        await protocol.until_lost()
        assert transport.is_closing()
        [error] = protocol.lost
        assert isinstance(error, OSError)
    assert reports == []


@pytest.mark.parametrize("streams", [False, True])
async def test_a_peer_that_resets_at_once(streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system no longer knows the peer's address when it is asked."""

    async def connect_and_be_reset(*args: Any, **options: Any) -> socket.socket:
        with socket.create_server(LOCAL) as listening:
            sock = socket.create_connection(listening.getsockname())
            reset(listening.accept()[0])
        sock.setblocking(False)
        return sock

    monkeypatch.setattr("runtime.net.setup.client_sockets.connect_tcp", connect_and_be_reset)

    loop = runtime.get_running_loop()
    if streams:
        reader, writer = await runtime.open_connection(*LOCAL)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
    else:
        _, protocol = await loop.create_connection(Recorder, *LOCAL)
        await protocol.until_lost()
        assert isinstance(protocol.lost[0], ConnectionResetError)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_connection_dropped_after_its_loop_was_closed_closes_its_socket() -> None:
    async def read(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main(loop: Any) -> list[Any]:
        loop.set_exception_handler(lambda _, context: None)
        ours, peer = socket.socketpair()
        theirs, far = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        reader, writer = await runtime.open_connection(sock=theirs)
        waiting = runtime.create_task(read(reader, writer))
        await all_tasks_blocked()
        return [peer, far, transport, waiting]

    loop = runtime.new_event_loop()
    peer, far, *kept = loop.run_until_complete(main(loop))
    loop.close()
    kept.clear()
    gc.collect()
    with peer, far:
        peer.settimeout(30)
        far.settimeout(30)
        assert peer.recv(1) == b""
        assert far.recv(1) == b""

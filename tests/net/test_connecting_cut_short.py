"""Connecting and serving that is cancelled, or disturbed, on the way: nothing is left behind."""

from __future__ import annotations

import socket

import runtime
from tests.net.transport_tools import LOCAL, Recorder, collect_reports, turns
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
                await turns()
                # Whoever was told of the connection is told of its end.
                assert all(
                    protocol.calls in ([], ["connection_made", "connection_lost"])
                    for protocol in made
                )
                lost.extend(made)
            else:
                transport, protocol = task.result()
                transport.close()
                await protocol.until_lost()
        assert len(loop.poller.watchers()) == 1

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
            if len(loop.poller.watchers()) > 1 or task.done():
                break
        await turns(10)
        task.cancel()
        await settled(task)
        assert len(loop.poller.watchers()) == 1

    assert cancel_everywhere(scenario) >= 1


def test_a_socket_that_is_closed_before_it_is_used() -> None:
    async def main() -> None:
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

    runtime.run(main())

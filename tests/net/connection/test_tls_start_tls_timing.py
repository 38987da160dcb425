"""Switching to TLS while the write buffer is full, or while other code ends the connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.net.connection.test_tls_start_tls import MEGABYTE, plain_protocols
from tests.net.tls_tools import PATIENCE, Recorder, contexts, until
from tests.net.tools import receive_all, stream_pair
from tests.support.certificates import NAME, Certificates, client_context
from tests.support.tls_peer import TlsPeer


def behave(sock: socket.socket, tls: TlsPeer, plain: int) -> bytes:
    """Receive ``plain`` bytes, then a megabyte over TLS; return the latter."""
    while plain:
        plain -= len(sock.recv(plain))
    tls.handshake()
    return tls.receive_exactly(len(MEGABYTE))


async def test_the_flow_control_of_a_protocol_that_is_paused(certificates: Certificates) -> None:
    """The pause ends once the plain bytes are sent, and later ones are told to the protocol too."""
    loop = asyncio.get_running_loop()
    server_side, client_side = contexts(certificates)
    ours, theirs = socket.socketpair()
    with theirs:
        tls = TlsPeer(theirs, server_side, server_side=True)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.write(MEGABYTE)
        assert protocol.events == ["made", "pause"]
        switch = runtime.create_task(
            loop.start_tls(transport, protocol, client_side, server_hostname=NAME)
        )
        await wait_all_tasks_blocked()
        talk = runtime.create_task(runtime.to_thread(behave, theirs, tls, len(MEGABYTE)))
        upgraded: Any = await switch
        assert protocol.events == ["made", "pause", "resume"]
        upgraded.write(MEGABYTE)
        assert protocol.events == ["made", "pause", "resume", "pause"]
        assert await talk == MEGABYTE
        await until(lambda: protocol.events[-1] == "resume")
        upgraded.abort()
        await protocol.ended()


async def test_streams_whose_write_buffer_is_filled_again(certificates: Certificates) -> None:
    """Another task may write before the one continues that waits to switch to TLS."""
    server_side, client_side = contexts(certificates)
    async with stream_pair() as (_, writer, peer):
        tls = TlsPeer(peer, server_side, server_side=True)

        def is_paused() -> bool:
            return writer.transport.adapter.writing_paused

        async def write_when_resumed() -> None:
            await writer.drain()
            writer.write(MEGABYTE)

        writer.write(MEGABYTE)
        other = runtime.create_task(write_when_resumed())
        await wait_all_tasks_blocked()
        switch = runtime.create_task(writer.start_tls(client_side, server_hostname=NAME))
        await wait_all_tasks_blocked()
        talk = runtime.create_task(runtime.to_thread(behave, peer, tls, 2 * len(MEGABYTE)))
        await other
        await switch
        assert not is_paused()
        writer.write(MEGABYTE)
        assert is_paused()
        assert await talk == MEGABYTE
        async with runtime.timeout(PATIENCE):
            await writer.drain()


async def test_streams_that_are_closed_while_they_wait_to_switch(
    certificates: Certificates,
) -> None:
    async with stream_pair() as (_, writer, peer):
        writer.write(MEGABYTE[:400_000])
        unsent = writer.transport.get_write_buffer_size()
        switch = runtime.create_task(
            writer.start_tls(client_context(certificates), server_hostname=NAME)
        )
        await wait_all_tasks_blocked()
        writer.close()
        # In one turn, so that the write buffer shrinks from the high mark to nothing at once.
        received = 0
        while received < 400_000 - unsent:
            received += len(peer.recv(65536))
        with pytest.raises(ConnectionResetError, match="cannot continue with TLS"):
            async with runtime.timeout(PATIENCE):
                await switch
        # Nothing of the handshake follows the plain bytes.
        assert len(await runtime.to_thread(receive_all, peer)) == unsent


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("kind", ["streams", "protocol"])
async def test_no_timer_is_left_of_a_connection_that_ends_before_the_handshake(
    certificates: Certificates, kind: str, end: str
) -> None:
    loop = runtime.get_running_loop()
    context = client_context(certificates)
    async with stream_pair() as (_, writer, _), plain_protocols() as (client, _):
        switching = (
            writer.start_tls(context, server_hostname=NAME)
            if kind == "streams"
            else loop.start_tls(client.transport, client, context, server_hostname=NAME)
        )
        switch = runtime.create_task(switching)
        loop.call_soon(getattr(writer if kind == "streams" else client.transport, end))
        with pytest.raises(ConnectionAbortedError):
            await switch
    assert not loop._timers.count()

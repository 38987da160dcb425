"""Key changes during a connection: key updates in TLS 1.3, renegotiations in TLS 1.2."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import PATIENCE, contexts, until
from tests.net.tools import serving
from tests.support import openssl
from tests.support.certificates import NAME, Certificates, client_context
from tests.support.openssl import RENEGOTIATE, UPDATE_KEYS, UPDATE_OWN_KEYS
from tests.support.tls_peer import ALLOW_CLIENT_RENEGOTIATION, TlsPeer, tls_server
from tests.support.tls_records import APPLICATION_DATA, HANDSHAKE, Sealer13

MEGABYTE = bytes(range(256)) * 4096
HELLO_REQUEST = bytes(4)


@pytest.mark.parametrize("requested", [False, True])
async def test_the_peer_changes_its_keys(certificates: Certificates, requested: bool) -> None:
    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        sealer = peer.sealer()
        assert isinstance(sealer, Sealer13)
        for part in (b"before ", b"between ", b"after"):
            peer.send_raw(sealer.seal(APPLICATION_DATA, part))
            if part != b"after":
                peer.send_raw(sealer.key_update(requested=requested))
        return peer.receive_exactly(len(MEGABYTE))

    server_side, client_side = contexts(certificates, "TLSv1_3")
    with tls_server(server_side, behave, by_hand=True) as server:
        reader, writer = await runtime.open_connection(
            *server.address, ssl=client_side, server_hostname=NAME
        )
        # If requested, our own key update is sent in between.
        writer.write(MEGABYTE[:500_000])
        assert await reader.readexactly(20) == b"before between after"
        writer.write(MEGABYTE[500_000:])
        await writer.drain()
        assert await runtime.to_thread(server.result) == MEGABYTE
        writer.abort()


KEY_UPDATE = b">>> TLS 1.3, Handshake [length 0005], KeyUpdate"
"""The output of ``openssl -msg`` when it has sent the message of the command."""


async def exercise(program: Any, pair: Any, command: str, done: list[bytes]) -> None:
    """Send data in each direction, before and after each key change."""
    reader, writer = pair
    for number in range(4):
        if number:
            program.command(command)
            for text in done:
                await runtime.to_thread(program.wait_for, text)
        program.say(b"from openssl\n")
        assert await reader.readline() == b"from openssl\n"
        writer.write(b"from us %d\n" % number)
        await runtime.to_thread(program.wait_for, b"from us %d\n" % number)
    writer.abort()


async def exercise_client(
    certificates: Certificates, context: ssl.SSLContext, command: str, done: list[bytes]
) -> None:
    """Run ``exercise`` with openssl's client."""
    accepted: runtime.Future[Any] = runtime.get_running_loop().create_future()

    def accept(*pair: object) -> None:
        accepted.set_result(pair)

    async with serving(accept, ssl=context) as address:
        with openssl.s_client(address, certificates, "-msg") as program:
            pair = await runtime.wait_for(accepted, PATIENCE)
            await exercise(program, pair, command, done)


async def exercise_server(
    certificates: Certificates, version: str, command: str, done: list[bytes]
) -> None:
    """Run ``exercise`` with openssl's server."""
    with openssl.s_server(certificates, "-msg", version) as program:
        pair = await runtime.open_connection(
            *program.address, ssl=client_context(certificates), server_hostname=NAME
        )
        await exercise(program, pair, command, done)


@pytest.mark.parametrize("command", [UPDATE_KEYS, UPDATE_OWN_KEYS])
@pytest.mark.parametrize("role", ["client", "server"])
def test_openssl_changes_keys(certificates: Certificates, role: str, command: str) -> None:
    if role == "client":
        context = contexts(certificates, "TLSv1_3")[0]
        runtime.run(exercise_client(certificates, context, command, [KEY_UPDATE]))
    else:
        runtime.run(exercise_server(certificates, "-tls1_3", command, [KEY_UPDATE]))


def test_openssls_client_renegotiates(certificates: Certificates) -> None:
    context = contexts(certificates, "TLSv1_2")[0]
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    done = [b"RENEGOTIATING", b"Finished", b"Finished"]
    runtime.run(exercise_client(certificates, context, RENEGOTIATE, done))


def test_openssls_server_renegotiates(certificates: Certificates) -> None:
    done = [b"HelloRequest"]
    runtime.run(exercise_server(certificates, "-tls1_2", "r", done))


# -- A renegotiation that the peer does not continue -----------------------------------------------


async def stalled(certificates: Certificates, then: Callable[[TlsPeer], None], use: Any) -> None:
    """Call ``use`` with streams to a server that starts a renegotiation and does not continue it.

    The streams cannot encrypt. When ``use`` sets the event, the server calls ``then``.
    """

    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealer().seal(HANDSHAKE, HELLO_REQUEST))
        peer.receive_raw()
        go_on.wait(PATIENCE)
        then(peer)
        peer.receive_raw_until_end()

    go_on = threading.Event()
    server_side, client_side = contexts(certificates, "TLSv1_2")
    with tls_server(server_side, behave, by_hand=True) as server:
        reader, writer = await runtime.open_connection(
            *server.address, ssl=client_side, server_hostname=NAME, ssl_shutdown_timeout=0.05
        )
        layer: Any = writer._adapter.lower
        await until(lambda: layer._ssl.version() is None)
        try:
            await use(reader, writer, go_on)
        finally:
            go_on.set()
            writer.abort()


def test_writing_is_paused_during_the_renegotiation(certificates: Certificates) -> None:
    async def use(
        reader: runtime.StreamReader, writer: runtime.StreamWriter, go_on: threading.Event
    ) -> None:
        writer.set_write_buffer_limits(high=100_000)
        writer.write(MEGABYTE[:60_000])
        await writer.drain()
        writer.write(MEGABYTE[:60_000])
        draining = runtime.create_task(writer.drain())
        await runtime.sleep(0)
        assert not draining.done()
        assert writer._adapter.lower.unsent_size() == 120_000
        go_on.set()
        with pytest.raises(ssl.SSLEOFError):
            await draining

    runtime.run(stalled(certificates, TlsPeer.truncate, use))


@pytest.mark.parametrize("paused", [False, True])
def test_the_loss_of_unsent_data_raises(certificates: Certificates, paused: bool) -> None:
    async def use(
        reader: runtime.StreamReader, writer: runtime.StreamWriter, go_on: threading.Event
    ) -> None:
        if paused:
            writer._adapter.lower.pause_reading()
        writer.write(b"in vain")
        writer.close()
        go_on.set()
        with pytest.raises(ConnectionResetError, match="7 bytes could not be sent"):
            await writer.wait_closed()

    runtime.run(stalled(certificates, TlsPeer.truncate, use))


def test_closing_has_a_timeout(certificates: Certificates) -> None:
    async def use(
        reader: runtime.StreamReader, writer: runtime.StreamWriter, go_on: threading.Event
    ) -> None:
        writer.write(b"in vain")
        writer.close()
        with pytest.raises(TimeoutError, match="SSL shutdown"):
            await writer.wait_closed()

    runtime.run(stalled(certificates, TlsPeer.truncate, use))

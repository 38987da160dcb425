"""TLS with streams: certificates, negotiated values, and failures of the handshake."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import (
    PATIENCE,
    Recorder,
    Run,
    both_versions,
    contexts,
    listening,
    on_both_loops,
    streams,
    tls_of,
    until,
)
from tests.net.tools import echo, serving
from tests.support.certificates import (
    CLIENT_NAME,
    NAME,
    OTHER_NAME,
    Certificates,
    client_context,
    server_context,
)
from tests.support.tls_peer import TlsPeer, tls_client, tls_server


def names_of(certificate: Any) -> list[str]:
    return [value for kind, value in certificate["subjectAltName"] if kind == "DNS"]


async def refused(address: tuple[str, int], context: ssl.SSLContext, **options: Any) -> OSError:
    """Connect, and return the error that this raises."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the caller checks which
        async with runtime.timeout(PATIENCE):
            await runtime.open_connection(
                *address, ssl=context, **{"server_hostname": NAME, **options}
            )
    return caught.value


# -- Negotiated values -----------------------------------------------------------------------------


@both_versions
async def test_both_ends_know_the_negotiated_values(
    certificates: Certificates, version: str
) -> None:
    server_side, client_side = contexts(certificates, version)
    async with streams(server_side, client_side) as ((reader, writer), (_, server)):
        for one, context in ((writer, client_side), (server, server_side)):
            assert one.get_extra_info("sslcontext") is context
            assert tls_of(one).version() == version.replace("_", ".")
            assert one.get_extra_info("cipher") == tls_of(one).cipher()
            assert one.get_extra_info("compression") is None
            assert one.get_extra_info("truncated") is False
            assert one.get_extra_info("no such thing", "default") == "default"
        assert names_of(writer.get_extra_info("peercert")) == [NAME]
        assert server.get_extra_info("peercert") is None
        assert writer.get_extra_info("peername") == server.get_extra_info("sockname")
        assert isinstance(writer.get_extra_info("socket"), socket.socket)
        server.write(b"hello")
        assert await reader.readexactly(5) == b"hello"


async def test_the_client_asks_for_a_name_and_gets_its_certificate(
    certificates: Certificates,
) -> None:
    by_name = {OTHER_NAME: certificates.other}
    server_side = server_context(certificates, by_name=by_name)
    client_side = client_context(certificates)
    for name in (NAME, OTHER_NAME):
        async with streams(server_side, client_side, server_hostname=name) as (client, server):
            assert names_of(client[1].get_extra_info("peercert")) == [name]
            assert (server[1].get_extra_info("sslcontext") is server_side) is (name == NAME)


async def test_the_host_is_the_name_by_default(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates)
    async with (
        streams(server_side, client_side, server_hostname=None) as (client, _),
        serving(ssl=server_side) as (_, port),
    ):
        assert tls_of(client[1]).server_hostname == "127.0.0.1"
        writer = (await runtime.open_connection(b"localhost", port, ssl=client_side))[1]
        assert tls_of(writer).server_hostname == NAME
        writer.abort()


@pytest.mark.parametrize("name", [None, ""])
async def test_a_context_that_checks_the_name_requires_one(
    certificates: Certificates, name: str | None
) -> None:
    """Before Python 3.14.8 the ssl module would connect without a check."""
    server_side, client_side = contexts(certificates)
    assert client_side.check_hostname
    loop = runtime.get_running_loop()
    async with serving(ssl=server_side) as (_, port):
        transport, protocol = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        reader, writer = await runtime.open_connection("127.0.0.1", port)
        for upgrade in (
            loop.start_tls(transport, protocol, client_side, server_hostname=name),
            writer.start_tls(client_side, server_hostname=name),
            runtime.open_connection("127.0.0.1", port, ssl=client_side, server_hostname=""),
        ):
            with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
                await upgrade
        transport.abort()
        writer.abort()
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("ours", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x"], None)]
)
async def test_alpn(certificates: Certificates, ours: list[str], chosen: str | None) -> None:
    server_side = server_context(certificates, alpn=("h2", "http/1.1"))
    client_side = client_context(certificates, alpn=ours)
    async with streams(server_side, client_side) as (client, server):
        assert tls_of(client[1]).selected_alpn_protocol() == chosen
        assert tls_of(server[1]).selected_alpn_protocol() == chosen


@both_versions
async def test_a_session_is_resumed(certificates: Certificates, version: str) -> None:
    server_side, client_side = contexts(certificates, version)
    async with serving(ssl=server_side) as address:
        session = None
        for _ in range(2):
            reader, writer = await runtime.open_connection(
                *address, ssl=client_side, server_hostname=NAME, ssl_session=session
            )
            assert tls_of(writer).session_reused is (session is not None)
            # With TLS 1.3 the session is received after the handshake, before any answer.
            writer.write(b"?")
            assert await reader.readexactly(1) == b"?"
            session = tls_of(writer).session
            writer.close()
            await writer.wait_closed()


async def test_a_session_of_another_context_is_refused(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates, "TLSv1_2")
    async with streams(server_side, client_side) as ((_, writer), (_, server)):
        with pytest.raises(ValueError, match="different SSLContext"):
            await runtime.open_connection(
                *server.get_extra_info("sockname"),
                ssl=client_context(certificates),
                server_hostname=NAME,
                ssl_session=tls_of(writer).session,
            )


async def test_over_a_unix_socket(certificates: Certificates, tmp_path: Path) -> None:
    server_side, client_side = contexts(certificates)
    path = str(tmp_path / "socket")
    async with await runtime.start_unix_server(echo, path, ssl=server_side):
        reader, writer = await runtime.open_unix_connection(
            path, ssl=client_side, server_hostname=NAME
        )
        writer.write(b"x" * 300_000)
        assert await reader.readexactly(300_000) == b"x" * 300_000
        writer.close()
        await writer.wait_closed()


async def test_large_transfers_both_ways_at_once(certificates: Certificates) -> None:
    there, back = (bytes(range(256)) * 16384, bytes(range(255, -1, -1)) * 16384)

    async def send(writer: runtime.StreamWriter, data: bytes) -> None:
        for start in range(0, len(data), 300_001):
            writer.write(data[start : start + 300_001])
            await writer.drain()

    async with streams(*contexts(certificates)) as (client, server):
        _, _, received, answered = await runtime.gather(
            send(client[1], there),
            send(server[1], back),
            server[0].readexactly(len(there)),
            client[0].readexactly(len(back)),
        )
        assert received == there
        assert answered == back


# -- Invalid certificates --------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("certificate", ["other", "expired", "stranger"])
async def test_the_client_refuses_and_the_server_gets_an_alert(
    certificates: Certificates, certificate: str, version: str
) -> None:
    bound = ssl.TLSVersion[version]
    context = server_context(
        certificates, getattr(certificates, certificate), minimum=bound, maximum=bound
    )

    def behave(peer: TlsPeer) -> str:
        with pytest.raises(ssl.SSLError) as caught:
            peer.handshake()
            peer.receive()
        assert peer.receive_raw() == b""
        return str(caught.value.reason)

    with tls_server(context, behave) as server:
        error = await refused(server.address, client_context(certificates))
        assert isinstance(error, ssl.SSLCertVerificationError)
        told = await runtime.to_thread(server.result)
    expected = {"other": "BAD_CERTIFICATE", "expired": "EXPIRED", "stranger": "UNKNOWN_CA"}
    assert expected[certificate] in told


@both_versions
async def test_the_client_has_to_show_a_certificate(
    certificates: Certificates, version: str
) -> None:
    bound = ssl.TLSVersion[version]
    server_side = server_context(certificates, client_required=True, minimum=bound, maximum=bound)
    right = client_context(certificates, certificates.client)
    async with streams(server_side, right) as (_, (_, server)):
        assert names_of(server.get_extra_info("peercert")) == [CLIENT_NAME]


@pytest.mark.parametrize("certificate", [None, "stranger"])
async def test_a_client_without_the_right_certificate(
    certificates: Certificates, certificate: str | None
) -> None:
    called: list[object] = []

    def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        called.append(writer)

    path = getattr(certificates, certificate) if certificate else None
    for version in ("TLSv1_2", "TLSv1_3"):
        bound = ssl.TLSVersion[version]
        server_side = server_context(
            certificates, client_required=True, minimum=bound, maximum=bound
        )
        async with serving(handler, ssl=server_side) as address:
            client_side = client_context(certificates, path)
            if version == "TLSv1_2":
                error: BaseException = await refused(address, client_side)
            else:
                # With TLS 1.3 the client is ready before the server has its certificate.
                reader, writer = await runtime.open_connection(
                    *address, ssl=client_side, server_hostname=NAME
                )
                with pytest.raises(ssl.SSLError) as caught:
                    await reader.read(1)
                error = caught.value
                with pytest.raises(ssl.SSLError):
                    await writer.wait_closed()
            assert "ALERT" in str(error)
    assert called == []


@both_versions
async def test_no_protocol_in_common(certificates: Certificates, version: str) -> None:
    other = {"TLSv1_2": "TLSv1_3", "TLSv1_3": "TLSv1_2"}[version]
    bound = ssl.TLSVersion[other]
    async with serving(ssl=contexts(certificates, version)[0]) as address:
        client_side = client_context(certificates, minimum=bound, maximum=bound)
        assert isinstance(await refused(address, client_side), ssl.SSLError)


def test_a_failed_handshake_is_logged_in_debug_mode(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(debug: bool) -> None:
        loop = runtime.get_running_loop()
        loop.set_debug(debug)
        reports: list[object] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        server = server_context(certificates, certificates.stranger)
        async with serving(ssl=server) as address:
            await refused(address, client_context(certificates))
        assert reports == []

    with caplog.at_level(logging.DEBUG, "asyncio"):
        runtime.run(main(False))
        assert caplog.records == []
        runtime.run(main(True))
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


# -- Handshakes that time out or are cancelled -----------------------------------------------------


def silent(peer: TlsPeer) -> None:
    peer.receive_raw_until_end()


async def test_a_server_that_is_silent(certificates: Certificates) -> None:
    with tls_server(contexts(certificates)[0], silent) as server:
        error = await refused(
            server.address, client_context(certificates), ssl_handshake_timeout=0.05
        )
    assert isinstance(error, ConnectionAbortedError)
    assert "SSL handshake is taking longer than 0.05 seconds" in str(error)


@on_both_loops
def test_a_client_that_is_silent(certificates: Certificates, run: Run) -> None:
    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server_side, client_side = contexts(certificates)
        async with listening(factory, server_side, ssl_handshake_timeout=0.05) as address:
            with tls_client(address, client_side, silent) as client:
                await asyncio.get_running_loop().run_in_executor(None, client.result)
        # ``connection_made`` was not called, and so ``connection_lost`` is not either.
        assert made[0].events == []

    run(main())


async def test_a_client_that_stops_half_way(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates)

    def behave(peer: TlsPeer) -> None:
        peer.send_raw(peer.flight()[:100])
        peer.truncate()
        peer.receive_raw_until_end()

    async with serving(ssl=server_side) as address:
        with tls_client(address, client_side, behave) as client:
            await runtime.to_thread(client.result)


async def test_the_peer_ends_the_connection_in_the_handshake(certificates: Certificates) -> None:
    for end in (TlsPeer.truncate, TlsPeer.reset):

        def behave(peer: TlsPeer, end: Any = end) -> None:
            peer.receive_raw()
            end(peer)

        with tls_server(contexts(certificates)[0], behave) as server:
            error = await refused(server.address, client_context(certificates))
        assert isinstance(error, ConnectionResetError)


async def test_opening_can_be_cancelled(certificates: Certificates) -> None:
    with tls_server(contexts(certificates)[0], silent) as server:
        with pytest.raises(TimeoutError):
            async with runtime.timeout(0.05):
                await runtime.open_connection(
                    *server.address, ssl=client_context(certificates), server_hostname=NAME
                )
        # The peer sees the end of the stream: the socket is closed.
        await runtime.to_thread(server.result)


async def test_closing_the_clients_of_a_server_ends_its_handshakes(
    certificates: Certificates,
) -> None:
    server_side, client_side = contexts(certificates)
    server = await runtime.start_server(echo, "127.0.0.1", 0, ssl=server_side)
    with tls_client(server.sockets[0].getsockname(), client_side, silent) as client:
        await until(lambda: server._clients)
        server.close()
        server.close_clients()
        await runtime.wait_for(server.wait_closed(), PATIENCE)
        await runtime.to_thread(client.result)


# -- Arguments -------------------------------------------------------------------------------------


@on_both_loops
def test_arguments_that_do_not_go_together(certificates: Certificates, run: Run) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server_side, client_side = contexts(certificates)
        wrong: list[tuple[type[Exception], Any, dict[str, Any]]] = [
            (ValueError, loop.create_connection, {"server_hostname": NAME}),
            (ValueError, loop.create_connection, {"ssl_handshake_timeout": 1}),
            (ValueError, loop.create_connection, {"ssl_shutdown_timeout": 1}),
            (ValueError, loop.create_server, {"ssl_handshake_timeout": 1}),
            (ValueError, loop.create_server, {"ssl_shutdown_timeout": 1}),
            (TypeError, loop.create_server, {"ssl": True}),
        ]
        for kind, function, options in wrong:
            with pytest.raises(kind):
                await function(Recorder, "127.0.0.1", 0, **options)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(ValueError, match="server_hostname"):
                await loop.create_connection(Recorder, sock=ours, ssl=client_side)
            with pytest.raises(ValueError, match="server_hostname"):
                await loop.create_unix_connection(Recorder, sock=ours, ssl=client_side)
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            with pytest.raises(TypeError):
                await loop.start_tls(transport, protocol, None)
            with pytest.raises(TypeError):
                await loop.start_tls(object(), protocol, client_side)
            for option in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
                with pytest.raises(ValueError, match="positive"):
                    await loop.start_tls(transport, protocol, client_side, **{option: 0})
            assert not transport.is_closing()
            transport.abort()
            await protocol.ended()
        listener = socket.create_server(("127.0.0.1", 0))
        with listener, server_side.wrap_socket(listener, server_side=True) as wrapped:
            await asyncio.sleep(0)
            with pytest.raises(TypeError, match="SSLSocket"):
                await loop.create_server(Recorder, sock=wrapped)

    run(main())


async def test_arguments_of_the_streams(certificates: Certificates) -> None:
    _, client_side = contexts(certificates)
    session: Any = object()
    arguments: tuple[dict[str, Any], ...] = (
        {"ssl_session": session},
        {"server_hostname": NAME},
        {"ssl": client_side, "ssl_handshake_timeout": -1},
        {"ssl": client_side, "ssl_shutdown_timeout": 0},
    )
    for wrong in arguments:
        with pytest.raises(ValueError, match=r"only meaningful with ssl|positive number"):
            await runtime.open_connection("127.0.0.1", 9, **wrong)
    with pytest.raises(TypeError, match="SSLContext"):
        await runtime.start_server(echo, "127.0.0.1", 0, ssl=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="SSLContext"):
        await runtime.open_connection("127.0.0.1", 9, ssl="yes")  # type: ignore[arg-type]

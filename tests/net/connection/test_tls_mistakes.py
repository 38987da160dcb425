"""Mistakes with TLS: the context of the other side, no certificate, a peer without TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.net.tools import serving
from tests.support.certificates import NAME, Certificates, client_context, server_context

Opener = Callable[[ssl.SSLContext], Coroutine[Any, Any, Any]]


def ignore(*_: object) -> None:
    """Do nothing."""


async def listen(opener: Opener, context: ssl.SSLContext) -> None:
    server = await opener(context)
    server.close()


LISTENERS: dict[str, Opener] = {
    "start_server": lambda context: runtime.start_server(ignore, "127.0.0.1", 0, ssl=context),
    "start_unix_server": lambda context: runtime.start_unix_server(
        ignore, "\0runtime-tls-mistakes", ssl=context
    ),
    "create_server": lambda context: runtime.get_running_loop().create_server(
        asyncio.Protocol, "127.0.0.1", 0, ssl=context
    ),
    "create_unix_server": lambda context: runtime.get_running_loop().create_unix_server(
        asyncio.Protocol, "\0runtime-tls-mistakes", ssl=context
    ),
    "asyncio.start_server": lambda context: asyncio.start_server(
        ignore, "127.0.0.1", 0, ssl=context
    ),
}


# -- The context of the other side -----------------------------------------------------------------


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_server_refuses_the_context_of_a_client(listener: str) -> None:
    context = ssl.create_default_context()
    with pytest.raises(ValueError, match=r"is for clients.*CLIENT_AUTH"):
        runtime.run(listen(LISTENERS[listener], context))


async def test_connect_accepted_socket_refuses_the_context_of_a_client() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="is for clients"):
        await runtime.get_running_loop().connect_accepted_socket(
            asyncio.Protocol, ours, ssl=ssl.create_default_context()
        )


@pytest.mark.parametrize("opener", ["open_connection", "create_connection"])
async def test_a_client_refuses_the_context_of_a_server(opener: str) -> None:
    """The error is raised before an attempt to connect."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # An attempt to connect to this address would not be answered.
    where = {"host": "192.0.2.1", "port": 443, "ssl": context}
    with pytest.raises(ValueError, match="is for servers"):
        if opener == "open_connection":
            await runtime.open_connection(**where)  # type: ignore[arg-type]
        else:
            await runtime.get_running_loop().create_connection(
                asyncio.Protocol,
                **where,  # type: ignore[arg-type]
            )


async def test_start_tls_refuses_the_context_of_the_other_side() -> None:
    """The connection stays open and unencrypted."""
    async with serving() as address:
        reader, writer = await runtime.open_connection(*address)
        with pytest.raises(ValueError, match="is for servers"):
            await writer.start_tls(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        with pytest.raises(ValueError, match="is for clients"):
            await writer.start_tls(ssl.create_default_context(), server_side=True)
        writer.write(b"plain")
        assert await reader.readexactly(5) == b"plain"
        writer.close()


# -- No certificate --------------------------------------------------------------------------------


def warnings_of(context: ssl.SSLContext, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.WARNING, "asyncio")
    caplog.clear()
    runtime.run(listen(LISTENERS["start_server"], context))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_server_warns_of_a_context_without_a_certificate(
    listener: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    caplog.set_level(logging.WARNING, "asyncio")
    runtime.run(listen(LISTENERS[listener], context))
    [record] = caplog.records
    assert "has no certificate" in record.getMessage()
    assert "load_cert_chain()" in record.getMessage()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_server_with_a_certificate_does_not_warn(
    certificates: Certificates, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    server_side, _ = contexts(certificates, version)
    assert warnings_of(server_side, caplog) == []
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.set_alpn_protocols(["h2"])
    assert warnings_of(server_side, caplog) == []


def test_a_server_that_chooses_the_certificate_later_does_not_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[Any] = []
    chosen = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    chosen.sni_callback = lambda *args: called.append(args)
    assert warnings_of(chosen, caplog) == []
    logged = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    logged.keylog_filename = str(tmp_path / "keys")
    assert warnings_of(logged, caplog) == []
    assert called == []


def test_a_server_with_anonymous_ciphers_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    assert warnings_of(context, caplog) == []


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Pre-shared keys came with Python 3.13.")
def test_a_server_with_a_pre_shared_key_works(caplog: pytest.LogCaptureFixture) -> None:
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")
    called: list[Any] = []

    def key_of(identity: str | None) -> bytes:
        called.append(identity)
        return b"key"

    context.set_psk_server_callback(key_of)
    for message in warnings_of(context, caplog):
        assert "without a pre-shared key" in message
    assert called == []


# -- A peer without TLS ----------------------------------------------------------------------------


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 400 No\r\n\r\n"])
async def test_the_error_of_a_client_explains_that_the_peer_has_no_tls(
    certificates: Certificates, greeting: bytes
) -> None:
    async def greet(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    context = client_context(certificates)
    async with serving(greet) as address:
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match="does not seem to speak TLS") as caught:
                await runtime.open_connection(*address, ssl=context, server_hostname=NAME)
            assert caught.value.reason == "WRONG_VERSION_NUMBER"
            assert "wrong version number" in str(caught.value)
            assert caught.value.errno == ssl.SSL_ERROR_SSL
        with pytest.raises(ssl.SSLError, match="does not seem to speak TLS"):
            await runtime.get_running_loop().create_connection(
                asyncio.Protocol, *address, ssl=context, server_hostname=NAME
            )
        _, writer = await runtime.open_connection(*address)
        with pytest.raises(ssl.SSLError, match="does not seem to speak TLS"):
            await writer.start_tls(context, server_hostname=NAME)


async def test_the_error_of_a_server_explains_that_the_peer_has_no_tls(
    certificates: Certificates,
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="does not seem to speak TLS"):
            await runtime.get_running_loop().connect_accepted_socket(
                asyncio.Protocol, ours, ssl=server_context(certificates)
            )

"""Certificates and contexts of the TLS tests, tested: they have the promised properties."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from tests.support.certificates import (
    CLIENT_NAME,
    NAME,
    OTHER_NAME,
    Certificates,
    client_context,
    server_context,
)

pytestmark = pytest.mark.once

V12 = ssl.TLSVersion.TLSv1_2
V13 = ssl.TLSVersion.TLSv1_3


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str = NAME
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Perform a handshake in memory. Raises the exceptions of both sides."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    for end in ends:
        # The server refuses a client's certificate after the client has finished its handshake.
        with pytest.raises(ssl.SSLWantReadError):
            end.read(1)
    return ends


def name_of(end: ssl.SSLObject) -> Any:
    certificate = end.getpeercert()
    assert certificate is not None
    names = certificate["subjectAltName"]
    assert isinstance(names, tuple)
    return names[0][1]


@pytest.mark.parametrize("name", [NAME, "127.0.0.1", "::1"])
def test_the_server_is_trusted(certificates: Certificates, name: str) -> None:
    client, _ = shake_hands(client_context(certificates), server_context(certificates), name)
    assert name_of(client) == NAME
    assert client.version() == "TLSv1.3"


def test_another_name_is_refused(certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client_context(certificates), server_context(certificates), OTHER_NAME)


@pytest.mark.parametrize(("kind", "why"), [("expired", "expired"), ("stranger", "unable to get")])
def test_bad_certificates_are_refused(certificates: Certificates, kind: str, why: str) -> None:
    server = server_context(certificates, getattr(certificates, kind))
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        shake_hands(client_context(certificates), server)
    shake_hands(client_context(certificates, verify=False), server)


def test_the_certificate_is_chosen_by_name(certificates: Certificates) -> None:
    server = server_context(certificates, by_name={OTHER_NAME: certificates.other})
    for name in (NAME, OTHER_NAME):
        client, _ = shake_hands(client_context(certificates), server, name)
        assert name_of(client) == name


@pytest.mark.parametrize("version", [V12, V13])
def test_the_client_must_have_a_certificate(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = server_context(certificates, client_required=True, maximum=version)
    _, end = shake_hands(client_context(certificates, certificates.client), server)
    assert name_of(end) == CLIENT_NAME
    with pytest.raises(ssl.SSLError, match="(?i)peer did not return a certificate"):
        shake_hands(client_context(certificates), server)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client_context(certificates, certificates.stranger), server)


def test_application_protocols(certificates: Certificates) -> None:
    client, server = shake_hands(
        client_context(certificates, alpn=["h2", "http/1.1"]),
        server_context(certificates, alpn=["http/1.1", "x"]),
    )
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "http/1.1"


def test_versions(certificates: Certificates) -> None:
    server = server_context(certificates)
    old, _ = shake_hands(client_context(certificates, maximum=V12), server)
    new, _ = shake_hands(client_context(certificates, minimum=V13), server)
    assert (old.version(), new.version()) == ("TLSv1.2", "TLSv1.3")
    with pytest.raises(ssl.SSLError):
        shake_hands(
            client_context(certificates, maximum=V12), server_context(certificates, minimum=V13)
        )

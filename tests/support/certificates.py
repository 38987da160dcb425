"""Certificates for TLS tests, created for each session, and the contexts that use them.

One authority signs all certificates except ``stranger``. Each file is in PEM form and holds a
private key and the chain of its certificate.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = "localhost"
"""Host name of the server's certificate, which is also valid for 127.0.0.1 and ::1."""

OTHER_NAME = "other.example"
"""Host name of the other server's certificate."""

CLIENT_NAME = "client.example"


@dataclass(frozen=True)
class Certificates:
    """Certificate files, by purpose."""

    authority: Path
    """The authority's certificate, for clients to trust."""
    server: Path
    other: Path
    client: Path
    expired: Path
    """For the same names as ``server``, but expired."""
    stranger: Path
    """For the same names as ``server``, but signed by an untrusted authority."""


def make_certificates(folder: Path) -> Certificates:
    """Write new certificates into ``folder``. Skips the test if ``trustme`` is not installed."""
    trustme = pytest.importorskip("trustme", reason="no certificates without trustme")
    authority = trustme.CA()
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    server_names = (NAME, "127.0.0.1", "::1")
    leaves = {
        "server": authority.issue_cert(*server_names),
        "other": authority.issue_cert(OTHER_NAME),
        "client": authority.issue_cert(CLIENT_NAME),
        "expired": authority.issue_cert(
            *server_names, not_before=long_ago, not_after=long_ago + datetime.timedelta(days=1)
        ),
        "stranger": trustme.CA().issue_cert(*server_names),
    }
    files = {name: folder / f"{name}.pem" for name in leaves}
    for name, leaf in leaves.items():
        leaf.private_key_and_cert_chain_pem.write_to_path(str(files[name]))
    files["authority"] = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(files["authority"]))
    return Certificates(**files)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates that are created once per session."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def server_context(
    certificates: Certificates,
    certificate: Path | None = None,
    *,
    alpn: Sequence[str] = (),
    minimum: ssl.TLSVersion | None = None,
    maximum: ssl.TLSVersion | None = None,
    client_required: bool = False,
    by_name: Mapping[str, Path] | None = None,
) -> ssl.SSLContext:
    """Return a server's context, with ``certificate`` or the certificate for localhost.

    ``client_required`` requires a certificate of the client. ``by_name`` maps the names that a
    client may request (SNI) to certificates; for any other name the client gets ``certificate``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate or certificates.server)
    _restrict(context, alpn, minimum, maximum)
    if client_required:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.authority)
    if by_name:
        others = {
            name: server_context(
                certificates,
                path,
                alpn=alpn,
                minimum=minimum,
                maximum=maximum,
                client_required=client_required,
            )
            for name, path in by_name.items()
        }

        def choose(
            connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
        ) -> None:
            if name in others:
                connection.context = others[name]

        context.sni_callback = choose
    return context


def client_context(
    certificates: Certificates,
    certificate: Path | None = None,
    *,
    alpn: Sequence[str] = (),
    minimum: ssl.TLSVersion | None = None,
    maximum: ssl.TLSVersion | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """Return a client's context that trusts the authority, with ``certificate`` if given.

    Without ``verify`` it trusts every server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify:
        context.load_verify_locations(certificates.authority)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    _restrict(context, alpn, minimum, maximum)
    return context


def _restrict(
    context: ssl.SSLContext,
    alpn: Sequence[str],
    minimum: ssl.TLSVersion | None,
    maximum: ssl.TLSVersion | None,
) -> None:
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if minimum:
        context.minimum_version = minimum
    if maximum:
        context.maximum_version = maximum

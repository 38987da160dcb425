"""TLS options of a connection: the checked arguments, from which the TLS layer is made."""

from __future__ import annotations

import ssl
from types import NoneType
from typing import Final, NamedTuple

from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.net.connection.layers import Lower, Upper
from runtime.net.connection.tls import TLSLayer
from runtime.net.connection.tls_certificate import warn_without_certificate

HANDSHAKE_TIMEOUT: Final = 60.0
SHUTDOWN_TIMEOUT: Final = 30.0


class TLSOptions(NamedTuple):
    """Arguments of a TLS layer; timeouts are in seconds."""

    context: ssl.SSLContext
    server_side: bool
    server_hostname: str | bytes | None
    handshake_timeout: float
    shutdown_timeout: float
    session: ssl.SSLSession | None = None

    def require_name(self) -> TLSOptions:
        """Raise ValueError if a client has to check the server's name and was given none.

        Before Python 3.14.8 the ssl module would connect without a check. Returns ``self``.
        """
        if self.context.check_hostname and not self.server_side and self.server_hostname is None:
            raise ValueError(
                "check_hostname requires server_hostname: name the server, or set "
                "check_hostname = False in the SSLContext"
            )
        return self

    def layer(self, loop: LoopCore, lower: Lower, upper: Upper) -> TLSLayer:
        """Return a new layer between ``lower`` and ``upper``."""
        return TLSLayer(
            loop,
            lower,
            upper,
            self.context,
            self.server_side,
            self.server_hostname,
            self.handshake_timeout,
            self.shutdown_timeout,
            self.session,
        )


def client_tls(
    context: ssl.SSLContext | bool | None,
    server_hostname: str | None,
    host: str | bytes | None,
    handshake_timeout: Seconds | None,
    shutdown_timeout: Seconds | None,
    session: ssl.SSLSession | None = None,
) -> TLSOptions | None:
    """Return the options of a client, or None without TLS.

    ``context`` may be True for the system's defaults. Raises ValueError for TLS arguments without
    ``context``, and for TLS without a name to check the certificate against.
    """
    if not context:
        if server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        if session is not None:
            raise ValueError("ssl_session is only meaningful with ssl")
        _refuse_timeouts(handshake_timeout, shutdown_timeout)
        return None
    if server_hostname is None:
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host.decode("idna") if isinstance(host, bytes) else host
    if context is True:
        context = ssl.create_default_context()
        if not server_hostname:
            context.check_hostname = False
    name = server_hostname or None
    options = _options(context, False, name, handshake_timeout, shutdown_timeout, session)
    return options.require_name()


def server_tls(
    context: ssl.SSLContext | None,
    handshake_timeout: Seconds | None,
    shutdown_timeout: Seconds | None,
    *,
    listening: bool = True,
) -> TLSOptions | None:
    """Return the options of a server, or None without TLS.

    Raises TypeError unless ``context`` is an SSLContext (a server needs a certificate, so True is
    not accepted), and ValueError for the context of a client. If the server is ``listening``, a
    warning is logged for a context without a certificate.
    """
    if isinstance(context, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    if context is None:
        _refuse_timeouts(handshake_timeout, shutdown_timeout)
        return None
    options = _options(context, True, None, handshake_timeout, shutdown_timeout, None)
    if listening:
        warn_without_certificate(context)
    return options


def upgrade_tls(
    context: ssl.SSLContext,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout: Seconds | None,
    shutdown_timeout: Seconds | None,
) -> TLSOptions:
    """Return the options of ``start_tls``. A server ignores ``server_hostname``."""
    name = None if server_side else server_hostname or None
    return _options(context, bool(server_side), name, handshake_timeout, shutdown_timeout, None)


def _refuse_timeouts(handshake: Seconds | None, shutdown: Seconds | None) -> None:
    if handshake is not None:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown is not None:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def _options(
    context: ssl.SSLContext,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout: Seconds | None,
    shutdown_timeout: Seconds | None,
    session: ssl.SSLSession | None,
) -> TLSOptions:
    check_context(context)
    _check_side(context, server_side)
    # The ssl module accepts these types.
    if not isinstance(server_hostname, (str, bytes, bytearray, NoneType)):
        raise TypeError(f"server_hostname must be a str or None, got {server_hostname!r}")
    handshake = _positive(handshake_timeout, HANDSHAKE_TIMEOUT, "ssl_handshake_timeout")
    shutdown = _positive(shutdown_timeout, SHUTDOWN_TIMEOUT, "ssl_shutdown_timeout")
    return TLSOptions(context, server_side, server_hostname, handshake, shutdown, session)


def check_context(context: object) -> None:
    """Raise TypeError unless ``context`` is an SSLContext."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {context!r}"
        )


def _check_side(context: ssl.SSLContext, server_side: bool) -> None:
    """Raise ValueError for a context of the other side, with which every handshake would fail."""
    if server_side and context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            f"{context!r} is for clients (PROTOCOL_TLS_CLIENT); a server needs one made with "
            "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), and its load_cert_chain()"
        )
    if not server_side and context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError(
            f"{context!r} is for servers (PROTOCOL_TLS_SERVER); a client needs one made with "
            "ssl.create_default_context()"
        )


def _positive(timeout: Seconds | None, default: float, name: str) -> float:
    """Return a timeout in seconds. Raises ValueError unless it is positive."""
    if timeout is None:
        return default
    number = seconds(timeout, name)
    if number <= 0:
        raise ValueError(f"{name} should be a positive number, got {timeout}")
    return number

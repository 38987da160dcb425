"""Rarely used operations on an OpenSSL connection, and the error of a truncated TLS connection.

Source: the ``ssl`` module's documentation; RFC 8446, section 6.1.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

RECORD: Final = 16384
"""Bytes that a record holds at most: a read of this size takes the whole record."""


_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST")
"""OpenSSL's reasons for refusing bytes that are not a TLS record."""


class TruncatedError(ssl.SSLEOFError, ConnectionResetError):
    """The peer ended the connection without a close_notify: received data may be incomplete.

    It is an ``ssl.SSLEOFError``, for code that handles TLS, and a ConnectionError, for code that
    handles every broken connection alike.
    """


def discard_received(connection: ssl.SSLObject) -> bool:
    """Drop the received data; return whether no more can come."""
    try:
        while connection.read(RECORD):
            pass
    except ssl.SSLWantReadError:
        return False
    except Exception:
        pass  # An end without a close_notify, or invalid records: more would be useless too.
    return True


def send_close_notify(connection: ssl.SSLObject) -> None:
    """Put the close_notify into the outgoing BIO. All received data must have been read."""
    try:
        connection.unwrap()
    except Exception:
        pass  # It raises SSLWantReadError: the peer's close_notify has not come yet.


def explain_handshake_error(error: BaseException) -> None:
    """Add to the text of ``error`` that the peer speaks another protocol, if it does."""
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        text = f"{error.strerror}: the peer does not seem to speak TLS on this port"
        error.strerror = text
        error.args = (error.errno, text)  # A copy of the exception is made from its ``args``.


def truncated_error() -> TruncatedError:
    """Return an exception for the end of a connection without a close_notify."""
    return TruncatedError(
        ssl.SSL_ERROR_EOF,
        "the peer ended the connection without a close_notify: data may be missing",
    )


def extra_info(connection: ssl.SSLObject, name: object) -> Any:
    """Return the TLS values of ``get_extra_info``; None if ``name`` is not one, or not known yet.

    asyncio's transports have the same names.
    """
    if name == "ssl_object":
        return connection
    if name == "sslcontext":
        return connection.context
    if name not in {"peercert", "cipher", "compression"} or connection.version() is None:
        return None  # The handshake is not complete, or has failed.
    return connection.getpeercert() if name == "peercert" else getattr(connection, name)()

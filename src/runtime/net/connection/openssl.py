"""Rarely used operations of OpenSSL's side of a TLS connection, and the error of a truncated one.

Source: the ``ssl`` module's documentation; RFC 8446, section 6.1.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

RECORD: Final = 16384
"""The most bytes that a record holds: a read of so many leaves nothing of it."""


_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST")
"""What OpenSSL says of bytes that are no TLS record."""


class TruncatedError(ssl.SSLEOFError, ConnectionResetError):
    """The peer ended the connection without a close_notify: what was received may not be all.

    It is an ``ssl.SSLEOFError``, and a ConnectionError for those who do not care why a connection
    broke.
    """


def discard(connection: ssl.SSLObject) -> bool:
    """Drop what has come. Return whether no more can."""
    try:
        while connection.read(RECORD):
            pass
    except ssl.SSLWantReadError:
        return False
    except Exception:
        pass  # The end without a close_notify, or nonsense: there is no use in more of it.
    return True


def send_close_notify(connection: ssl.SSLObject) -> None:
    """Make the close_notify, which is to be sent. Nothing that has come may be unread."""
    try:
        connection.unwrap()
    except Exception:
        pass  # The peer's answer cannot have come yet.


def explain_handshake_error(error: BaseException) -> None:
    """Say in the words of an error that the peer speaks something else, where that is the case."""
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        text = f"{error.strerror}: the peer does not seem to speak TLS on this port"
        error.strerror = text
        error.args = (error.errno, text)  # Of which a copy is made.


def truncated() -> TruncatedError:
    """Return the error for an end without a close_notify."""
    return TruncatedError(
        ssl.SSL_ERROR_EOF,
        "The peer ended the connection without a close_notify: data may be missing.",
    )


def extra_info(connection: ssl.SSLObject, name: object) -> Any:
    """Return what asyncio's transports know under ``name``; None when it is not known here."""
    if name == "ssl_object":
        return connection
    if name == "sslcontext":
        return connection.context
    if name not in {"peercert", "cipher", "compression"} or connection.version() is None:
        return None  # The handshake is not over, or failed.
    return connection.getpeercert() if name == "peercert" else getattr(connection, name)()

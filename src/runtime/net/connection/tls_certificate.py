"""Check that a server's TLS context has a certificate, by a trial handshake in memory.

The ``ssl`` module has no function for it. A client that accepts every version and cipher begins a
handshake. A server without a certificate refuses it at once, because no cipher is left to agree on.
"""

from __future__ import annotations

import logging
import ssl
import warnings
from typing import Any, Final

_NOTHING_TO_OFFER: Final = "NO_SHARED_CIPHER"

_logger: Final = logging.getLogger("asyncio")


def warn_without_certificate(context: ssl.SSLContext) -> None:
    """Log a warning if no ordinary client could connect to a server with ``context``.

    This is not an error: clients may have a pre-shared key, and the program may load the
    certificate later.
    """
    try:
        if _is_observed(context):
            return
        refusal = _refusal(context)
    except Exception:
        return  # The context may be of a subclass with methods that raise anything.
    if refusal == _NOTHING_TO_OFFER:
        _logger.warning(
            "%r has no certificate: TLS clients without a pre-shared key cannot connect to this "
            "server (%s). Call its load_cert_chain().",
            context,
            refusal,
        )


def _is_observed(context: Any) -> bool:
    """Return whether the program would notice the trial, or chooses a certificate in a callback."""
    return (
        context.sni_callback is not None
        or context.keylog_filename is not None
        or context._msg_callback is not None
    )


def _refusal(context: ssl.SSLContext) -> str | None:
    """Return OpenSSL's reason for refusing the trial's client; None if the server accepts it."""
    to_client, from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _client_context().wrap_bio(to_client, from_client)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    to_server, from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    to_server.write(from_client.read())
    server = context.wrap_bio(to_server, from_server, server_side=True)
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        return error.reason
    return None


def _client_context() -> ssl.SSLContext:
    """Return the context of a client that accepts any version and any cipher."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return context

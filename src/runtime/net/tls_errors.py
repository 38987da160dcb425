"""What goes wrong in TLS only."""

from __future__ import annotations

import ssl


class TruncatedError(ssl.SSLEOFError, ConnectionResetError):
    """The peer ended the connection without a close_notify: what was received may not be all.

    It is an ``ssl.SSLEOFError``, and a ConnectionError for those who do not care why a connection
    broke.
    """

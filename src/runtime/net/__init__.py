"""Networking: connections, servers, streams, transports, datagrams and sockets.

The package uses the kernel. Pipes, processes and signals belong to ``runtime.system``.

The annotations of the loop's methods use the names below. Their modules are imported when the
annotations are evaluated, for example by ``typing.get_type_hints``, because a program without
connections needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.net.connection.transports import Transport
    from runtime.net.datagrams.socket_setup import Address
    from runtime.net.datagrams.transport import DatagramTransport
    from runtime.net.setup.server import Server

    __all__ = ["Address", "DatagramTransport", "Server", "Transport"]
else:
    _MODULES = {
        "Address": "datagrams.socket_setup",
        "DatagramTransport": "datagrams.transport",
        "Server": "setup.server",
        "Transport": "connection.transports",
    }

    def __getattr__(name):
        """Return one of these names (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

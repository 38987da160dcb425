"""Names that the loop's methods use, and whose modules are imported on first use.

They are the module of the ``sock_*`` methods, and types in annotations, which are evaluated by
``typing.get_type_hints`` for example. A program without connections and diagnostics needs none of
these modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.kernel.diagnostics.metrics import LoopMetrics
    from runtime.kernel.diagnostics.recorder import Recording
    from runtime.net.connection.protocol_transport import Transport
    from runtime.net.datagrams.socket_setup import Address
    from runtime.net.datagrams.transport import DatagramTransport
    from runtime.net.resolver import Host, Port
    from runtime.net.setup.server import Server
    from runtime.net.sockets import operations

    __all__ = [
        "Address",
        "DatagramTransport",
        "Host",
        "LoopMetrics",
        "Port",
        "Recording",
        "Server",
        "Transport",
        "operations",
    ]
else:
    _WHERE = {
        "Address": "runtime.net.datagrams.socket_setup",
        "DatagramTransport": "runtime.net.datagrams.transport",
        "Host": "runtime.net.resolver",
        "LoopMetrics": "runtime.kernel.diagnostics.metrics",
        "Port": "runtime.net.resolver",
        "Recording": "runtime.kernel.diagnostics.recorder",
        "Server": "runtime.net.setup.server",
        "Transport": "runtime.net.connection.protocol_transport",
    }

    def __getattr__(name):
        """Import the module of a name (PEP 562)."""
        if name == "operations":
            # Kept: the methods that use it may be called very often.
            found = globals()[name] = importlib.import_module("runtime.net.sockets.operations")
            return found
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        return getattr(importlib.import_module(_WHERE[name]), name)

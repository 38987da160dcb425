"""Types in the annotations of the loop's methods, whose modules are imported on first use.

The modules are imported when the annotations are evaluated, for example by
``typing.get_type_hints``, because a program without connections and diagnostics needs none of them.
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
    from runtime.net.setup.server import Server

    __all__ = [
        "Address",
        "DatagramTransport",
        "LoopMetrics",
        "Recording",
        "Server",
        "Transport",
    ]
else:
    _WHERE = {
        "Address": "runtime.net.datagrams.socket_setup",
        "DatagramTransport": "runtime.net.datagrams.transport",
        "LoopMetrics": "runtime.kernel.diagnostics.metrics",
        "Recording": "runtime.kernel.diagnostics.recorder",
        "Server": "runtime.net.setup.server",
        "Transport": "runtime.net.connection.protocol_transport",
    }

    def __getattr__(name):
        """Import the module of a name (PEP 562)."""
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        return getattr(importlib.import_module(_WHERE[name]), name)

"""The methods of the loop that are about the operating system: asyncio's, for pipes.

They are thin: each hands over to the module that has the subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.kernel.core import LoopCore
from runtime.system import pipes

P = TypeVar("P", bound=asyncio.BaseProtocol)


class SystemLoop(LoopCore):
    """A loop with the operating system's pipes."""

    # -- Pipes -------------------------------------------------------------------------------------

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, P]:
        """Read from ``pipe`` and give what arrives to the protocol that the factory makes.

        ``pipe`` is an open file or socket: a pipe, a FIFO, a socket or a character device. It is
        made non-blocking, and is closed with the transport. Returns the transport and the protocol.
        Raises ValueError for any other kind of file. Cancellation safe: the pipe is then closed.
        """
        return await pipes.connect_read_pipe(self, protocol_factory, pipe)

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, P]:
        """Write to ``pipe`` through a transport, with the flow control of the protocol.

        ``pipe`` is an open file or socket: a pipe, a FIFO, a socket or a character device. It is
        made non-blocking, and is closed with the transport, or when its reader is gone. Returns the
        transport and the protocol. Raises ValueError for any other kind of file. Cancellation safe:
        the pipe is then closed.
        """
        return await pipes.connect_write_pipe(self, protocol_factory, pipe)

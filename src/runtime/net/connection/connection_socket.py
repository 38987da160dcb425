"""The socket of a connection, as a protocol's transport shows it to the program.

This module is interpreted in every build, because a compiled class cannot have an interpreted base.
"""

from __future__ import annotations

import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable


class ConnectionSocket(TransportSocket):
    """A ``TransportSocket`` whose user finds everything sent that was written before.

    ``send_joined`` sends the data that the connection has collected in the current turn. It is
    called before each operation that the data must precede, or that gives access to the socket
    itself.
    """

    __slots__ = ("_send_joined",)

    def __init__(self, sock: socket.socket, send_joined: Callable[[], None]) -> None:
        super().__init__(sock)
        self._send_joined = send_joined

    def fileno(self) -> int:
        """Return the descriptor; -1 after the end of the connection."""
        self._send_joined()
        return super().fileno()

    def dup(self) -> socket.socket:
        """Return a new socket for the same connection."""
        self._send_joined()
        return super().dup()

    def shutdown(self, how: int) -> None:
        """End one direction of the connection, or both: ``socket.SHUT_WR`` and so on."""
        self._send_joined()
        super().shutdown(how)

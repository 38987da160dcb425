"""The number of TCP segments with data that a socket has received, as Linux counts them.

On a connection without Nagle's algorithm each ``send`` of a few bytes makes a segment, so that the
number tells in how many system calls the peer has sent its data.
"""

from __future__ import annotations

import socket
import struct

_DATA_SEGS_IN = 152
"""Offset of ``tcpi_data_segs_in`` in ``struct tcp_info`` (linux/tcp.h)."""


def segments(sock: socket.socket) -> int:
    """Return the number of segments with data that ``sock`` has received."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DATA_SEGS_IN + 4)
    number: int = struct.unpack_from("I", info, _DATA_SEGS_IN)[0]
    return number

"""Sizes of the objects of which a program has many, in the compiled build.

The order in which a class declares its attributes decides how much space is lost between them: see
the comments on flags in these classes.
"""

from __future__ import annotations

import sys

import pytest

from runtime.kernel.future import FutureCore
from runtime.kernel.handles import Handle
from runtime.kernel.scopes import ScopeCore
from runtime.kernel.sleep_future import SleepFuture
from runtime.kernel.task import TaskCore
from runtime.kernel.timers import TimerHandle
from runtime.net.connection.protocol_adapter import ProtocolAdapter
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.connection.tls import TLSLayer
from runtime.net.datagrams.datagram_socket import DatagramSocket
from runtime.sync.group_core import GroupCore
from tests.support.build import is_compiled

_GC_HEADER = 16
"""The bytes before an object that the garbage collector may visit."""

_BLOCK = 16
"""The allocator rounds sizes up to a multiple of this number of bytes."""


@pytest.mark.skipif(
    not is_compiled() or sys.maxsize < 2**32, reason="sizes of the compiled build on 64 bits"
)
@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (FutureCore, 96),
        (TaskCore, 192),
        (SleepFuture, 112),
        (Handle, 96),
        (TimerHandle, 112),
        (ScopeCore, 176),
        (GroupCore, 128),
        (StreamSocket, 208),
        (StreamAdapter, 192),
        (ProtocolAdapter, 128),
        (TLSLayer, 240),
        (DatagramSocket, 240),
    ],
)
def test_sizes_in_bytes(kind: type, most: int) -> None:
    size = kind.__basicsize__ + _GC_HEADER
    assert -(-size // _BLOCK) * _BLOCK <= most

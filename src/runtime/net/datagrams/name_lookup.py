"""Name lookup for datagrams: a datagram to a host name waits here until the name is resolved.

At most one lookup is in progress for each destination. Datagrams that are sent there in the
meantime wait for the same lookup, so that datagrams to one name leave in the order in which they
were sent.
"""

from __future__ import annotations

import socket
from contextvars import Context
from typing import Any, Protocol

from runtime.kernel.core import LoopCore
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Task
from runtime.net.resolver import resolve, with_flow_and_scope


class _Endpoint(Protocol):
    """The interface of the ``DatagramSocket`` that sends the datagrams."""

    def send_resolved(self, datagrams: list[bytes], address: Any) -> None:
        """Send datagrams whose name was resolved to ``address``, in order."""

    def drop_unresolved(self, datagrams: list[bytes], error: Exception) -> None:
        """Drop datagrams whose name could not be resolved, and report ``error``."""


class NameLookups:
    """Name lookups of one endpoint, and the datagrams that wait for them.

    The lookups run in copies of ``context``, that of the endpoint's protocol.
    """

    def __init__(
        self, loop: LoopCore, sock: socket.socket, endpoint: _Endpoint, context: Context | None
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._endpoint = endpoint
        self._context = context
        self._waiting: dict[tuple[Any, ...], list[bytes]] = {}
        self._lookups: set[Task[None]] = set()

    def has_pending(self) -> bool:
        """Return whether datagrams wait for a lookup."""
        return bool(self._waiting)

    def add(self, data: bytes, address: tuple[Any, ...]) -> None:
        """Send ``data`` to the host of ``address``, once its name is resolved."""
        if isinstance(address[0], bytearray):
            address = (bytes(address[0]), *address[1:])
        waiting = self._waiting.get(address)
        if waiting is not None:
            waiting.append(data)
            return
        self._waiting[address] = [data]
        context = None if self._context is None else self._context.copy()
        lookup = self._loop.create_task(
            self._look_up(address), name=f"lookup of {address[0]!r}", context=context
        )
        self._lookups.add(lookup)
        lookup.add_done_callback(self._lookups.discard)

    def drop(self) -> None:
        """Cancel all lookups and drop their datagrams, without a report: the endpoint has ended."""
        self._waiting.clear()
        for lookup in list(self._lookups):
            lookup.cancel()

    async def _look_up(self, address: tuple[Any, ...]) -> None:
        sock = self._sock
        try:
            found = await resolve(
                self._loop,
                address[0],
                address[1],
                family=sock.family,
                kind=sock.type,
                proto=sock.proto,
            )
        except CancelledError:
            self._fail(
                address,
                ConnectionAbortedError(
                    f"datagrams to {address!r} were not sent: the lookup of the name was cancelled"
                ),
            )
            raise
        except Exception as error:
            self._fail(address, error.with_traceback(None))
            return
        waiting = self._waiting.pop(address, None)
        if waiting is not None:
            self._endpoint.send_resolved(waiting, with_flow_and_scope(found[0][4], address[2:]))

    def _fail(self, address: tuple[Any, ...], error: Exception) -> None:
        waiting = self._waiting.pop(address, None)
        if waiting is not None:
            self._endpoint.drop_unresolved(waiting, error)

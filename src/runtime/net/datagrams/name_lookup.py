"""Datagrams to host names: they wait here until their name was looked up, outside the loop.

One look-up goes on for a destination at a time. What is sent there meanwhile joins those that wait
for it, so that datagrams to one name leave in the order in which they were sent.
"""

from __future__ import annotations

import socket
from contextvars import Context
from typing import Any, Protocol

from runtime.kernel.core import LoopCore
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Task
from runtime.net.resolver import resolve, with_given


class _Endpoint(Protocol):
    """The endpoint that the datagrams are sent through, in the layer above."""

    def send_resolved(self, datagrams: list[bytes], address: Any) -> None:
        """Send datagrams whose name was looked up, in order."""

    def drop_unresolved(self, datagrams: list[bytes], error: Exception) -> None:
        """Note that datagrams cannot be sent, because of ``error``, and tell the protocol."""


class NameLookups:
    """The datagrams of one endpoint that wait for look-ups. ``context`` is the protocol's."""

    def __init__(
        self, loop: LoopCore, sock: socket.socket, endpoint: _Endpoint, context: Context | None
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._endpoint = endpoint
        self._context = context
        self._waiting: dict[tuple[Any, ...], list[bytes]] = {}
        self._lookups: set[Task[None]] = set()

    def any_waits(self) -> bool:
        """Return whether a look-up is going on."""
        return bool(self._waiting)

    def add(self, data: bytes, address: tuple[Any, ...]) -> None:
        """Send ``data`` to the host that ``address`` names, once that was looked up."""
        if isinstance(address[0], bytearray):
            address = (bytes(address[0]), *address[1:])
        waiting = self._waiting.get(address)
        if waiting is not None:
            waiting.append(data)
            return
        self._waiting[address] = [data]
        context = None if self._context is None else self._context.copy()
        lookup = self._loop.create_task(
            self._look_up(address), name=f"look-up of {address[0]!r}", context=context
        )
        self._lookups.add(lookup)
        lookup.add_done_callback(self._lookups.discard)

    def drop(self) -> None:
        """Give everything up, without a word to anybody: the endpoint has ended."""
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
                    f"Datagrams to {address!r} were not sent: the look-up of the name was cancelled"
                ),
            )
            raise
        except Exception as error:
            self._fail(address, error.with_traceback(None))
            return
        waiting = self._waiting.pop(address, None)
        if waiting is not None:
            self._endpoint.send_resolved(waiting, with_given(found[0][4], address[2:]))

    def _fail(self, address: tuple[Any, ...], error: Exception) -> None:
        waiting = self._waiting.pop(address, None)
        if waiting is not None:
            self._endpoint.drop_unresolved(waiting, error)

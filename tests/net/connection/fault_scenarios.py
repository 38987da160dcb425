"""Talks through a proxy that injects faults, between streams, or streams and a blocking peer.

A ``Talk`` is one combination of faults, script and ends; ``hold`` executes it and returns the
reports of both ends and of the proxy. The same talks are executed on plain TCP and, with a pair of
contexts, on TLS. They are executed with asyncio's streams as well, to know that the scenarios
themselves are right.

Both ends follow the script until it is finished, or the stream ends, or an error occurs. Then, on
plain TCP, each sends its end of the stream and reads the other's; on TLS, which has no half-close,
the client closes and the server reads the end.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

from tests.net.connection.apis import Api, Reader, Writer
from tests.support import blocking_peer
from tests.support.blocking_peer import Report, Script
from tests.support.certificates import NAME
from tests.support.faults import (
    Delay,
    Fault,
    Flip,
    Insert,
    Merge,
    Plan,
    SlowReader,
    Split,
    Stall,
)
from tests.support.proxy import PATIENCE, FaultProxy, Proxied

Address = tuple[str, int]


@dataclass(frozen=True)
class Contexts:
    """The contexts of both ends of a TLS connection to ``localhost``."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def _text(size: int, seed: int) -> bytes:
    """Return ASCII text without line ends, which no flipped or inserted bytes turn into one."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


_LINES = tuple((_text(1022, n) + b"!\n", _text(1022, -n) + b"!\n") for n in range(1, 33))
SCRIPTS = {
    "one byte": Script(((b"?", b"!"),)),
    "lines of 1 KiB": Script(_LINES, lines=True),
    "1 MiB": Script(((_text(1 << 20, 1), _text(1 << 20, 2)),)),
    "1 MiB both ways": Script(((_text(1 << 20, 3), _text(1 << 20, 4)),), at_once=True),
}
ENDS = {
    "streams to blocking": ("streams", "blocking"),
    "blocking to streams": ("blocking", "streams"),
    "streams to streams": ("streams", "streams"),
}
"""The kinds of client and server: streams, or a blocking peer."""

LOSSLESS: dict[str, tuple[Fault, ...]] = {
    "nothing": (),
    "delayed": (Delay(0.0005, jitter=0.0005),),
    "every byte alone": (Split(until=3000),),
    "split by chance": (Split(range(1, 8000), by_chance=True),),
    "split by a list": (Split((1, 5, 16384, 21, 16385, 333)),),
    # The timeout lets answers pass that are shorter than this.
    "merged": (Merge(50_000, flush_after=0.001),),
    "slow reader": (SlowReader(32768, 0.0005, kernel_buffer=16384),),
    "everything": (
        Delay(0.0002),
        Merge(3000, flush_after=0.001),
        Split(range(1, 3000), by_chance=True),
    ),
}
"""Faults that lose no bytes, for both directions."""

INSERTED = b"garbage that was not sent"


def flipped(after: int) -> Flip:
    """Return a fault that changes bytes, neither from nor to a line end."""
    return Flip(after, size=3, mask=0x80)


def inserted(after: int) -> Insert:
    """Return a fault that inserts bytes."""
    return Insert(after, INSERTED)


def middle(message: bytes) -> int:
    """Return the position of a fault: in the middle of the message and of a line."""
    return len(message) // 2 + 100 if len(message) > 1 else 0


def plan_for(direction: str, fault: Fault) -> Plan:
    """Return a plan with one fault, in the direction ``to server`` or ``to client``."""
    return Plan(to_server=(fault,)) if direction == "to server" else Plan(to_client=(fault,))


@dataclass
class Result:
    """The outcome of a talk."""

    client: Report
    server: Report
    connection: Proxied

    def ends(self, direction: str) -> tuple[Report, Report]:
        """Return the reports of the sender and the receiver of a direction."""
        both = (self.client, self.server)
        return both if direction == "to server" else both[::-1]


@dataclass(frozen=True)
class Talk:
    """One combination of faults, script and ends."""

    api: Api
    script: Script
    ends: tuple[str, str]
    plan: Plan
    contexts: Contexts | None = None

    def reads_lines(self, direction: str) -> bool:
        """Return whether the receiver of a direction reads line by line."""
        client, server = self.ends
        return self.script.lines and (server if direction == "to server" else client) == "streams"

    def hold(self) -> Result:
        """Execute the talk in a loop of its own."""
        results: list[Result] = []

        async def main() -> None:
            async with self.api.timeout(2 * PATIENCE):
                results.append(await self._hold())

        self.api.run(main())
        return results[0]

    async def _hold(self) -> Result:
        client, server = self.ends
        async with contextlib.AsyncExitStack() as stack:
            serving: Awaitable[Report]
            if server == "streams":
                serving = self.api.new_future()
                address = await stack.enter_async_context(self._listening(serving))
            else:
                listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                address = listener.getsockname()
                context = self.contexts.server if self.contexts else None
                serving = self.api.to_thread(blocking_peer.serve, listener, self.script, context)
            proxy = stack.enter_context(FaultProxy(address, self.plan))
            connecting = self._connect if client == "streams" else self._connect_blocking
            client_report, server_report, _ = await self.api.gather(
                connecting(proxy.address), serving, self.api.to_thread(self._watch, proxy)
            )
            return Result(client_report, server_report, proxy.connections[0])

    def _watch(self, proxy: FaultProxy) -> None:
        """Let a stalled connection continue, and wait for its end."""
        if any(isinstance(each, Stall) for each in (*self.plan.to_server, *self.plan.to_client)):
            proxy.wait_until(lambda: proxy.stalled)
            proxy.resume()
        proxy.wait_until(lambda: proxy.connections and not proxy.connections[0].lanes)

    # -- The ends ----------------------------------------------------------------------------------

    async def _connect_blocking(self, address: Address) -> Report:
        context = self.contexts.client if self.contexts else None
        report = await self.api.to_thread(
            blocking_peer.connect, address, self.script, context, NAME
        )
        assert isinstance(report, Report)
        return report

    async def _connect(self, address: Address) -> Report:
        options = {"ssl": self.contexts.client, "server_hostname": NAME} if self.contexts else {}
        try:
            reader, writer = await self.api.open_connection(*address, **options)
        except OSError as error:
            return Report(error=error)
        return await self._talk(reader, writer, is_client=True)

    @contextlib.asynccontextmanager
    async def _listening(self, serving: Any) -> AsyncIterator[Address]:
        async def handle(reader: Reader, writer: Writer) -> None:
            serving.set_result(await self._talk(reader, writer, is_client=False))

        options = {"ssl": self.contexts.server} if self.contexts else {}
        server = await self.api.start_server(handle, "127.0.0.1", 0, **options)
        try:
            yield server.sockets[0].getsockname()
        finally:
            server.close()
            await server.wait_closed()

    async def _talk(self, reader: Reader, writer: Writer, *, is_client: bool) -> Report:
        """Follow the script as one end, until the peer's end, and close the connection."""
        report = Report()
        try:
            await self._follow(reader, writer, is_client, report)
            if not self.contexts:
                self.api.end(writer)
            if not (self.contexts and is_client):
                report.received += await reader.read()
                report.eof = reader.at_eof()
        except OSError as error:
            report.fail(error)
        writer.close()
        try:
            await writer.wait_closed()
        except OSError as error:
            report.fail(error)
        return report

    async def _follow(
        self, reader: Reader, writer: Writer, is_client: bool, report: Report
    ) -> None:
        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        for request, answer in self.script.exchanges:
            outgoing, incoming = (request, answer) if is_client else (answer, request)
            if self.script.at_once:
                # Wait for both: after the peer's end, the rest is still sent.
                outcomes = await self.api.gather(
                    send(outgoing),
                    self._receive(reader, len(incoming), report),
                    return_exceptions=True,
                )
                for outcome in outcomes:
                    if isinstance(outcome, BaseException):
                        raise outcome
            elif is_client:
                await send(outgoing)
                await self._receive(reader, len(incoming), report)
            else:
                await self._receive(reader, len(incoming), report)
                if not report.eof:
                    await send(outgoing)
            if report.eof:
                return

    async def _receive(self, reader: Reader, size: int, report: Report) -> None:
        """Receive a line, or ``size`` bytes, or the rest at the end."""
        if self.script.lines:
            line = await reader.readline()
            report.received += line
            report.eof = not line.endswith(b"\n")
            return
        goal = len(report.received) + size
        while len(report.received) < goal and not report.eof:
            data = await reader.read(min(goal - len(report.received), 65536))
            report.received += data
            report.eof = not data

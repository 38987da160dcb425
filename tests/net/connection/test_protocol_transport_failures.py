"""Transports: the exceptions of protocols, and the contexts in which their methods run.

The tests run on asyncio's own loop and on ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import weakref
from typing import Any

import pytest

from tests.net.tools import receive_all
from tests.net.transport_tools import (
    BufferedRecorder,
    Recorder,
    Run,
    collect_reports,
    fill,
    kinds,
    on_asyncio,
    talking,
)
from tests.support.blocked import all_tasks_blocked


class Faulty:
    """Mixin that raises in one method."""

    method: str

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name != super().__getattribute__("method"):
            return found

        def call(*args: Any) -> Any:
            found(*args)
            raise ZeroDivisionError(name)

        return call


class FaultyRecorder(Faulty, Recorder):
    """Protocol that receives bytes, and raises in one method."""


class FaultyBufferedRecorder(Faulty, BufferedRecorder):
    """Protocol that receives into a buffer, and raises in one method."""


@pytest.mark.parametrize(
    ("method", "base"),
    [
        ("data_received", FaultyRecorder),
        ("eof_received", FaultyRecorder),
        ("get_buffer", FaultyBufferedRecorder),
        ("buffer_updated", FaultyBufferedRecorder),
    ],
)
def test_an_exception_of_an_event_ends_the_connection(run: Run, method: str, base: Any) -> None:
    made = type("Made", (base,), {"method": method})

    async def main() -> None:
        reports = collect_reports()
        async with talking(made) as (transport, protocol, peer):
            peer.sendall(b"x")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            await all_tasks_blocked()
            [report] = reports
            assert str(report["exception"]) == method
            assert method in report["message"]
            assert protocol.lost == [report["exception"]]
            assert report["transport"] is transport
            assert report["protocol"] is protocol

    run(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_exception_of_flow_control_is_reported(run: Run, method: str) -> None:
    made = type("Made", (FaultyRecorder,), {"method": method})

    async def main() -> None:
        reports = collect_reports()
        async with talking(made) as (transport, protocol, peer):
            transport.write(b"x" * 5_000_000)
            transport.close()
            assert len(await asyncio.to_thread(receive_all, peer)) == 5_000_000
            await protocol.until_lost()
            [report] = reports
            assert str(report["exception"]) == method
            assert report["protocol"] is protocol
            assert protocol.calls == [
                "connection_made",
                "pause_writing",
                "resume_writing",
                "connection_lost",
            ]

    run(main())


def test_an_exception_of_connection_lost_is_reported(run: Run) -> None:
    made = type("Made", (FaultyRecorder,), {"method": "connection_lost"})

    async def main() -> None:
        reports = collect_reports()
        async with talking(made, "server") as (transport, protocol, peer):
            transport.abort()
            await protocol.until_lost()
            await all_tasks_blocked()
            assert [str(report["exception"]) for report in reports] == ["connection_lost"]
            assert transport.get_protocol() is None
            assert peer.recv(1) == b""

    run(main())


@kinds
def test_an_exception_of_connection_made_ends_the_connection(
    run: Run, kind: str, request: pytest.FixtureRequest
) -> None:
    if on_asyncio(request):
        pytest.skip("asyncio lets the connection go on")
    made = type("Made", (FaultyRecorder,), {"method": "connection_made"})

    async def main() -> None:
        reports = collect_reports()
        async with talking(made, kind) as (_, protocol, peer):
            await protocol.until_lost()
            await all_tasks_blocked()
            [report] = reports
            assert protocol.lost == [report["exception"]]
            assert protocol.calls == ["connection_made", "connection_lost"]
            assert peer.recv(1) == b""

    run(main())


# -- Contexts and classes --------------------------------------------------------------------------


def test_events_run_in_the_context_of_the_connecting_task(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: dict[str, str] = {}

    class Curious(Recorder):
        def note(self, call: str) -> None:
            seen[call] = variable.get()
            super().note(call)

    async def main() -> None:
        variable.set("connecting")
        async with talking(Curious) as (transport, protocol, peer):
            variable.set("elsewhere")
            fill(transport, 100_000)
            peer.setblocking(False)
            while transport.get_write_buffer_size():
                with contextlib.suppress(BlockingIOError):
                    assert peer.recv(1 << 20)
                await asyncio.sleep(0)
            peer.sendall(b"x")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_lost()

    run(main())
    for event in ("connection_made", "data_received", "eof_received", "connection_lost"):
        assert seen[event] == "connecting", event


def test_accepted_connections_run_in_the_context_of_the_server(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, str]] = []

    class Curious(Recorder):
        def note(self, call: str) -> None:
            seen.append((call, variable.get()))
            variable.set("changed by " + call)
            super().note(call)

    async def main() -> None:
        variable.set("serving")
        for _ in range(2):
            async with talking(Curious, "server") as (_transport, _protocol, _peer):
                await all_tasks_blocked()

    run(main())
    assert [value for call, value in seen if call == "connection_made"] == ["serving"] * 2


def test_transports_are_asyncios_and_can_be_weakly_referenced(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, _protocol, _peer):
            assert isinstance(transport, asyncio.Transport)
            assert weakref.ref(transport)() is transport
            assert transport in weakref.WeakSet([transport])
            assert repr(transport).startswith("<")
            transport.abort()
            assert "clos" in repr(transport)

    run(main())

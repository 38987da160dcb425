"""``Server.shutdown`` and the tasks of the handlers: waited for, then cancelled."""

from __future__ import annotations

from typing import Any

import pytest

import runtime
from runtime.net.setup.server import Server
from tests.net.tools import Handler, connected, until
from tests.net.transport_tools import LOCAL, collect_reports
from tests.support.blocked import all_tasks_blocked

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the last timeouts of ``shutdown``."""
    monkeypatch.setattr("runtime.net.setup.server._LAST_GRACE", 0.01)


class Log:
    """Handler that continues after its connection has ended, and record of its own end."""

    def __init__(self) -> None:
        self.go_on = runtime.Event()
        self.begun = False
        self.seen: list[str] = []

    async def handle(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        self.begun = True
        try:
            assert await reader.read() == b""
            self.seen.append("end of input")
            writer.close()
            await self.go_on.wait()
            self.seen.append("done")
        except runtime.CancelledError:
            self.seen.append("cancelled")
            await runtime.sleep(0)
            self.seen.append("cleaned up")
            raise


async def serve(handler: Handler) -> tuple[Server, tuple[str, int]]:
    server = await runtime.start_server(handler, *LOCAL)
    return server, server.sockets[0].getsockname()


@pytest.mark.parametrize("timeout", [None, PATIENCE])
async def test_a_handler_is_waited_for_when_its_connection_has_ended(timeout: float | None) -> None:
    log = Log()
    server, address = await serve(log.handle)
    with connected(address):
        await until(lambda: log.begun)
    await until(lambda: not server._clients)
    ending = runtime.create_task(server.shutdown(timeout))
    await all_tasks_blocked()
    assert not ending.done()
    await server.wait_closed()  # It waits for connections only.
    log.go_on.set()
    await runtime.wait_for(ending, PATIENCE)
    assert log.seen == ["end of input", "done"]


async def test_a_remaining_handler_is_cancelled_and_may_clean_up() -> None:
    log = Log()
    server, address = await serve(log.handle)
    with connected(address):
        await until(lambda: log.begun)
        await runtime.wait_for(server.shutdown(0), PATIENCE)
    assert log.seen == ["end of input", "cancelled", "cleaned up"]


async def test_a_handler_that_ends_with_its_connection_is_not_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._LAST_GRACE", PATIENCE)

    log = Log()
    log.go_on.set()
    server, address = await serve(log.handle)
    with connected(address):
        await until(lambda: log.begun)
        await runtime.wait_for(server.shutdown(0), PATIENCE)
    assert log.seen == ["end of input", "done"]


async def test_a_handler_that_cannot_be_cancelled_is_reported() -> None:
    go_on: list[runtime.Event] = []

    async def stubborn(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        event = runtime.Event()
        go_on.append(event)
        while not event.is_set():
            try:
                await event.wait()
            except runtime.CancelledError:
                pass
        writer.close()

    reports = collect_reports()
    server, address = await serve(stubborn)
    with connected(address):
        await until(lambda: go_on)
        await runtime.wait_for(server.shutdown(0), PATIENCE)
        assert not server._clients
        [report] = reports
        assert "continues after its cancellation" in report["message"]
        assert "stubborn" in repr(report["task"])
        go_on[0].set()
        await runtime.wait_for(server.shutdown(), PATIENCE)


async def test_handlers_that_shut_the_server_down_do_not_wait_for_one_another() -> None:
    ended: list[int] = []

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await reader.readline()
        writer.close()
        await server.shutdown()
        ended.append(len(ended))

    server, address = await serve(handler)
    with connected(address) as one, connected(address) as other:
        await until(lambda: len(server._clients) == 2)
        one.sendall(b"\n")
        other.sendall(b"\n")
        await runtime.wait_for(server.shutdown(), PATIENCE)
        await until(lambda: len(ended) == 2)


async def test_a_shutdown_that_is_cancelled_leaves_the_handlers_alone() -> None:
    log = Log()
    server, address = await serve(log.handle)
    with connected(address):
        await until(lambda: log.begun)
    await until(lambda: log.seen)
    ending = runtime.create_task(server.shutdown(PATIENCE))
    await all_tasks_blocked()
    ending.cancel()
    with pytest.raises(runtime.CancelledError):
        await ending
    assert (server._shutdown_waiters, server._shutting_down) == ({}, set())
    log.go_on.set()
    await runtime.wait_for(server.shutdown(), PATIENCE)
    assert log.seen == ["end of input", "done"]


@pytest.mark.parametrize("failure", [None, ValueError("of the handler")])
async def test_handlers_that_have_ended_are_forgotten(failure: Exception | None) -> None:
    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.close()
        if failure is not None:
            raise failure

    reports: list[Any] = collect_reports()
    server, address = await serve(handler)
    with connected(address) as sock:
        assert await runtime.to_thread(sock.recv, 1) == b""
    await until(lambda: not server._handlers)
    assert len(reports) == (failure is not None)
    await runtime.wait_for(server.shutdown(), PATIENCE)

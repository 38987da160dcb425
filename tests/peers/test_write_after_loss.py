"""Writing to a peer that has vanished, which must not end in an internal error.

See https://github.com/python/cpython/issues/136234.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

import runtime
from tests.net.tools import reset, stream_pair, until
from tests.net.transport_tools import Recorder, collect_reports, kinds, talking


def test_writes_after_the_loss_only_cause_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        errors: list[object] = []
        loop = runtime.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        async with stream_pair() as (reader, writer, peer):
            peer.close()
            for _ in range(20):
                writer.write(b"into the void")
                writer.writelines([b"a", b"b"])
                await runtime.sleep(0)
            await until(lambda: reader.at_eof())
            with pytest.raises(ConnectionError):
                await writer.drain()
            with pytest.raises(ConnectionError):
                await writer.wait_closed()
        assert errors == []

    with caplog.at_level(logging.WARNING, "asyncio"):
        runtime.run(main())
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings
    assert all("write() to a connection that is closed" in text for text in warnings)


def test_the_first_few_writes_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with stream_pair() as (_, writer, peer):
            peer.close()
            for _ in range(3):
                writer.write(b"into the void")

    runtime.run(main())
    assert caplog.records == []


@kinds
def test_a_transport_with_a_protocol_only_warns(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        errors = collect_reports()
        async with talking(kind=kind) as (transport, protocol, peer):
            transport.write(b"x" * 5_000_000)
            reset(peer)
            for _ in range(20):
                transport.write(b"into the void")
                transport.writelines([b"a", b"b"])
                await runtime.sleep(0)
            await protocol.until_lost()
            for _ in range(10):
                transport.write(b"into the void")
                transport.writelines([b"x" * 50_000, b"y" * 50_000])
                transport.write_eof()
            [error] = protocol.lost
            assert isinstance(error, ConnectionError)
        assert errors == []

    with caplog.at_level(logging.WARNING, "asyncio"):
        runtime.run(main())
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings
    assert all("write() to a connection that is closed" in text for text in warnings)


async def test_the_peer_vanishes_between_the_events_of_one_turn() -> None:
    """Each protocol writes to the other one in ``connection_lost`` and in ``data_received``."""

    class Crossed(Recorder):
        other: Any = None

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.other.transport.abort()
            self.other.transport.write(b"x" * 1_000_000)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.transport.write(b"to whom?")
            if self.other is not None:
                self.other.transport.write(b"x" * 1_000_000)

    errors = collect_reports()
    async with talking(Crossed) as (_, one, peer), talking(Crossed) as (_, two, far):
        one.other, two.other = two, one
        peer.sendall(b"x")
        far.sendall(b"x")
        peer.close()
        await two.until_lost()
        await one.until_lost()
    assert errors == []

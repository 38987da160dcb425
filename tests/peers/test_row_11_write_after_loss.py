"""Row 11: writing when the peer has vanished ends in an internal error."""

from __future__ import annotations

import logging

import pytest

import runtime
from tests.net.tools import stream_pair, until


def test_writes_after_the_loss_are_warned_about_and_nothing_else(
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


def test_the_first_few_are_not_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with stream_pair() as (_, writer, peer):
            peer.close()
            for _ in range(3):
                writer.write(b"into the void")

    runtime.run(main())
    assert caplog.records == []

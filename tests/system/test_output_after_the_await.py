"""Output of a pipe or a process, which arrives only after the creator has the transport.

The bytes, the end and the exit of the process are available while the transport is being created.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.support.leaks import open_descriptors
from tests.system.subprocess_tools import WAYS, ProcessRecorder
from tests.system.tools import Loop, Recorder, make_pipe, reading, run

if sys.platform == "win32":
    pytest.skip("POSIX only", allow_module_level=True)


def test_data_in_a_pipe_arrives_after_the_await(make_loop: Loop) -> None:
    async def main() -> None:
        read_end, write_end = make_pipe()
        with read_end:
            with write_end:
                write_end.write(b"early")
            _, protocol = await reading(read_end)
            assert protocol.calls == ["made"]
            await protocol.until_called("lost")
            assert protocol.calls == ["made", "data", "eof", "lost"]
            assert protocol.data == b"early"

    run(make_loop, main())


def test_a_pause_before_or_after_the_await_holds(make_loop: Loop) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main(pauses: bool) -> None:
        read_end, write_end = make_pipe()
        with read_end, write_end:
            write_end.write(b"early")
            transport, protocol = await reading(read_end, Pausing() if pauses else Recorder())
            if not pauses:
                transport.pause_reading()
            await all_tasks_blocked()
            assert not transport.is_reading()
            assert protocol.calls == ["made"]
            transport.resume_reading()
            await protocol.until_called("data")
            transport.close()
            await protocol.until_called("lost")

    run(make_loop, main(True))
    run(make_loop, main(False))


def test_both_ends_on_one_descriptor_begin_together() -> None:
    """One of the transports watches a duplicate of the descriptor, and closes it at its end."""

    async def main() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            peer.sendall(b"early")
            before = open_descriptors()
            loop = asyncio.get_running_loop()
            (reader, incoming), (writer, outgoing) = await asyncio.gather(
                loop.connect_read_pipe(Recorder, ours), loop.connect_write_pipe(Recorder, ours)
            )
            await incoming.until_called("data")
            assert len(open_descriptors() - before) == 1
            writer.close()
            reader.close()
            await incoming.until_called("lost")
            await outgoing.until_called("lost")
            assert not open_descriptors() - before

    run(runtime.new_event_loop, main())


@pytest.mark.parametrize("way", ["pidfd", "thread"])
def test_output_and_exit_of_a_process_come_after_the_await(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On runtime alone: asyncio begins to read before the creating call returns."""
    WAYS[way](monkeypatch)

    class Waiting(ProcessRecorder):
        """Gives the process the time to write its output, and to end."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            pid = transport.get_pid()
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(Waiting, "echo", "early", stdin=None)
        assert protocol.calls == ["made"]
        async with asyncio.timeout(30):
            while "lost" not in protocol.calls:
                await asyncio.sleep(0.001)
        assert protocol.data[1] == b"early\n"
        assert sorted(protocol.calls[1:-1]) == ["data 1", "exited", "lost 1", "lost 2"]
        transport.close()

    run(runtime.new_event_loop, main())

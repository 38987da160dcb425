"""``observe.connections`` and ``observe.timers``, and the commands that print them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.observe import command_line, connections, listen, timers


async def test_a_connection_is_shown_with_its_addresses_and_its_write_buffer() -> None:
    async def serve(reader: Any, writer: Any) -> None:
        writer.write(bytes(8 << 20))
        with pytest.raises(runtime.CancelledError):
            await writer.drain()
        writer.transport.abort()

    server = await runtime.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as peer:
        while not connections():
            await runtime.sleep(0.001)
        (info,) = connections()
        assert info.local == f"127.0.0.1:{port}"
        assert info.peer == f"127.0.0.1:{peer.getsockname()[1]}"
        assert info.state == "open"
        assert 0 < info.unsent < 8 << 20
        assert info.unsent == runtime.get_running_loop().metrics().bytes_unsent
    server.close()
    for task in runtime.all_tasks() - {runtime.current_task()}:
        task.cancel()
    await server.wait_closed()
    while connections():
        await runtime.sleep(0.001)


async def test_the_fullest_write_buffer_comes_first() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    writers = []
    for (mine, _), size in zip(pairs, (0, 4 << 20, 1 << 20), strict=True):
        _, writer = await runtime.open_connection(sock=mine)
        writer.write(bytes(size))
        writers.append(writer)
    found = connections()
    assert [info.fd for info in found] == [pairs[index][0].fileno() for index in (1, 2, 0)]
    assert {info.peer for info in found} == {"unnamed"}
    for writer, (_, other) in zip(writers, pairs, strict=True):
        writer.transport.abort()
        other.close()
    await runtime.sleep(0)


def ring() -> None:
    """Do nothing."""


async def test_timers_are_shown_with_their_callbacks_and_sleeping_tasks() -> None:
    async def doze() -> None:
        await runtime.sleep(50)

    task = runtime.create_task(doze(), name="dozing")
    later = runtime.get_running_loop().call_later(20, ring)
    cancelled = runtime.get_running_loop().call_later(10, print)
    cancelled.cancel()
    await runtime.sleep(0)
    first, second = [timer for timer in timers() if timer.due_in > 5 and timer.due_in < 55]
    assert 19 < first.due_in <= 20
    assert first.callback.startswith("ring at ")
    assert 49 < second.due_in <= 50
    assert second.callback == "wakes dozing"
    later.cancel()
    task.cancel()
    await runtime.wait([task])


def test_they_need_a_loop() -> None:
    for function in (connections, timers):
        with pytest.raises(RuntimeError, match="no running event loop"):
            function()


async def test_addresses_are_readable() -> None:
    async def serve(reader: Any, writer: Any) -> None:
        await reader.read()
        writer.close()

    server = await runtime.start_server(serve, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await runtime.open_connection("::1", port)
    assert {f"[::1]:{port}"} < {each for info in connections() for each in (info.peer, info.local)}
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")
async def test_the_commands_print_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    mine, other = socket.socketpair()
    _, writer = await runtime.open_connection(sock=mine)
    later = runtime.get_running_loop().call_later(1000, print)
    listener = listen()
    try:
        for command, heading, row in (
            ("connections", "FD STATE UNSENT PEER LOCAL PROTOCOL", f"{mine.fileno()} open 0 "),
            ("timers", "DUE IN CALLBACK", "print"),
        ):
            status = await runtime.to_thread(command_line.main, [command, str(os.getpid())])
            lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
            assert status == 0
            assert heading in lines
            assert any(row in line for line in lines)
    finally:
        later.cancel()
        listener.close()
        other.close()
        writer.close()
        await writer.wait_closed()


async def test_a_connection_with_streams_and_one_with_a_protocol_are_told_apart() -> None:
    loop = runtime.get_running_loop()
    ours, theirs = socket.socketpair()
    _, writer = await runtime.open_connection(sock=ours)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=theirs)
    await runtime.sleep(0)
    assert sorted(each.protocol for each in connections()) == ["Protocol", "streams"]
    transport.abort()
    writer.close()
    await runtime.sleep(0)

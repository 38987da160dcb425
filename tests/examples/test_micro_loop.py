"""Tests of the micro loop example: its demonstrations, and typical flaws of such loops."""

from __future__ import annotations

import errno
import socket
import threading

import pytest

import runtime
from docs.examples import micro_loop
from docs.examples.micro_loop import Cancel, Errored, Schedule, Timeout, run
from tests.support.programs import ROOT, run_program

PROGRAM = ROOT / "docs" / "examples" / "micro_loop.py"


def test_the_demonstrations() -> None:
    done = run_program(PROGRAM, "--unit", "0.25")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == ["short slept 0.25 s", "middling slept 0.5 s", "long slept 0.75 s"]
    echo = [line for line in lines if line.startswith(("server", "client"))]
    assert echo == [
        "server: a client has come",
        "client: message 1",
        "client: message 2",
        "client: message 3",
        "server: the client has gone",
    ]
    steps = [line for line in lines if line.startswith("worker: step")]
    assert lines[-2] == f"worker: cleaning up after {len(steps)} steps"
    assert lines[-1] == "cancelled: True"


def test_a_demonstration_that_there_is_not() -> None:
    done = run_program(PROGRAM, "walks")
    assert done.returncode == 2
    assert "walks" in done.stderr


def test_an_ended_task_does_not_delay_later_tasks_in_the_queue() -> None:
    turns: list[tuple[str, int]] = []
    turn = 0

    async def task(name: str) -> None:
        turns.append((name, turn))

    def count() -> None:
        nonlocal turn
        turn += 1

    async def main() -> None:
        for name in "abc":
            await Schedule(task(name))
        runtime.get_running_loop().call_soon(count)  # in the same turn, after the two callbacks

    run(main())
    assert turns == [("a", 0), ("b", 0), ("c", 0)]


def test_a_cancelled_task_takes_no_further_step() -> None:
    steps: list[str] = []

    async def task() -> None:
        while True:
            steps.append("step")
            await Timeout(0)

    async def main() -> None:
        started: runtime.Task[None] = await Schedule(task())
        await Timeout(0)
        before = len(steps)
        await Cancel(started)
        assert started.cancelled()
        assert len(steps) == before >= 1

    run(main())


def test_a_task_cancelled_before_its_first_step_takes_none() -> None:
    async def task() -> None:
        pytest.fail("it ran")

    async def main() -> None:
        await Cancel(await Schedule(task()))

    run(main())


def test_a_cancelled_sleeper_cleans_up() -> None:
    events: list[str] = []

    async def sleeper() -> None:
        try:
            await Timeout(3600)
        finally:
            events.append("cleaning up")
            await Timeout(0)
            events.append("cleaned up")

    async def main() -> None:
        task: runtime.Task[None] = await Schedule(sleeper())
        await Timeout(0)
        await Cancel(task)
        events.append("cancelled")

    run(main())
    assert events == ["cleaning up", "cleaned up", "cancelled"]


def test_listening_does_not_wait_for_a_client() -> None:
    async def main() -> None:
        with micro_loop.listen("127.0.0.1", 0) as listener:
            assert listener.getsockname()[1]
            accepting: runtime.Task[socket.socket] = await Schedule(micro_loop.accept(listener))
            await Timeout(0)
            assert not accepting.done()  # the loop is still running
            with (
                await micro_loop.connect(*listener.getsockname()) as client,
                await accepting as accepted,
            ):
                assert client.getsockname() == accepted.getpeername()

    run(main())


def test_many_timers_that_are_due_at_once_all_go_off_in_order() -> None:
    woken: list[int] = []

    async def main() -> None:
        loop = runtime.get_running_loop()
        handles: list[runtime.TimerHandle] = []

        def wake(number: int) -> None:
            woken.append(number)
            # Both remove timers, due and not due, while timers fire.
            if number % 10 == 0:
                handles[number + 1].cancel()
                handles[-1].cancel()

        now = loop.time()
        handles += [loop.call_at(now, wake, number) for number in range(100)]
        handles.append(loop.call_later(3600, pytest.fail, "it was cancelled"))

    run(main())
    assert woken == [number for number in range(100) if number % 10 != 1]


def test_a_message_sent_in_parts_arrives_complete() -> None:
    message = bytes(range(256)) * 8192
    received = bytearray()

    def read(sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(10_000):
                received.extend(data)

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with ours:
            sending: runtime.Task[None] = await Schedule(micro_loop.send(ours, message))
            await Timeout(0)
            assert not sending.done()  # the peer has not read yet
            reader = threading.Thread(target=read, args=[theirs])
            reader.start()
            await sending
        reader.join()

    run(main())
    assert received == message


def test_a_connection_that_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="cannot connect") as caught:
            run(micro_loop.connect(*unused.getsockname()))
    assert caught.value.errno == errno.ECONNREFUSED


def test_urgent_data() -> None:
    async def main() -> None:
        with (
            micro_loop.listen("127.0.0.1", 0) as listener,
            await micro_loop.connect(*listener.getsockname()) as ours,
            await micro_loop.accept(listener) as theirs,
        ):
            theirs.send(b"!", socket.MSG_OOB)
            await Errored(ours)
            assert ours.recv(1, socket.MSG_OOB) == b"!"

    run(main())


def test_it_ends_when_every_task_has() -> None:
    events: list[str] = []

    async def task() -> None:
        await Timeout(0.001)
        events.append("ended")

    async def main() -> None:
        await Schedule(task())
        events.append("main returned")

    run(main())
    assert events == ["main returned", "ended"]

"""Many tasks that wait for an endpoint or a server give up: no search among the others is made."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.support.comparisons import CountedFuture, CountingLoop

LOCAL = ("127.0.0.1", 0)
Wait = Callable[[], Coroutine[Any, Any, object]]


async def compared_when_they_give_up(wait: Wait) -> int:
    """Cancel the waits of 200 tasks in any order; return the number of compared futures."""
    tasks: list[runtime.Task[Any]] = [runtime.create_task(wait()) for _ in range(200)]
    await wait_all_tasks_blocked()
    CountedFuture.compared = 0
    for task in random.Random(7).sample(tasks, len(tasks)):
        task.cancel()
        await runtime.sleep(0)
    await runtime.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    return CountedFuture.compared


@pytest.mark.parametrize("name", ["receive", "drain", "wait_closed"])
def test_waits_for_a_datagram_endpoint(name: str) -> None:
    async def main() -> int:
        async with await runtime.open_datagram(LOCAL) as endpoint:
            queue = endpoint._queue
            queue.pause_writing()
            compared = await compared_when_they_give_up(getattr(endpoint, name))
            queue.resume_writing()
            left = [*queue._drainers, *queue._closed_waiters, *queue._receivers]
            assert len(left) <= 32
            return compared

    assert runtime.run(main(), loop_factory=CountingLoop) == 0


@pytest.mark.parametrize("name", ["wait_closed", "shutdown"])
def test_waits_for_the_end_of_a_server(name: str) -> None:
    async def serve(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await reader.read()

    async def main() -> int:
        server = await runtime.start_server(serve, *LOCAL)
        _, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        await runtime.sleep(0.01)
        wait = getattr(server, name)
        compared = await compared_when_they_give_up(wait)
        assert not server._closed_waiters
        assert not server._shutdown_waiters
        writer.close()
        server.close()
        await server.wait_closed()
        return compared

    assert runtime.run(main(), loop_factory=CountingLoop) == 0


async def test_receivers_that_give_up_leave_the_others_in_their_order() -> None:
    async with await runtime.open_datagram(LOCAL) as endpoint:
        got: list[tuple[int, bytes]] = []

        async def receive(number: int) -> None:
            data, _ = await endpoint.receive()
            got.append((number, data))

        tasks = [runtime.create_task(receive(number)) for number in range(200)]
        await wait_all_tasks_blocked()
        kept = [3, 50, 51, 199]
        for number in random.Random(5).sample(range(200), 200):
            if number not in kept:
                tasks[number].cancel()
        address = endpoint.get_extra_info("sockname")
        for number in range(len(kept)):
            endpoint.send(b"%d" % number, address)
        await runtime.wait(tasks)
        assert got == [(number, b"%d" % place) for place, number in enumerate(kept)]

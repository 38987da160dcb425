"""What ``bench.instructions`` counts: ``python -m bench.counted API``.

Each workload runs once to warm up, then so many times, then ``LONGER`` times as often: from the
difference falls out what a run costs besides. Marks stand around both runs, at which the counter
writes down what it has counted since the last one. The names of what was counted are printed, in
that order.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from bench import apis
from bench.apis import Api
from bench.cases.scheduler import SCHEDULER_CASES, Body

MARK = "getppid"
"""A function of the C library that nothing else here calls."""

LONGER = 3
SLOWDOWN = 16
"""How much slower a program runs at least while it is counted. What the clock wakes must be that
much slower too, or it would wake that much more often for each operation than it does outside."""

SIZE = 1024


async def echo(api: Api, count: int) -> None:
    """Echo messages through streams over a pair of sockets, both ends in this loop."""
    connect: Any = api.open_connection
    one, other = socket.socketpair()
    (reader, writer), (there, back) = await connect(sock=one), await connect(sock=other)

    async def serve() -> None:
        while data := await there.read(65536):
            back.write(data)
            await back.drain()
        back.close()

    serving = api.create_task(serve())
    message = bytes(SIZE)
    for _ in range(count):
        writer.write(message)
        await writer.drain()
        await reader.readexactly(SIZE)
    writer.close()
    await serving


async def echo_watched(api: Api, count: int) -> None:
    """Echo while slow callbacks are watched for, where the loop can do that."""
    loop: Any = api.get_running_loop()
    loop.watch_slow_callbacks(0.1 * SLOWDOWN)
    await echo(api, count)
    loop.watch_slow_callbacks(None)


WORKLOADS: dict[str, tuple[Body, int]] = {
    **{
        name: (SCHEDULER_CASES[name].body, 10_000)
        for name in ("switch", "call_soon", "spawn", "queue", "timers_1k")
    },
    "echo": (echo, 2000),
    "echo_watched": (echo_watched, 2000),
}
"""What is counted, and how many operations of it."""


def main() -> None:
    """Run the workloads."""
    name = sys.argv[1]
    api, run = apis.load(name)
    there = [one for one in WORKLOADS if one != "echo_watched" or name == "runtime"]
    for workload in there:
        body, count = WORKLOADS[workload]
        run(body(api, 1000))
        for times in (count, LONGER * count):
            os.getppid()
            run(body(api, times))
            os.getppid()
    print(*there)


if __name__ == "__main__":
    main()

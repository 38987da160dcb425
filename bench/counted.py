"""Workloads that ``bench.instructions`` counts: ``python -m bench.counted API``.

Each workload runs once to warm up, then a number of times, then ``LONGER`` times as often. The
difference between the two counts contains the operations only: the fixed cost of a run cancels out.
Marks surround both runs; at each mark, the counter writes the number of instructions since the last
mark. The names of the workloads are printed in the same order.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from bench import apis
from bench.apis import Api
from bench.cases.scheduler import SCHEDULER_CASES, Body

MARK = "getppid"
"""Function of the C library that no other code here calls."""

LONGER = 3
SLOWDOWN = 16
"""Least factor by which a program runs slower while it is counted.

Periodic wake-ups are made rarer by the same factor. Otherwise there would be more of them per
operation than in a program that is not counted.
"""

SIZE = 1024


Observe = Callable[[Any], Callable[[], object]]
"""Begins to observe a loop; returns the function that ends it."""


async def echo(api: Api, count: int, observe: Observe | None = None) -> None:
    """Echo messages through streams over a socket pair, with both ends in this loop."""
    end = None if observe is None else observe(api.get_running_loop())
    await api.sleep(0)
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
    if end is not None:
        end()


def watch(loop: Any) -> Callable[[], object]:
    """Let the loop watch for slow callbacks."""
    loop.watch_slow_callbacks(0.1 * SLOWDOWN)
    return functools.partial(loop.watch_slow_callbacks, None)


def record(loop: Any) -> Callable[[], object]:
    """Turn the flight recorder on."""
    stop: Callable[[], object] = loop.record().stop
    return stop


WORKLOADS: dict[str, tuple[Body, int]] = {
    **{
        name: (SCHEDULER_CASES[name].body, 10_000)
        for name in (
            "switch",
            "call_soon",
            "spawn",
            "queue",
            "timers_1",
            "timers_1k",
            "timer_cancel",
        )
    },
    "echo": (echo, 2000),
    "echo_watched": (functools.partial(echo, observe=watch), 2000),
    "echo_recorded": (functools.partial(echo, observe=record), 2000),
}
"""The workloads, and the number of operations in a run of each."""

OURS = frozenset({"echo_watched", "echo_recorded"})
"""The workloads that only the loop of ``runtime`` can run."""


def main() -> None:
    """Run the workloads."""
    name = sys.argv[1]
    api, run = apis.load(name)
    there = [one for one in WORKLOADS if one not in OURS or name == "runtime"]
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

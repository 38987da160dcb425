"""What runs in a contender's process: ``python -m bench.child CONTENDER KIND NAME``.

It speaks JSON, a line at a time. First it says which build it is. A ``case`` then runs for each
count that it reads; a ``server`` says its port and serves until its input ends; ``memory`` says
what one of its objects costs.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from bench.apis import Api, build_of, load
from bench.cases import CASES


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def run_case(contender: str, name: str) -> None:
    api, run = load(contender)
    body = CASES[name].body
    for line in sys.stdin:
        count = int(line)

        async def main(count: int = count) -> None:
            before = resource.getrusage(resource.RUSAGE_SELF)
            started = time.perf_counter()
            await body(api, count)
            seconds = time.perf_counter() - started
            after = resource.getrusage(resource.RUSAGE_SELF)
            say(
                {
                    "seconds": seconds / count,
                    "user": (after.ru_utime - before.ru_utime) / count,
                    "kernel": (after.ru_stime - before.ru_stime) / count,
                }
            )

        run(main())


def serve(contender: str, name: str) -> None:
    api, run = load(contender)
    size = int(name)

    async def echo_chunks(reader: Any, writer: Any) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def echo_messages(reader: Any, writer: Any) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except (EOFError, ConnectionError):
            writer.close()

    async def main() -> None:
        handler = echo_chunks if size <= 65536 else echo_messages
        server = await api.start_server(handler, "127.0.0.1", 0, limit=max(size, 65536))
        say({"port": server.sockets[0].getsockname()[1]})
        loop = api.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(0, ended.set_result, None)
        await ended
        loop.remove_reader(0)

    run(main())


def resident() -> int:
    """Return the bytes of memory that the process has in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def pending_tasks(api: Api, count: int) -> float:
    async def sleeper() -> None:
        await api.sleep(3600)

    before = resident()
    tasks = [api.create_task(sleeper()) for _ in range(count)]
    await api.sleep(0)
    await api.sleep(0)
    cost = (resident() - before) / count
    for task in tasks:
        task.cancel()
    await api.gather(*tasks, return_exceptions=True)
    return cost


async def idle_streams(api: Api, count: int) -> None:
    connected = 0

    async def handler(reader: Any, writer: Any) -> None:
        nonlocal connected
        connected += 1
        await reader.read(1)
        writer.close()

    server = await api.start_server(handler, "127.0.0.1", 0, backlog=1000)
    loop = api.get_running_loop()
    commands = await loop.run_in_executor(None, sys.stdin.readline)
    assert commands == "connect\n"
    say({"port": server.sockets[0].getsockname()[1]})
    while connected < 10:
        await api.sleep(0.01)
    before = resident()
    say({"ready": True})
    while connected < count + 10:
        await api.sleep(0.01)
    await api.sleep(0.05)
    say({"bytes": (resident() - before) / count})
    # A thousand handlers would be cancelled one by one, and report it.
    os._exit(0)


def measure_memory(contender: str, name: str) -> None:
    api, run = load(contender)
    if name == "task":
        say({"bytes": run(pending_tasks(api, 20_000))})
    else:
        run(idle_streams(api, 1000))


def main() -> None:
    """Do what the command line says."""
    contender, kind, name = sys.argv[1:]
    say({"build": build_of(contender), "python": sys.version.split()[0]})
    {"case": run_case, "server": serve, "memory": measure_memory}[kind](contender, name)


if __name__ == "__main__":
    main()

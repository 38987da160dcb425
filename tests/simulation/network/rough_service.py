"""A service in a network with every fault, whose host crashes; prints a digest of each run."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from runtime import simulation
from runtime.simulation import Conditions, Latency

ROUGH = Conditions(
    latency=Latency(0.001, 0.02, tail=0.05, longest=1.0),
    bandwidth=100_000,
    loss=0.1,
    duplication=0.1,
    reordering=0.2,
    splitting=0.2,
    merging=0.1,
    short_writes=0.2,
    full_buffers=0.05,
    resets=0.02,
    refusals=0.05,
)


async def serve() -> None:
    """Answer lines, and append them to a file that is synced now and then."""
    disk = simulation.current_world().disk

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                with disk.open("log", "ab") as file:
                    file.write(line)
                    if len(line) % 2:
                        disk.fsync(file)
                writer.write(line.upper())
                await writer.drain()
        except OSError:
            pass  # The client has gone, or the network has reset the connection.
        finally:
            writer.close()

    server = await asyncio.start_server(answer, port=7)
    await server.serve_forever()


async def client(number: int, log: list[Any]) -> None:
    """Ask the server, again and again, whatever goes wrong."""
    loop = asyncio.get_running_loop()
    for attempt in range(6):
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("server", 7)
                try:
                    for _ in range(3):
                        writer.write(b"x" * (number * attempt + 1) + b"\n")
                        log.append((number, attempt, loop.time(), await reader.readline()))
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            log.append((number, attempt, loop.time(), type(error).__name__))
        await asyncio.sleep(0.5)


def program(log: list[Any]) -> Callable[[], Awaitable[None]]:
    """Return the main function of a run, which notes in ``log`` what happens."""

    async def main() -> None:
        world = simulation.current_world()
        world.network.set(ROUGH)
        world.names.delay = (0.0, 0.1)
        world.names.failures = 0.05
        host = world.host("server")
        host.start(serve)
        world.after(3, host.crash)
        world.after(5, host.restart)
        world.after(6, world.network.partition, "main", "server")
        world.after(8, world.network.heal)
        await asyncio.gather(*(client(number, log) for number in range(4)))
        log.append(host.disk.read("log") if host.disk.exists("log") else None)

    return main


if __name__ == "__main__":
    for seed in range(int(sys.argv[1])):
        log: list[Any] = []
        simulation.run(program(log), seed=seed)
        print(len(log), hashlib.sha256(repr(log).encode()).hexdigest())

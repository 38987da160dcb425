"""Many concurrent TCP requests to a slow server.

The server answers after a random time. One after another, the requests take the sum of these times;
concurrently, they take the longest of them. The server, and a task that prints "tick", are daemon
tasks: the program ends when the requests have ended::

    python docs/examples/many_requests.py --requests 10 --quickest 0.5 --slowest 2

A request that fails does not affect the others. To try it, ``--hang-up 3`` makes the server close
every third connection without an answer, ``--patience`` limits the seconds of a request, and
``--port`` sends the requests to another port, where no server may be listening.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import runtime


class SlowServer:
    """Answers each line after a random time, or disconnects every ``hang_up``-th client."""

    def __init__(self, quickest: float, slowest: float, hang_up: int) -> None:
        self._quickest = quickest
        self._slowest = slowest
        self._hang_up = hang_up
        self._clients = 0
        self.at_once = 0
        self.most_at_once = 0
        self.port: runtime.Future[int] = runtime.Future()

    async def serve(self) -> None:
        """Serve until cancelled, on the port that the future ``port`` gets."""
        server = await runtime.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            self.port.set_result(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    async def _answer(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        self._clients += 1
        hangs_up = self._hang_up > 0 and self._clients % self._hang_up == 0
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            question = await reader.readline()
            await runtime.sleep(random.uniform(self._quickest, self._slowest))
            if not hangs_up:
                writer.write(b"answer to " + question)
                await writer.drain()
        except ConnectionError:
            pass  # the client has disconnected: no answer is possible
        finally:
            self.at_once -= 1
            writer.close()


@dataclass(frozen=True)
class Outcome:
    """The result of a request."""

    number: int
    seconds: float
    answer: str = ""
    error: str = ""


async def request(number: int, port: int, patience: float) -> Outcome:
    """Send one request to the server. A failure is part of the outcome."""
    started = time.monotonic()
    answer, error = "", ""
    try:
        async with runtime.timeout(patience), connection(port) as (reader, writer):
            writer.write(f"question {number}\n".encode())
            line = await reader.readline()
            if line.endswith(b"\n"):
                answer = line.decode().strip()
            else:
                error = "the server hung up without an answer"
    except TimeoutError:
        error = f"no answer within {patience:g} s"
    except OSError as failure:
        error = f"no connection: {failure.strerror or failure}"
    return Outcome(number, time.monotonic() - started, answer, error)


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[runtime.StreamReader, runtime.StreamWriter]]:
    """Open a connection, and close it at the end of the block."""
    reader, writer = await runtime.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def tick(seconds: float) -> None:
    """Print a line at regular intervals."""
    while True:
        await runtime.sleep(seconds)
        print("tick", flush=True)


async def ask(arguments: argparse.Namespace) -> int:
    """Send the requests; return the number of those that failed."""
    server = SlowServer(arguments.quickest, arguments.slowest, arguments.hang_up)
    runtime.create_task(server.serve(), daemon=True)
    runtime.create_task(tick(arguments.tick), daemon=True)
    port = arguments.port or await server.port
    started = time.monotonic()
    numbers = range(1, arguments.requests + 1)
    if arguments.one_by_one:
        outcomes = [await request(number, port, arguments.patience) for number in numbers]
    else:
        async with runtime.TaskGroup() as group:
            tasks = [group.create_task(request(n, port, arguments.patience)) for n in numbers]
        outcomes = [task.result() for task in tasks]
    elapsed = time.monotonic() - started
    for outcome in outcomes:
        print(f"{outcome.number}: {outcome.answer or outcome.error} ({outcome.seconds:.1f} s)")
    times = [outcome.seconds for outcome in outcomes]
    print(f"at most {server.most_at_once} at once")
    print(f"took {elapsed:.1f} s; the slowest {max(times):.1f} s, the sum {sum(times):.1f} s")
    return sum(1 for outcome in outcomes if outcome.error)


def main() -> int:
    """Parse the command line, and send the requests."""
    parser = argparse.ArgumentParser(description="Many requests at once.")
    parser.add_argument("--requests", type=int, default=10, help="how many, 10 by default")
    parser.add_argument(
        "--quickest", type=float, default=0.5, help="seconds of an answer, at least"
    )
    parser.add_argument("--slowest", type=float, default=2.0, help="seconds of an answer, at most")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for a request")
    parser.add_argument("--hang-up", type=int, default=0, help="disconnect every N-th client")
    parser.add_argument("--tick", type=float, default=0.5, help="seconds between ticks")
    parser.add_argument("--port", type=int, default=0, help="the port of another server")
    parser.add_argument("--one-by-one", action="store_true", help="one request after another")
    arguments = parser.parse_args()
    if arguments.requests < 1:
        parser.error("--requests takes a positive number")
    return 1 if runtime.run(ask(arguments), until="idle") else 0


if __name__ == "__main__":
    sys.exit(main())

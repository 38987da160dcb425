"""An echo server of plain generators, which yield ``(socket, "read")`` where they have to wait.

Event loops were written in this way before ``await`` existed, and the same still happens below it.
``drive`` connects the generators with the loop: it receives the yielded request, waits for the
socket, and resumes the generator. Talk to the server with ``nc 127.0.0.1 8888``; Ctrl-C ends it::

    python docs/examples/generator_echo.py --port 8888
"""

from __future__ import annotations

import argparse
import contextlib
import socket
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import runtime

Steps = Generator[tuple[socket.socket, str], None, None]

WAITS: dict[str, Callable[[socket.socket], Coroutine[Any, Any, None]]] = {
    "read": runtime.wait_readable,
    "write": runtime.wait_writable,
}


async def drive(steps: Steps) -> None:
    """Run a generator to its end, and wait for each request that it yields.

    An exception of a wait, including a cancellation, is raised inside the generator, at its
    ``yield``.
    """
    try:
        request: object = next(steps)
        while True:
            try:
                await wait_for(request)
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = next(steps)
    except StopIteration:
        return
    finally:
        steps.close()


async def wait_for(request: object) -> None:
    """Wait for the event that a generator requests. Raises TypeError for any other object."""
    match request:
        case socket.socket() as sock, str(event) if event in WAITS:
            await WAITS[event](sock)
        case _:
            raise TypeError(
                f'A generator yields (socket, "read") or (socket, "write"), not {request!r}.'
            )


def echo(client: socket.socket) -> Steps:
    """Serve a client until it ends its stream."""
    with client, contextlib.suppress(ConnectionError):
        while True:
            yield client, "read"
            rest = client.recv(65536)
            if not rest:
                return
            while rest:
                yield client, "write"
                rest = rest[client.send(rest) :]


def serve(listener: socket.socket, start: Callable[[Steps], object]) -> Steps:
    """Accept clients, and start a generator for each of them."""
    while True:
        yield listener, "read"
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue  # the client has disconnected already
        client.setblocking(False)
        start(echo(client))


async def run_server(host: str, port: int) -> None:
    """Print the address of the server, and serve."""
    with socket.create_server((host, port)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        print(f"echo server on {address[0]}:{address[1]}", flush=True)
        async with runtime.TaskGroup() as group:
            await drive(serve(listener, lambda steps: group.create_task(drive(steps))))


def main() -> None:
    """Parse the command line, and serve until interrupted."""
    parser = argparse.ArgumentParser(description="An echo server of generators.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        runtime.run(run_server(arguments.host, arguments.port))


if __name__ == "__main__":
    main()

"""A micro event loop: coroutines that await requests, and plain sockets.

A request is an object that describes an event, such as a point in time or a readable socket. When a
coroutine awaits a request, the request calls ``runtime``, in one line for each kind. Five functions
for plain sockets are built on the requests. The program demonstrates them::

    python docs/examples/micro_loop.py
    python docs/examples/micro_loop.py echo --unit 0.1

It ends when every task has ended.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import runtime

T = TypeVar("T")

# -- Requests --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timeout:
    """Continue after a number of seconds."""

    seconds: float

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.sleep(self.seconds).__await__()


@dataclass(frozen=True)
class Readable:
    """Continue when a socket is readable."""

    sock: socket.socket

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.wait_readable(self.sock).__await__()


@dataclass(frozen=True)
class Writable:
    """Continue when a socket is writable."""

    sock: socket.socket

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.wait_writable(self.sock).__await__()


@dataclass(frozen=True)
class Errored:
    """Continue when a socket has urgent data or an error."""

    sock: socket.socket

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.wait_exceptional(self.sock).__await__()


@dataclass(frozen=True)
class Schedule:
    """Start a coroutine as a task; continue at once, with the task as the result."""

    coroutine: Coroutine[Any, Any, Any]

    def __await__(self) -> Generator[Any, None, runtime.Task[Any]]:
        yield from ()
        return runtime.create_task(self.coroutine)


@dataclass(frozen=True)
class Cancel:
    """Cancel a task; continue when it has ended."""

    task: runtime.Task[Any]

    def __await__(self) -> Generator[Any, None, None]:
        self.task.cancel()
        # Unlike ``await task``, ``wait`` does not raise the CancelledError of the cancelled task.
        yield from runtime.wait([self.task]).__await__()


# -- Plain sockets ---------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; do not wait for a client."""
    listener = socket.create_server((host, port))
    listener.setblocking(False)
    return listener


async def accept(listener: socket.socket) -> socket.socket:
    """Return the connection of the next client."""
    while True:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # no client yet, or not any more
            await Readable(listener)
        else:
            client.setblocking(False)
            return client


async def connect(host: str, port: int) -> socket.socket:
    """Return a connection to a server with a numeric address."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.connect((host, port))
    except BlockingIOError:
        try:
            await Writable(sock)
            if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, f"cannot connect to {host}:{port}") from None
        except BaseException:
            sock.close()
            raise
    except BaseException:
        sock.close()
        raise
    return sock


async def send(sock: socket.socket, data: bytes) -> None:
    """Send all of ``data``, even if the socket accepts it in small parts."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            await Writable(sock)


async def recv(sock: socket.socket, most: int = 65536) -> bytes:
    """Wait for bytes and return them; return ``b""`` at the end of the connection."""
    while True:
        try:
            return sock.recv(most)
        except BlockingIOError:
            await Readable(sock)


def run(main: Awaitable[T]) -> T:
    """Run ``main`` and every scheduled task; return the result of ``main``."""
    return runtime.run(main, until="idle")


# -- Demonstrations --------------------------------------------------------------------------------


async def sleeper(name: str, seconds: float) -> None:
    """Sleep, then print a line."""
    await Timeout(seconds)
    print(f"{name} slept {seconds:g} s")


async def sleeps(unit: float) -> None:
    """Start several sleepers; they print in the order in which they wake up."""
    for name, units in ("long", 3), ("short", 1), ("middling", 2):
        await Schedule(sleeper(name, units * unit))


async def echo_one(listener: socket.socket) -> None:
    """Serve one client, and echo all its messages."""
    with await accept(listener) as client:
        print("server: a client has come")
        while data := await recv(client):
            await send(client, data)
        print("server: the client has gone")


async def echo(unit: float) -> None:
    """Run an echo server, and a client that sends three messages."""
    with listen("127.0.0.1", 0) as listener:
        server: runtime.Task[None] = await Schedule(echo_one(listener))
        with await connect(*listener.getsockname()) as sock:
            for number in range(1, 4):
                await send(sock, f"message {number}".encode())
                print("client:", (await recv(sock)).decode())
                await Timeout(unit / 2)
        await server


async def worker(unit: float) -> None:
    """Print a line at regular intervals, until cancelled."""
    steps = 0
    try:
        while True:
            steps += 1
            print("worker: step", steps)
            await Timeout(unit)
    finally:
        print("worker: cleaning up after", steps, "steps")


async def cancel(unit: float) -> None:
    """Cancel a task that loops for ever."""
    task: runtime.Task[None] = await Schedule(worker(unit))
    await Timeout(2.5 * unit)
    await Cancel(task)
    print("cancelled:", task.cancelled())


DEMONSTRATIONS: dict[str, Callable[[float], Coroutine[Any, Any, None]]] = {
    "sleeps": sleeps,
    "echo": echo,
    "cancel": cancel,
}


def main() -> None:
    """Run the demonstrations that are named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description="A micro event loop.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEMONSTRATIONS))
    parser.add_argument("--unit", type=float, default=1.0, help="seconds that a second takes")
    arguments = parser.parse_args()
    for name in arguments.names or DEMONSTRATIONS:
        if name not in DEMONSTRATIONS:
            parser.error(f"there is no {name!r}: choose of {', '.join(DEMONSTRATIONS)}")
        run(DEMONSTRATIONS[name](arguments.unit))


if __name__ == "__main__":
    main()

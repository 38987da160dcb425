"""A micro event loop: coroutines that await requests, and plain sockets.

A request is an object that says what a coroutine waits for. Awaited, it is handed to ``runtime``:
that takes a line for each kind of request. On top of them are five functions for plain sockets. The
program shows it at work::

    python docs/examples/micro_loop.py
    python docs/examples/micro_loop.py echo --unit 0.1

It ends when every task has.
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
    """Go on after so many seconds."""

    seconds: float

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.sleep(self.seconds).__await__()


@dataclass(frozen=True)
class Readable:
    """Go on when a socket can be read from."""

    sock: socket.socket

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.wait_readable(self.sock).__await__()


@dataclass(frozen=True)
class Writable:
    """Go on when a socket can be written to."""

    sock: socket.socket

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.wait_writable(self.sock).__await__()


@dataclass(frozen=True)
class Errored:
    """Go on when a socket has urgent data, or an error."""

    sock: socket.socket

    def __await__(self) -> Generator[Any, None, None]:
        return runtime.wait_exceptional(self.sock).__await__()


@dataclass(frozen=True)
class Schedule:
    """Have a coroutine run beside this one; go on at once, with its task."""

    coroutine: Coroutine[Any, Any, Any]

    def __await__(self) -> Generator[Any, None, runtime.Task[Any]]:
        yield from ()
        return runtime.create_task(self.coroutine)


@dataclass(frozen=True)
class Cancel:
    """Cancel a task; go on when it has cleaned up."""

    task: runtime.Task[Any]

    def __await__(self) -> Generator[Any, None, None]:
        self.task.cancel()
        # Unlike ``await task``, it does not take the other's cancellation for one of this task.
        yield from runtime.wait([self.task]).__await__()


# -- Plain sockets ---------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, without waiting for anybody to come."""
    listener = socket.create_server((host, port))
    listener.setblocking(False)
    return listener


async def accept(listener: socket.socket) -> socket.socket:
    """Return the connection of the next client."""
    while True:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # nobody there; or not any more
            await Readable(listener)
        else:
            client.setblocking(False)
            return client


async def connect(host: str, port: int) -> socket.socket:
    """Return a connection to a server, by its numeric address."""
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
    """Send all of ``data``, however little of it the socket takes at a time."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            await Writable(sock)


async def recv(sock: socket.socket, most: int = 65536) -> bytes:
    """Return what has come, at least a byte; nothing at the end of the connection."""
    while True:
        try:
            return sock.recv(most)
        except BlockingIOError:
            await Readable(sock)


def run(main: Awaitable[T]) -> T:
    """Run ``main`` and every task that is scheduled; return what ``main`` returns."""
    return runtime.run(main, until="idle")


# -- Demonstrations --------------------------------------------------------------------------------


async def sleeper(name: str, seconds: float) -> None:
    """Sleep, and say so."""
    await Timeout(seconds)
    print(f"{name} slept {seconds:g} s")


async def sleeps(unit: float) -> None:
    """Have several sleep at once: they print in the order in which they wake."""
    for name, units in ("long", 3), ("short", 1), ("middling", 2):
        await Schedule(sleeper(name, units * unit))


async def echo_one(listener: socket.socket) -> None:
    """Send one client back what it sends."""
    with await accept(listener) as client:
        print("server: a client has come")
        while data := await recv(client):
            await send(client, data)
        print("server: the client has gone")


async def echo(unit: float) -> None:
    """Run a server that echoes, and a client that sends it three messages."""
    with listen("127.0.0.1", 0) as listener:
        server: runtime.Task[None] = await Schedule(echo_one(listener))
        with await connect(*listener.getsockname()) as sock:
            for number in range(1, 4):
                await send(sock, f"message {number}".encode())
                print("client:", (await recv(sock)).decode())
                await Timeout(unit / 2)
        await server


async def worker(unit: float) -> None:
    """Work for ever."""
    steps = 0
    try:
        while True:
            steps += 1
            print("worker: step", steps)
            await Timeout(unit)
    finally:
        print("worker: cleaning up after", steps, "steps")


async def cancel(unit: float) -> None:
    """Cancel a task that would go on for ever, in the middle of its loop."""
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
    """Run the demonstrations that the command line names, or all of them."""
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

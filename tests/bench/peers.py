"""Blocking servers in threads, whose answers to the load generator are chosen by the test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

from bench import native

SIZE = 1000
Answer = Callable[[int, bytes], bytes]
"""Takes the number of a message on its connection and the message; returns the answer."""

Serve = Callable[[socket.socket, Answer], None]
"""Serves a connection."""


def receive_exactly(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := conn.recv(size - len(data))):
        data += chunk
    return data


def serve(conn: socket.socket, answer: Answer) -> None:
    """Answer message after message, until there is no message or no answer."""
    number = 0
    # The load generator closes the connection when it finds a wrong answer.
    with conn, contextlib.suppress(OSError):
        while len(message := receive_exactly(conn, SIZE)) == SIZE:
            if not (reply := answer(number, message)):
                return
            conn.sendall(reply)
            number += 1


@contextlib.contextmanager
def server(answer: Answer, serve: Serve = serve) -> Iterator[int]:
    """Serve each connection in a thread; yield the port."""
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            conn.settimeout(30)
            threads.append(threading.Thread(target=serve, args=(conn, answer)))
            threads[-1].start()

    listener = socket.create_server(("127.0.0.1", 0))
    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join()


def load(
    port: int,
    *options: str,
    connections: int = 1,
    seconds: float = 30,
    requests: int = 20,
    program: str = "load",
) -> subprocess.CompletedProcess[str]:
    """Run the load generator with messages of SIZE bytes."""
    arguments = (port, connections, SIZE, seconds, requests)
    return subprocess.run(
        [native.built(program), *options, *map(str, arguments)],
        input="begin\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def echo(number: int, message: bytes) -> bytes:
    return message

"""The demonstration behind ``make run``: an echo server, and a burst of clients that check it.

The server (``echo_server.py``) runs on ``runtime``, in a separate process. The clients are plain
non-blocking sockets of the standard library: each connection sends a unique message, waits until
the whole message has come back, compares every byte, and sends the next one.

The exit status is 0 if every byte was right, 1 if one was wrong, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.__main__ import describe_build

HEADER = struct.Struct("!QQ")
PATIENCE = 10.0
"""Seconds without any reply after which the pending requests count as lost."""


class Client:
    """One connection, with one pending request at a time."""

    def __init__(self, number: int, address: tuple[str, int], size: int) -> None:
        self.number = number
        self.size = size
        self.requests = 0
        self.latency = 0.0
        self.sock = socket.create_connection(address, timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._message = b""
        self._unsent = memoryview(b"")
        self._reply = bytearray()
        self._sent_at = 0.0

    def send_next(self) -> None:
        """Begin a request, whose message starts with a header that no other message has."""
        filler = bytes([(self.number + self.requests) % 256]) * self.size
        self._message = (HEADER.pack(self.number, self.requests) + filler)[: self.size]
        self._unsent = memoryview(self._message)
        self._reply.clear()
        self.requests += 1
        self._sent_at = time.perf_counter()
        self.flush()

    def flush(self) -> None:
        """Send as much of the message as the socket accepts."""
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[self.sock.send(self._unsent) :]

    def receive(self) -> bool:
        """Read from the socket; return whether the reply is complete.

        Raises ValueError if the reply differs from the message.
        """
        with contextlib.suppress(BlockingIOError):
            data = self.sock.recv(65536)
            if not data:
                raise ValueError(f"the server hung up during request {self.requests}")
            self._reply += data
            if not self._message.startswith(self._reply):
                raise ValueError(f"request {self.requests} came back changed")
            self.latency = time.perf_counter() - self._sent_at
        return len(self._reply) == self.size

    @property
    def events(self) -> int:
        """The events that the selector has to watch."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)


class Burst:
    """All clients, driven by a selector, and the results of their requests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.latencies: list[float] = []
        self.errors: list[str] = []
        self.seconds = 0.0
        self._options = options
        self._clients: set[Client] = set()
        self._selector = selectors.DefaultSelector()
        self._live = sys.stdout.isatty()
        self._next_line = 0.0

    def run(self, address: tuple[str, int]) -> None:
        """Connect, exchange messages until a limit is reached, and disconnect."""
        try:
            for number in range(self._options.connections):
                self._connect(number, address)
            started = time.perf_counter()
            for client in list(self._clients):
                self._guard(client, selectors.EVENT_WRITE)
            heard = 0.0
            while self._clients:
                events = self._selector.select(0.1)
                self.seconds = time.perf_counter() - started
                if events:
                    heard = self.seconds
                for key, mask in events:
                    self._guard(key.data, mask)
                if self.seconds - heard > PATIENCE:
                    for client in list(self._clients):
                        self._drop(client, f"no reply in {PATIENCE:.0f} s")
                self._show_progress()
        finally:
            if self._live:
                print()
            for client in list(self._clients):
                self._drop(client)
            self._selector.close()

    def _connect(self, number: int, address: tuple[str, int]) -> None:
        try:
            client = Client(number, address, self._options.size)
        except OSError as error:
            self.errors.append(f"connection {number}: {error}")
        else:
            self._clients.add(client)
            self._selector.register(client.sock, selectors.EVENT_READ, client)

    def _guard(self, client: Client, mask: int) -> None:
        """Handle the events of a client; an error ends this client only."""
        try:
            self._handle(client, mask)
        except (OSError, ValueError) as error:
            self._drop(client, str(error))

    def _handle(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            client.flush() if client.requests else client.send_next()
        if mask & selectors.EVENT_READ and client.receive():
            self.latencies.append(client.latency)
            if self._is_over(client):
                self._drop(client)
                return
            client.send_next()
        if self._selector.get_key(client.sock).events != client.events:
            self._selector.modify(client.sock, client.events, client)

    def _is_over(self, client: Client) -> bool:
        if self._options.requests is not None:
            return bool(client.requests >= self._options.requests)
        return bool(self.seconds >= self._options.seconds)

    def _drop(self, client: Client, error: str = "") -> None:
        if error:
            self.errors.append(f"connection {client.number}: {error}")
        self._clients.discard(client)
        self._selector.unregister(client.sock)
        client.sock.close()

    def _show_progress(self) -> None:
        if self.seconds < self._next_line:
            return
        self._next_line = self.seconds + (0.1 if self._live else 1.0)
        done = len(self.latencies)
        line = (
            f"{self.seconds:5.1f} s  {len(self._clients)} connections  {done:,} requests  "
            f"{done / self.seconds:,.0f}/s  {len(self.errors)} errors"
        )
        print(f"\r{line:<78}" if self._live else line, end="" if self._live else "\n", flush=True)

    def summary(self) -> str:
        """Return the closing lines: number of requests, errors, rate and latency."""
        done = len(self.latencies)
        lines = [
            f"requests   {done:,} of {self._options.size:,} bytes, every byte compared",
            f"errors     {len(self.errors)}",
        ]
        if done:
            latencies = sorted(self.latencies)
            p50, p99 = (latencies[done * percent // 100] * 1000 for percent in (50, 99))
            lines.append(f"rate       {done / self.seconds:,.0f} requests/s")
            lines.append(f"latency    p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        return "\n".join(lines + [f"  {error}" for error in self.errors[:10]])


@contextlib.contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    """Run ``echo_server.py`` in a separate process, and yield its address."""
    script = Path(__file__).with_name("echo_server.py")
    process = subprocess.Popen(
        [sys.executable, str(script), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal is meant for the clients
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        greeting = process.stdout.readline()
        if not greeting:
            raise RuntimeError("The echo server did not start; what it printed is above.")
        host, _, port = greeting.split()[-1].rpartition(":")
        yield host, int(port)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def parse_address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def positive(text: str) -> int:
    """Parse a number that is at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def main() -> int:
    """Parse the command line, run the burst, print the summary; return the exit status."""
    parser = argparse.ArgumentParser(description="An echo server and a burst of clients.")
    parser.add_argument("--connections", type=positive, default=100)
    parser.add_argument("--size", type=positive, default=1024, help="bytes of a message")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the burst lasts")
    parser.add_argument(
        "--requests", type=positive, help="of each connection, instead of a time limit"
    )
    parser.add_argument(
        "--connect", type=parse_address, metavar="HOST:PORT", help="test a server that runs already"
    )
    options = parser.parse_args()
    burst = Burst(options)
    status = 0
    print(describe_build())
    try:
        with (
            contextlib.nullcontext(options.connect) if options.connect else echo_server()
        ) as address:
            print(f"{options.connections} connections to {address[0]}:{address[1]}", flush=True)
            burst.run(address)
    except KeyboardInterrupt:
        print("interrupted")
        status = 130
    print(burst.summary())
    return status or bool(burst.errors)


if __name__ == "__main__":
    sys.exit(main())

"""Programs that exercise the accelerator, each encoded in a few bytes.

``run`` accepts any bytes as a program and calls the accelerator's functions accordingly: with
sockets of every family, closed descriptors, buffers that change while they are used, numbers of any
size, and objects that call the accelerator themselves in the middle of a call. For every program,
an exception must be one of ``EXPECTED``, nothing may crash, and results must follow the contract.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import math
import os
import select
import socket
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from runtime.kernel.native import accelerator

EXPECTED = (
    TypeError,
    ValueError,
    OverflowError,
    OSError,
    BufferError,
    AttributeError,
    RuntimeError,
    StopIteration,
    RecursionError,
    ZeroDivisionError,
)
MOST_STEPS = 60
DEEPEST = 3

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
SIZES = (0, 1, 2, 27, 28, 29, 110, 127, 128, 129, 1000, 65_535, 65_536, 65_537, 262_144, 262_145)
NUMBERS = (-1, 1023, 2**31 - 1, 2**31, 2**32, 2**63, -(2**63), 2**80, 0xFFFF)
SECONDS = (0.0, -0.0, 1e-300, 1e-9, 0.0001, math.nan, "1", None)
ENDLESS = (-1e-300, -1.0, math.inf, -math.inf, 2.0**40, 10**400)


class Input:
    """Bytes of a program, followed by an endless row of zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def is_over(self) -> bool:
        """Whether all bytes were consumed."""
        return self._position >= len(self._data)

    def byte(self) -> int:
        """Consume a byte."""
        found = 0 if self.is_over else self._data[self._position]
        self._position += 1
        return found

    def one_of(self, choices: Any) -> Any:
        """Consume a byte, and use it to choose one of ``choices``."""
        return choices[self.byte() % len(choices)]


class Program:
    """A run of one program: its open sockets and objects, and its operations."""

    def __init__(self, accelerator: Any, data: bytes) -> None:
        self.built = accelerator
        self.input = Input(data)
        self.depth = 0
        self.steps = 0
        self.sockets: list[socket.socket] = []
        self.descriptors: list[int] = []
        self.targets: list[Any] = []
        self.views: list[Any] = []
        self.addresses: list[Any] = [None, ("127.0.0.1", 9), (), "name", 0]
        self.coroutines: list[Any] = []
        self.contexts = [contextvars.copy_context()]
        self.epolls: list[Any] = []

    # -- Operations --------------------------------------------------------------------------------

    def step(self) -> None:
        """Run one operation."""
        self.steps += 1
        operation: Callable[[], object] = self.input.one_of(self.operations())
        with contextlib.suppress(*EXPECTED):
            operation()

    def operations(self) -> list[Callable[[], object]]:
        """Return every operation. The corpus relies on the order: append new ones at the end."""
        return [
            self.open_pair,
            self.open_internet,
            self.open_unix,
            self.disguise,
            self.replace,
            self.close,
            self.receive,
            self.receive_some,
            self.send,
            self.receive_from,
            self.send_to,
            self.accept,
            self.make_room,
            self.view_room,
            self.write_view,
            self.release_view,
            self.take_room,
            self.start_coroutine,
            self.step_coroutine,
            self.epoll,
            self.wait,
            self.modify,
            self.misuse,
            self.collect,
            self.peer_sends,
        ]

    def open_pair(self) -> None:
        kind = self.input.one_of((socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET))
        self.add(*socket.socketpair(socket.AF_UNIX, kind))

    def open_internet(self) -> None:
        family, host = self.input.one_of(
            ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::"))
        )
        kind = self.input.one_of((socket.SOCK_DGRAM, socket.SOCK_STREAM))
        sock = socket.socket(family, kind)
        self.add(sock)
        sock.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        other = socket.socket(family, kind)
        self.add(other)
        with contextlib.suppress(OSError):
            other.connect(("::1" if host == "::" else host, sock.getsockname()[1]))

    def open_unix(self) -> None:
        kind = self.input.one_of((socket.SOCK_DGRAM, socket.SOCK_STREAM))
        length = self.input.byte() % 109
        sock = socket.socket(socket.AF_UNIX, kind)
        self.add(sock)
        if self.input.byte() % 2:
            sock.bind(b"\0" + os.urandom(8) + b"x" * max(length - 9, 0))
        else:
            path = FOLDER / f"{len(self.sockets)}-{self.steps}{'x' * (length // 2)}"
            path.unlink(missing_ok=True)
            sock.bind(str(path))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        client = socket.socket(socket.AF_UNIX, kind)
        self.add(client)
        with contextlib.suppress(OSError):
            client.bind(b"\0" + os.urandom(8) + b"y" * (length % 90))
        client.connect(sock.getsockname())

    def disguise(self) -> None:
        """Create a socket object that reports another family than that of its socket."""
        family = self.input.one_of((socket.AF_INET, socket.AF_INET6, socket.AF_UNIX))
        number = os.dup(self.socket().fileno())
        try:
            self.add(socket.socket(family, socket.SOCK_DGRAM, 0, fileno=number))
        except OSError:
            os.close(number)
            raise

    def replace(self) -> None:
        """Put another socket under the descriptor number of a socket object."""
        one, two = self.socket().fileno(), self.socket().fileno()
        if one >= 0 and two >= 0:
            os.dup2(one, two)

    def close(self) -> None:
        self.socket().close()

    def receive(self) -> None:
        function = self.input.one_of((self.built.recv, self.built.recv_large, self.built.read))
        data = function(self.number())
        assert data is None or type(data) is bytes

    def receive_some(self) -> None:
        size = self.size()
        data = self.built.recv_some(self.number(), size)
        assert data is None or len(data) <= size

    def send(self) -> None:
        function = self.input.one_of((self.built.send, self.built.write))
        number = self.number()
        data = self.data()
        sent = function(number, data)
        assert sent >= 0

    def receive_from(self) -> None:
        found = self.built.recvfrom(self.sock())
        if found is not None:
            data, address = found
            assert type(data) is bytes
            self.addresses.append(address)

    def send_to(self) -> None:
        sock, data = self.sock(), self.data()
        assert self.built.sendto(sock, data, self.input.one_of(self.addresses)) in (-1, 0, 1)

    def accept(self) -> None:
        found = self.built.accept(self.number())
        if found is not None:
            number, address = found
            self.add(socket.socket(fileno=number))
            self.addresses.append(address)

    def make_room(self) -> None:
        self.targets.append(self.built.ReceiveTarget(self.size()))
        self.targets[-1].fuzzed = 1  # The object has no attributes: the assignment is refused.

    def view_room(self) -> None:
        target = self.input.one_of(self.targets or [None])
        self.views.append(target.view(self.size(), self.size()))

    def write_view(self) -> None:
        view = self.input.one_of(self.views or [bytearray(1)])
        view[:] = bytes([self.input.byte()]) * len(view)
        if len(view):
            self.built.send(self.number(), view)

    def release_view(self) -> None:
        if self.views:
            self.views.pop(self.input.byte() % len(self.views)).release()

    def take_room(self) -> None:
        target = self.input.one_of(self.targets or [None])
        size = self.size()
        taken = target.take(size)
        assert type(taken) is bytes
        assert len(taken) == size
        hash(taken)

    def start_coroutine(self) -> None:
        kind = self.input.byte() % 6
        program = self

        def generator() -> Generator[Any, Any, Any]:
            while program.depth < DEEPEST and not program.input.is_over:
                yield program.input.one_of((None, (), (1,), [], 1, program))
                program.nested()
            return program.input.one_of((None, (), (1,), program))

        async def coroutine() -> Any:
            program.nested()
            if program.input.byte() % 2:
                raise ZeroDivisionError
            return program

        choices = (generator, coroutine, lambda: iter(range(3)), object, int, self.reentrant)
        self.coroutines.append(choices[kind]())

    def step_coroutine(self) -> None:
        if self.input.byte() % 8 == 0:
            self.contexts.append(self.contexts[-1].copy())
        coro = self.input.one_of(self.coroutines or [None])
        context = self.input.one_of([*self.contexts, None])
        if self.input.byte() % 8 == 0:
            self.contexts[0].run(self.built.step, coro, context)
        else:
            self.built.step(coro, context)

    def epoll(self) -> None:
        poll = select.epoll()
        self.epolls.append(
            (poll, self.built.epoll_wait(poll.fileno()), self.built.epoll_modify(poll))
        )
        for sock in self.sockets:
            with contextlib.suppress(*EXPECTED):
                poll.register(sock, self.input.one_of((1, 4, 5, 1 << 30 | 1, 0)))

    def wait(self) -> None:
        poll, wait, _ = self.input.one_of(self.epolls or [None])
        kind = self.input.byte() % 4
        seconds = self.reentrant() if kind == 0 else self.input.one_of(SECONDS)
        if (
            kind == 1 and poll.poll(0) and poll.poll(0)
        ):  # The first poll may disarm the events that it reports.
            seconds = self.input.one_of(ENDLESS)
        events = wait(seconds)
        for number, mask in events:
            assert number >= 0
            assert mask >= 0

    def modify(self) -> None:
        _, _, modify = self.input.one_of(self.epolls or [None])
        assert modify(self.number(), self.input.one_of(NUMBERS)) in (True, False)

    def misuse(self) -> None:
        """Call a function with arbitrary arguments."""
        names = [name for name in dir(self.built) if not name.startswith("_")]
        function = getattr(self.built, self.input.one_of(names))
        arguments = [self.anything() for _ in range(self.input.byte() % 5)]
        if function is self.built.ReceiveTarget and arguments and arguments[0] in NUMBERS:
            return  # The size may be as large as the memory.
        found = function(*arguments)
        if isinstance(found, tuple) and found and type(found[0]) is int:
            os.close(found[0])

    def collect(self) -> None:
        gc.collect(0)

    def peer_sends(self) -> None:
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.send(b"x" * self.input.one_of(SIZES[:11]), socket.MSG_DONTWAIT)

    # -- Arguments of the operations ---------------------------------------------------------------

    def add(self, *sockets: socket.socket) -> None:
        """Keep sockets, and make them non-blocking."""
        for sock in sockets:
            self.sockets.append(sock)
            sock.setblocking(False)

    def socket(self) -> socket.socket:
        """Choose a socket."""
        found: socket.socket = self.input.one_of(self.sockets)
        return found

    def sock(self) -> Any:
        """Choose a socket, or an object that claims to be one."""
        return self.reentrant() if self.input.byte() % 8 == 0 else self.socket()

    def number(self) -> Any:
        """Choose a descriptor, or another object."""
        kind = self.input.byte() % 16
        if kind == 0:
            return self.input.one_of([*NUMBERS, "x", None, 1.5])
        if kind == 1:
            return self.reentrant()
        return self.socket().fileno()

    def size(self) -> Any:
        """Choose a size."""
        return self.input.one_of(SIZES) if self.input.byte() % 16 else self.input.one_of((-1, 1.5))

    def data(self) -> Any:
        """Choose data to send."""
        size = self.input.one_of(SIZES)
        kind = self.input.byte() % 8
        if kind == 0:
            return "text"
        if kind == 1:
            return memoryview(bytes(2 * size))[::2]
        if kind == 2 and self.views:
            return self.input.one_of(self.views)
        if kind == 3 and sys.version_info >= (3, 12):
            return ReentrantBuffer(self, size)
        return self.input.one_of((bytes, bytearray))(size)

    def anything(self) -> Any:
        """Choose any object."""
        choices: list[Callable[[], Any]] = [
            self.number,
            self.size,
            self.data,
            self.socket,
            self.reentrant,
            lambda: self.input.one_of(self.addresses),
            lambda: self.input.one_of(SECONDS),
            lambda: self.contexts[0],
        ]
        found: Any = self.input.one_of(choices)()
        return found

    def reentrant(self) -> Reentrant:
        """Return an object whose every method runs a step of the program."""
        return Reentrant(self)

    def nested(self) -> None:
        """Run a step inside another one."""
        if self.depth < DEEPEST and self.steps < MOST_STEPS and not self.input.is_over:
            self.depth += 1
            try:
                self.step()
            finally:
                self.depth -= 1

    def end(self) -> None:
        """Close all sockets and descriptors."""
        self.views.clear()
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.close()
        for poll, wait, _ in self.epolls:
            accelerator.release(wait)
            poll.close()
        for coro in self.coroutines:
            with contextlib.suppress(*EXPECTED):
                coro.close()


class Reentrant:
    """An object whose methods run a step of the program."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __index__(self) -> int:
        self.program.nested()
        return self.program.socket().fileno()

    def __float__(self) -> float:
        self.program.nested()
        return 0.0

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 1

    def fileno(self) -> int:
        self.program.nested()
        return self.program.socket().fileno()

    def send(self, value: Any) -> Any:
        self.program.nested()
        return value

    def close(self) -> None:
        self.program.nested()


class ReentrantBuffer:
    """A buffer that runs steps when it is requested and when it is released."""

    def __init__(self, program: Program, size: int) -> None:
        self.program = program
        self.bytes = bytearray(size)

    def __buffer__(self, flags: int) -> memoryview:
        self.program.nested()
        return memoryview(self.bytes)

    def __release_buffer__(self, view: memoryview) -> None:
        self.program.nested()
        view.release()


def run(accelerator: Any, data: bytes) -> None:
    """Run the program encoded in ``data``."""
    program = Program(accelerator, data)
    try:
        while program.steps < MOST_STEPS and not program.input.is_over:
            program.step()
    finally:
        program.end()

"""The few operations that Python cannot do cheaply, and the fallback in Python of each.

``_accelerator.c`` holds the same functions in C. Where it was not built (no compiler, PyPy, no
epoll), or where the environment variable ``RUNTIME_NO_ACCELERATOR`` is set, the functions below
serve. Both obey the contracts written here, and the test suite runs with either.
"""

from __future__ import annotations

import os
import select
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.native.installation import REINSTALL

if TYPE_CHECKING:
    import socket

Steppable = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]

RECEIVE_SIZE: Final = 64 * 1024
"""The most bytes that one ``recv`` returns."""

LARGE_RECEIVE_SIZE: Final = 256 * 1024
"""The most bytes that one ``recv_large`` returns: more would keep others waiting."""

Wait = Callable[[float], list[tuple[int, int]]]
"""Waits up to so many seconds (negative: no limit) and gives (descriptor, epoll mask) pairs."""

Modify = Callable[[int, int], bool]
"""Has other events watched on a descriptor, given as an epoll mask; False: epoll knows it not."""


def python_step(coro: Steppable, context: Context) -> object:
    """Run ``coro`` in ``context`` up to its next suspension, and say how it stopped.

    A coroutine that suspended gives the object that it yielded; one that returned gives its value
    in a 1-tuple, so that an ordinary end raises nothing. No future is a tuple, and a coroutine that
    yields a tuple, which is an error, gives it inside a list: the two cannot be mixed up.
    """
    try:
        yielded = context.run(coro.send, None)
    except StopIteration as stop:
        return (stop.value,)
    # Of a future, which is no tuple, isinstance() would ask for its __class__.
    return [yielded] if type(yielded) is tuple else yielded


def python_call(context: Context, name: str, owner: object, argument: object) -> Any:
    """Call the method ``name`` of ``owner`` with one argument, in ``context``.

    In C this makes no object of the bound method, so that one which is looked up for each call
    costs less than one which is kept.
    """
    return context.run(getattr(owner, name), argument)


def python_recv(fd: int) -> bytes | None:
    """Receive what a non-blocking socket has, at most ``RECEIVE_SIZE`` bytes; ``b""`` at its end.

    Returns None when there is nothing yet. Raises OSError for anything else.
    """
    try:
        return os.read(fd, RECEIVE_SIZE)
    except BlockingIOError:
        return None


def python_recv_large(fd: int) -> bytes | None:
    """As ``python_recv``, at most ``LARGE_RECEIVE_SIZE`` bytes.

    This one has room for all of them allocated for each call: see ``kernel.native.allocator``.
    """
    try:
        return os.read(fd, LARGE_RECEIVE_SIZE)
    except BlockingIOError:
        return None


def python_recv_some(fd: int, size: int) -> bytes | None:
    """As ``python_recv``, at most ``size`` bytes, which is 1 to ``LARGE_RECEIVE_SIZE``."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None


def python_send(fd: int, data: Buffer) -> int:
    """Send what a non-blocking socket takes at once, and return how many bytes that was.

    Returns 0 when it takes none now. Raises OSError for anything else.
    """
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0


def python_read(fd: int) -> bytes | None:
    """As ``python_recv``, from any descriptor that does not block: a pipe, a terminal."""
    return python_recv(fd)


def python_write(fd: int, data: Buffer) -> int:
    """As ``python_send``, to any descriptor that does not block: a pipe, a terminal."""
    return python_send(fd, data)


def python_recvfrom(sock: socket.socket) -> tuple[bytes, Any] | None:
    """Receive a datagram on a non-blocking Internet socket; return it and its sender's address.

    Returns None when there is none yet. What is longer than ``RECEIVE_SIZE`` is cut off; nothing
    is. Raises OSError for anything else, also when the socket is closed.
    """
    try:
        return sock.recvfrom(RECEIVE_SIZE)
    except BlockingIOError:
        return None


def python_sendto(sock: socket.socket, data: Buffer, address: Any) -> int:
    """Send a datagram on a non-blocking socket, a connected one when ``address`` is None.

    Returns 1, or 0 when the socket takes it not now. Raises OSError for anything else, also when
    the socket is closed. The accelerator sends to addresses that it remembers having received from;
    for any other, it does nothing and returns -1.
    """
    try:
        if address is None:
            sock.send(data)
        else:
            sock.sendto(data, address)
    except BlockingIOError:
        return 0
    return 1


class PythonReceiveTarget:
    """Memory for ``size`` bytes that are to be received, which then become one bytes object.

    The accelerator's copies nothing: what is written to its views is the object that ``take``
    gives.
    """

    __slots__ = ("_data",)

    def __init__(self, size: int) -> None:
        self._data: bytearray | None = bytearray(size)

    def view(self, start: int, stop: int) -> memoryview:
        """Return a writable view of the bytes from ``start`` up to ``stop``."""
        if self._data is None:
            raise ValueError("the bytes of this target were taken")
        return memoryview(self._data)[start:stop]

    def take(self, size: int) -> bytes:
        """Return the first ``size`` bytes, once. No view may be left: BufferError."""
        if self._data is None:
            raise ValueError("the bytes of this target were taken")
        data = self._data
        data += b"\0"  # Refused while there is a view.
        self._data = None
        return bytes(memoryview(data)[:size])


def python_epoll_wait(epoll_fd: int) -> Wait:
    """Return the function that waits on the epoll descriptor ``epoll_fd``.

    It is given seconds, and reports at most some 1,000 events a call. Signal handlers run while it
    waits. It holds a duplicate of the descriptor, and closes that when it is dropped.
    """
    return duplicate_epoll(epoll_fd).poll


def duplicate_epoll(epoll_fd: int) -> select.epoll:
    """Return an object with a duplicate of the epoll descriptor ``epoll_fd``, which it closes.

    The number of the duplicate is in no hands but those of the interpreter's own code: a handler
    of a signal that raised between two steps of Python would leave it open for ever.
    """
    return next(map(select.epoll.fromfd, map(os.dup, (epoll_fd,))))


def python_epoll_modify(epoll: select.epoll) -> Modify:
    """Return the function that modifies registrations of ``epoll``, which must stay open."""

    def modify(fd: int, mask: int) -> bool:
        try:
            epoll.modify(fd, mask)
        except OSError:
            return False
        return True

    return modify


def release(wait: Wait) -> None:
    """Close what ``python_epoll_wait`` holds; the accelerator's own holds nothing."""
    holder = getattr(wait, "__self__", None)
    if isinstance(holder, select.epoll):
        holder.close()


accept: Callable[[int], tuple[int, Any] | None] | None = None
"""Accepts from a listening socket of the Internet, by its descriptor.

Gives the new descriptor, which does not block and is close-on-exec, and the peer's address; None
when nobody waits. Raises OSError for anything else. Where there is none, ``socket.accept`` serves.
"""

if TYPE_CHECKING or os.environ.get("RUNTIME_NO_ACCELERATOR"):
    has_accelerator: bool = False
    step: Callable[[Steppable, Context], object] = python_step
    call: Callable[[Context, str, object, object], Any] = python_call
    recv: Callable[[int], bytes | None] = python_recv
    recv_large: Callable[[int], bytes | None] = python_recv_large
    read: Callable[[int], bytes | None] = python_read
    recv_some: Callable[[int, int], bytes | None] = python_recv_some
    send: Callable[[int, Buffer], int] = python_send
    write: Callable[[int, Buffer], int] = python_write
    recvfrom: Callable[[socket.socket], tuple[bytes, Any] | None] = python_recvfrom
    sendto: Callable[[socket.socket, Buffer, Any], int] = python_sendto
    epoll_wait: Callable[[int], Wait] = python_epoll_wait
    epoll_modify: Callable[[select.epoll], Modify] = python_epoll_modify
    ReceiveTarget = PythonReceiveTarget
else:
    try:
        # This form of the statement tells a module that is not there from one that is broken.
        import runtime.kernel.native._accelerator as _accelerator
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError):
            warnings.warn(
                f"runtime goes on without its accelerator: {error}. {REINSTALL}",
                RuntimeWarning,
                stacklevel=2,
            )
        has_accelerator = False
        step = python_step
        call = python_call
        recv = python_recv
        recv_large = python_recv_large
        read = python_read
        recv_some = python_recv_some
        send = python_send
        write = python_write
        recvfrom = python_recvfrom
        sendto = python_sendto
        epoll_wait = python_epoll_wait
        epoll_modify = python_epoll_modify
        ReceiveTarget = PythonReceiveTarget
    else:
        has_accelerator = True
        step = _accelerator.step
        call = _accelerator.call
        recv = _accelerator.recv
        recv_large = _accelerator.recv_large
        read = _accelerator.read
        recv_some = _accelerator.recv_some
        send = _accelerator.send
        write = _accelerator.write
        recvfrom = _accelerator.recvfrom
        sendto = _accelerator.sendto
        ReceiveTarget = _accelerator.ReceiveTarget
        accept = getattr(_accelerator, "accept", None)
        # Only where the system has epoll.
        epoll_wait = getattr(_accelerator, "epoll_wait", python_epoll_wait)
        epoll_modify = getattr(_accelerator, "epoll_modify", python_epoll_modify)

"""Accelerator: C functions for a few operations that are expensive in Python, and their fallback.

``_accelerator.c`` contains the C functions. The Python functions below are the fallback: they are
used if the C module was not built (no compiler, PyPy), or if the environment variable
``RUNTIME_NO_ACCELERATOR`` is set. The fallbacks of two classes are in ``ring.py`` and
``wait_meter.py``. The docstrings are the contracts of both, and the test suite runs with either.
"""

from __future__ import annotations

import os
import select
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Protocol

from runtime.kernel.native.wait_meter import PythonWaitMeter, Wait, meter_of

if TYPE_CHECKING:
    import socket

    from runtime.kernel.arguments.buffers import Buffer

Steppable = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]

RECEIVE_SIZE: Final = 64 * 1024
"""Maximum number of bytes that one ``recv`` returns."""

LARGE_RECEIVE_SIZE: Final = 256 * 1024
"""Maximum number of bytes that one ``recv_large`` returns: more would delay other connections."""

Modify = Callable[[int, int], bool]
"""Changes the epoll mask of a descriptor; returns False if the descriptor is not registered."""


if TYPE_CHECKING:

    class Simulator(Protocol):
        """Object that performs the operations on simulated descriptors, in place of the system.

        Each method returns what the function of the same name below does, or NotImplemented if the
        descriptor is not simulated.
        """

        def recv(self, fd: int, size: int) -> Any:
            """Receive up to ``size`` bytes; None if none are available."""

        def send(self, fd: int, data: Buffer) -> Any:
            """Send as many bytes as possible at once; return their number."""

        def recvfrom(self, fd: int) -> Any:
            """Receive a datagram and its sender; None if there is none."""

        def sendto(self, fd: int, data: Buffer, has_address: bool) -> Any:
            """Send a datagram to the connected address; return 1, or 0 if it is not accepted now.

            For a datagram with an address it does nothing, and returns -1.
            """

        def accept(self, fd: int) -> Any:
            """Accept a connection: a descriptor and an address; None if none is waiting."""


_simulators: list[Simulator] = []
"""The simulator that ``set_simulator`` has set, if any."""


def set_simulator(simulator: Simulator | None) -> None:
    """Let ``simulator`` perform the operations that the system refuses; None ends this.

    A simulated descriptor is a real one on which each of these operations fails. After such a
    failure, and only then, the simulator is asked, so that other operations cost nothing more.
    """
    _simulators[:] = () if simulator is None else (simulator,)
    if _set_native_simulator is not None:
        _set_native_simulator(simulator)


def _simulated(method: str, *args: Any) -> Any:
    """Return the simulator's result, or raise the exception that is being handled again."""
    for simulator in _simulators:
        result = getattr(simulator, method)(*args)
        if result is not NotImplemented:
            return result
    raise  # noqa: PLE0704 - the callers are handling the system's OSError


def python_step(coro: Steppable, context: Context) -> object:
    """Run ``coro`` in ``context`` up to its next suspension or its end; return the outcome.

    If the coroutine suspends, the outcome is the object that it yields. If it returns, the outcome
    is a 1-tuple with its value, so that the usual end needs no exception. If it yields a tuple,
    which is an error, the outcome is a list with that tuple, to distinguish this from a return.
    """
    try:
        yielded = context.run(coro.send, None)
    except StopIteration as stop:
        return (stop.value,)
    # Not isinstance(), which would also look up the __class__ of each future.
    return [yielded] if type(yielded) is tuple else yielded


def python_call(context: Context, name: str, owner: object, argument: object) -> Any:
    """Call the method ``name`` of ``owner`` with one argument, in ``context``.

    The C function creates no bound method. To look the method up for each call therefore costs less
    than to keep a bound method for all calls.
    """
    return context.run(getattr(owner, name), argument)


def python_recv(fd: int) -> bytes | None:
    """Receive up to ``RECEIVE_SIZE`` bytes from a non-blocking socket; ``b""`` at end of file.

    Returns None if no bytes are available. Raises OSError for any other error.
    """
    try:
        return os.read(fd, RECEIVE_SIZE)
    except BlockingIOError:
        return None
    except OSError:
        received: bytes | None = _simulated("recv", fd, RECEIVE_SIZE)
        return received


def python_recv_large(fd: int) -> bytes | None:
    """Receive up to ``LARGE_RECEIVE_SIZE`` bytes; otherwise like ``python_recv``.

    The fallback allocates this size for each call: see ``kernel.native.allocator``.
    """
    try:
        return os.read(fd, LARGE_RECEIVE_SIZE)
    except BlockingIOError:
        return None
    except OSError:
        received: bytes | None = _simulated("recv", fd, LARGE_RECEIVE_SIZE)
        return received


def python_recv_some(fd: int, size: int) -> bytes | None:
    """Receive up to ``size`` bytes, 1 to ``LARGE_RECEIVE_SIZE``; otherwise like ``python_recv``."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
    except OSError:
        received: bytes | None = _simulated("recv", fd, size)
        return received


def python_send(fd: int, data: Buffer) -> int:
    """Send as many bytes as a non-blocking socket accepts at once; return their number.

    Returns 0 if the socket accepts none now. Raises OSError for any other error.
    """
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError:
        sent: int = _simulated("send", fd, data)
        return sent


def python_read(fd: int) -> bytes | None:
    """Read as ``python_recv`` does, from any non-blocking descriptor: a pipe, a terminal."""
    return python_recv(fd)


def python_write(fd: int, data: Buffer) -> int:
    """Write as ``python_send`` does, to any non-blocking descriptor: a pipe, a terminal."""
    return python_send(fd, data)


def python_recvfrom(sock: socket.socket) -> tuple[bytes, Any] | None:
    """Receive a datagram on a non-blocking Internet socket; return it and its sender's address.

    Returns None if there is no datagram. Raises OSError for any other error, and if the socket is
    closed. No datagram of IPv4 or IPv6 is longer than ``RECEIVE_SIZE``.
    """
    try:
        return sock.recvfrom(RECEIVE_SIZE)
    except BlockingIOError:
        return None


def python_sendto(sock: socket.socket, data: Buffer, address: Any) -> int:
    """Send a datagram on a non-blocking socket, which is connected if ``address`` is None.

    Returns 1, or 0 if the socket cannot accept the datagram now. Raises OSError for any other
    error, and if the socket is closed. The C function sends only to addresses that it remembers
    from received datagrams; for any other address it does nothing, and returns -1.
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

    The class in C does not copy: its views are views of the bytes object that ``take`` returns.
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
        """Return the first ``size`` bytes; only once. Raises BufferError while a view exists."""
        if self._data is None:
            raise ValueError("the bytes of this target were taken")
        data = self._data
        data += b"\0"  # A bytearray that has views cannot be resized: this raises BufferError.
        self._data = None
        return bytes(memoryview(data)[:size])


def python_epoll_wait(epoll_fd: int) -> Wait:
    """Return a function that waits for events of the epoll descriptor ``epoll_fd``.

    Its argument is a number of seconds; it returns about 1,000 events at most. Signal handlers run
    while it waits. ``meter_of`` returns its meter. The fallback holds a duplicate of the
    descriptor, which ``release`` closes.
    """
    epoll = duplicate_epoll(epoll_fd)
    return PythonWaitMeter(epoll.poll, epoll.close).wait


def duplicate_epoll(epoll_fd: int) -> select.epoll:
    """Return an epoll object that owns a duplicate of the descriptor ``epoll_fd``.

    The two steps, ``os.dup`` and ``fromfd``, run inside a single call of C code: if a signal
    handler raised between them, the duplicate would stay open for ever.
    """
    return next(map(select.epoll.fromfd, map(os.dup, (epoll_fd,))))


def python_epoll_modify(epoll: select.epoll) -> Modify:
    """Return a function that modifies registrations of ``epoll``, which must stay open."""

    def modify(fd: int, mask: int) -> bool:
        try:
            epoll.modify(fd, mask)
        except OSError:
            return False
        return True

    return modify


def reopen(wait: Wait, epoll_fd: int) -> None:
    """Have ``wait`` use the epoll that is behind its descriptor ``epoll_fd`` now.

    The C function, which has the number only, does so anyway.
    """
    meter = meter_of(wait)
    if isinstance(meter, PythonWaitMeter):
        epoll = duplicate_epoll(epoll_fd)
        meter.replace(epoll.poll, epoll.close)


def release(wait: Wait) -> None:
    """Close the descriptor of a function from ``python_epoll_wait``; the C function has none."""
    meter_of(wait).close()


accept: Callable[[int], tuple[int, Any] | None] | None = None
"""Accepts a connection from a listening Internet socket, given by its descriptor.

Returns the new descriptor, which is non-blocking and close-on-exec, and the peer's address, or None
if no connection is waiting. Raises OSError for any other error. If this name is None, callers use
``socket.accept``.
"""

_set_native_simulator: Callable[[Simulator | None], None] | None = None

if TYPE_CHECKING or os.environ.get("RUNTIME_NO_ACCELERATOR"):
    from runtime.kernel.native.ring import PythonRing

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
    Ring = PythonRing
else:
    try:
        # With this form of the statement, only a missing module raises ModuleNotFoundError.
        import runtime.kernel.native._accelerator as _accelerator
    except ImportError as error:
        from runtime.kernel.native.ring import PythonRing

        if not isinstance(error, ModuleNotFoundError):
            from runtime.kernel.native.installation import REINSTALL

            warnings.warn(
                f"runtime continues without its accelerator: {error}. {REINSTALL}",
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
        Ring = PythonRing
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
        Ring = _accelerator.Ring
        accept = getattr(_accelerator, "accept", None)
        _set_native_simulator = _accelerator.set_simulator
        # The C module has these two only if the system has epoll.
        epoll_wait = getattr(_accelerator, "epoll_wait", python_epoll_wait)
        epoll_modify = getattr(_accelerator, "epoll_modify", python_epoll_modify)

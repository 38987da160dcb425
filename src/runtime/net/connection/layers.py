"""The two interfaces between the layers of a connection.

A connection is a stack of layers. A layer acts on the one below it by calling the methods of
``Lower``, and reports events to the one above it by calling the methods of ``Upper``::

    a user's protocol                 the streams                       Upper only: the top
      ProtocolAdapter                 StreamAdapter
         |  ^                            |  ^
         v  |                            v  |
                    [ TLSLayer ]  any number, usually none              both
                       |  ^
                       v  |
                    StreamSocket                                        Lower only: the bottom

The methods of an ``Upper`` are called in this order: first ``connected``, once. Then ``received``
for each piece of data, and ``pause_writing`` and ``resume_writing`` alternately. When the peer has
sent everything, ``ended``, at most once. At last ``lost``, once; no call follows it.

The bottom is the same for every address family: ``net.setup`` makes the connected socket, and
``StreamSocket`` serves it. Only a connection without a socket has another bottom, such as
``TransportPair``.

A top with ``wants_buffer`` set gets ``get_buffer`` and ``buffer_updated`` in place of ``received``.

``Upper`` is a class and ``Lower`` a trait because mypyc allows one compiled base class and any
number of traits: ``TLSLayer`` is both, and ``StreamSocket`` is a ``Watcher`` and a ``Lower``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, finish_future
from runtime.kernel.native import accelerator
from runtime.kernel.native.allocator import retain_large_blocks
from runtime.kernel.native.mypyc import trait


class Upper:
    """The interface through which a layer reports the events of a connection to the one above."""

    __slots__ = ("truncation_is_error", "uses_large_reads", "wants_buffer")

    def __init__(self) -> None:
        # Whether the peer's end without a close_notify of TLS is a failure, reported to ``lost``.
        self.truncation_is_error = True
        # Set by ``use_large_reads``.
        self.uses_large_reads = False
        # Whether the layer below may receive straight into the buffer that ``get_buffer`` returns.
        self.wants_buffer = False

    def use_large_reads(self) -> None:
        """Use the large receive size: the most that delays other connections acceptably."""
        self.uses_large_reads = True
        if not accelerator.has_accelerator:
            retain_large_blocks()  # The fallback allocates a large block for each receive.

    def get_protocol(self) -> object:
        """Return the asyncio protocol that the events reach in the end; None if there is none."""
        return None

    def connected(self) -> None:
        """Handle the event that the connection is established; called once writing is possible."""

    def received(self, data: bytes) -> None:
        """Handle received bytes; ``data`` is not empty."""
        raise NotImplementedError

    def get_buffer(self) -> Any:
        """Return a writable buffer to receive into, or None to receive nothing now.

        Called only while ``wants_buffer`` is set.
        """
        raise NotImplementedError

    def buffer_updated(self, size: int) -> None:
        """Handle ``size`` received bytes, at the beginning of the buffer from ``get_buffer``."""
        raise NotImplementedError

    def refused_buffer(self, error: Exception) -> None:
        """Handle ``error``: the object from ``get_buffer`` could not be received into."""
        raise NotImplementedError

    def ended(self) -> bool:
        """Handle the end of the peer's data; return True to keep the connection open for writing.

        False closes the connection.
        """
        raise NotImplementedError

    def lost(self, error: BaseException | None) -> None:
        """Handle the event that the connection is closed: by ``error``, or regularly if None."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Handle a write buffer that has grown beyond the high-water mark."""

    def resume_writing(self) -> None:
        """Handle a write buffer that has shrunk to the low-water mark."""


class Top(Upper):
    """The uppermost layer of a connection, which no other layer uses.

    Its user may be called on two of the events: ``connected`` and ``lost``.
    """

    __slots__ = ("_drain_waiters", "_on_connected", "_on_lost", "error", "writing_paused")

    def __init__(self) -> None:
        Upper.__init__(self)
        # Whether writers should wait, and the futures of those that are waiting.
        self.writing_paused = False
        self._drain_waiters: list[FutureCore] | None = None
        self._on_connected: Callable[[], object] | None = None
        self._on_lost: Callable[[Top], object] | None = None
        # The failure that ended the connection; None while it is open, or after a regular end.
        self.error: BaseException | None = None

    def call_when_connected(self, callback: Callable[[], object] | None) -> None:
        """Set the ``callback()`` for the moment when the connection is established."""
        self._on_connected = callback

    def call_when_lost(
        self, callback: Callable[[Top], object] | None
    ) -> Callable[[Top], object] | None:
        """Set the ``callback(self)`` for the connection's end; return the previous callback."""
        before = self._on_lost
        self._on_lost = callback
        return before

    def pass_on_connected(self) -> None:
        """Call the callback of ``call_when_connected``, once."""
        callback = self._on_connected
        if callback is not None:
            self._on_connected = None
            callback()

    def pass_on_lost(self) -> None:
        """Call the callback of ``call_when_lost``, once."""
        self._on_connected = None
        callback = self._on_lost
        if callback is not None:
            self._on_lost = None
            callback(self)

    def drained(self, loop: LoopCore) -> FutureCore:
        """Return a future that finishes when writing resumes, and fails with the connection."""
        waiter = loop.create_future()
        self._drain_waiters = with_waiter(self._drain_waiters, waiter)
        return waiter

    def wake_drainers(self, error: BaseException | None) -> None:
        """Finish the futures of ``drained()``: with a result, or with ``error`` if there is one."""
        waiters = self._drain_waiters
        self._drain_waiters = None
        for waiter in waiters or ():
            if waiter.done():
                continue
            if error is not None:
                waiter.set_exception(new_connection_error(error))
            else:
                finish_future(waiter, None)

    def close(self) -> None:
        """Send the write buffer, then close."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close now, and drop unsent bytes."""
        raise NotImplementedError

    def peername(self) -> object:
        """Return the peer's address, or None."""
        raise NotImplementedError


def with_waiter(waiters: list[FutureCore] | None, waiter: FutureCore) -> list[FutureCore]:
    """Return the list ``waiters`` with ``waiter`` added, or a new list if there is none yet.

    Each time the length reaches a power of two, the futures of cancelled waits are dropped, so that
    waits with a timeout do not let the list grow without end.
    """
    if waiters is None:
        return [waiter]
    size = len(waiters)
    if size & (size - 1) == 0:
        waiters = [each for each in waiters if not each.done()]
    waiters.append(waiter)
    return waiters


def new_connection_error(error: BaseException) -> BaseException:
    """Return a new exception for one more task that learns of the connection's failure ``error``.

    Each task gets an exception of its own, because every raise adds to an exception's traceback:
    an exception that two tasks raised would show the frames of both.
    """
    again = copy_exception(error) if isinstance(error, OSError) else None
    if again is None:
        again = ConnectionResetError("Connection lost")
    again.__cause__ = error
    return again


def copy_exception(error: BaseException) -> BaseException | None:
    """Return a copy of ``error``, including extra attributes such as those of ssl.SSLError.

    Returns None if the exception cannot be copied: a class whose constructor does not take
    ``error.args`` cannot.
    """
    try:
        return copy.copy(error)
    except Exception:
        return None


def view_of(data: Any) -> memoryview:
    """Return a contiguous view of ``data``, a bytes-like object other than ``bytes``.

    The bytes of a view with gaps, such as ``memoryview(data)[::2]``, are copied. Raises TypeError
    if ``data`` is not bytes-like.
    """
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(
            "data argument must be a bytes-like object, such as bytes, bytearray or memoryview, "
            f"not {type(data).__name__}"
        ) from None
    return view if view.c_contiguous else memoryview(view.tobytes())


def copy_of(data: Any) -> bytes:
    """Return a copy of ``data``, a bytes-like object but not ``bytes``; raise like ``view_of``."""
    return view_of(data).tobytes()


def join_parts(parts: list[Any]) -> bytes:
    """Return the concatenation of bytes-like objects. Raises TypeError as ``view_of`` does."""
    try:
        return b"".join(parts)
    except TypeError:
        # Either a part is a view with gaps, which ``copy_of`` accepts and ``join`` does not, or it
        # is not bytes-like, for which ``copy_of`` raises an error that says so.
        return b"".join([part if isinstance(part, bytes) else copy_of(part) for part in parts])


@trait
class Lower:
    """The interface through which a layer reads, writes and ends the connection below it."""

    __slots__ = ()

    def set_upper(self, upper: Upper) -> None:
        """Report events to ``upper`` from now on."""
        raise NotImplementedError

    def start(self) -> None:
        """Start receiving; call ``connected`` of the upper layer once the connection is ready."""
        raise NotImplementedError

    def announce_end(self, upper: Upper) -> None:
        """Report the end of the peer's data to ``upper``; close if its ``ended`` returns False."""
        stays_open = False
        try:
            stays_open = upper.ended()
        finally:
            # Close on KeyboardInterrupt too: ``ended`` is called once only, so that no later event
            # would close the connection.
            if not stays_open:
                self.close()

    def write(self, data: Any) -> None:
        """Send a bytes-like object: as much as possible at once, the rest later, in order.

        Never blocks. The caller may change ``data`` afterwards. Raises TypeError unless ``data`` is
        bytes-like, and RuntimeError after ``write_eof()``.
        """
        raise NotImplementedError

    def write_many(self, parts: list[Any]) -> None:
        """Send several bytes-like objects, in order."""
        raise NotImplementedError

    def send_joined(self) -> None:
        """Send the data that was collected in the current turn: see ``kernel.joined_writes``."""
        raise NotImplementedError

    def unsent_size(self) -> int:
        """Return the number of bytes that were written and not sent yet."""
        raise NotImplementedError

    def undelivered_size(self) -> int:
        """Return the number of written bytes that have not reached the peer's system yet.

        Sent bytes count as delivered if the system does not report acknowledgements.
        """
        raise NotImplementedError

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set the sizes of the write buffer, in bytes, at which writing is paused and resumed.

        Raises ValueError unless ``high >= low >= 0``.
        """
        raise NotImplementedError

    def water_marks(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Receive nothing until ``resume_reading``."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Receive again."""
        raise NotImplementedError

    def can_write_eof(self) -> bool:
        """Return whether ``write_eof`` is supported: ending one direction alone."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Send the end of the data once the write buffer is empty; receiving continues."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or being closed."""
        raise NotImplementedError

    def is_closed(self) -> bool:
        """Return whether the connection is closed: nothing can be sent any more."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop receiving, send the write buffer, then close."""
        raise NotImplementedError

    def fail(self, error: BaseException | None) -> None:
        """Close now and drop unsent bytes; ``error`` is the reason, None for an abort."""
        raise NotImplementedError

    def info(self, name: object) -> Any:
        """Return the value of ``name``, one of ``get_extra_info``'s; None if it is not known."""
        raise NotImplementedError

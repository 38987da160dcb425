"""The two interfaces between the layers of a connection.

A connection is a stack. Each part talks to the next one down through ``Lower``, and is told what
happens through ``Upper``::

    a user's protocol                 the streams                       Upper only: the top
      ProtocolAdapter                 StreamAdapter
         |  ^                            |  ^
         v  |                            v  |
                    [ TLSLayer ]  any number, usually none              both
                       |  ^
                       v  |
                    StreamSocket                                        Lower only: the bottom

What an ``Upper`` is told, in this order: ``connected`` once; ``received`` and, between them,
``pause_writing`` and ``resume_writing`` in turns; ``ended`` at most once; ``lost`` once, and
nothing after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, finish_future
from runtime.kernel.native import accelerator
from runtime.kernel.native.allocator import have_large_blocks_kept
from runtime.kernel.native.mypyc import trait


class Upper:
    """What is told of the events of a connection."""

    __slots__ = ("truncation_is_error", "uses_large_reads", "wants_buffer")

    def __init__(self) -> None:
        # Whether an end that TLS did not announce is a failure: ``lost`` is then told of it.
        self.truncation_is_error = True
        # Set by ``use_large_reads``.
        self.uses_large_reads = False
        # Whether the bottom may receive straight into what ``get_buffer`` gives.
        self.wants_buffer = False

    def use_large_reads(self) -> None:
        """Have as much received at once as others can wait for."""
        self.uses_large_reads = True
        if not accelerator.has_accelerator:
            have_large_blocks_kept()  # The fallback allocates such a block for each receive.

    def get_protocol(self) -> object:
        """Return the protocol that is told of the events; None when there is none."""
        return None

    def connected(self) -> None:
        """Take note that bytes can be sent from now on."""

    def received(self, data: bytes) -> None:
        """Take what was received, which is not empty."""
        raise NotImplementedError

    def get_buffer(self) -> Any:
        """Return a writable buffer to receive into, for one who ``wants_buffer``; None: not now."""
        raise NotImplementedError

    def buffer_updated(self, size: int) -> None:
        """Take note that the first ``size`` bytes of that buffer were received."""
        raise NotImplementedError

    def refused_buffer(self, error: Exception) -> None:
        """Take note that nothing could be received into that buffer."""
        raise NotImplementedError

    def ended(self) -> bool:
        """Take note that the peer sends no more; return whether writing goes on."""
        raise NotImplementedError

    def lost(self, error: BaseException | None) -> None:
        """Take note that the connection is closed: because of ``error``, or in good order."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Take note that more is unsent than the high-water mark."""

    def resume_writing(self) -> None:
        """Take note that no more is unsent than the low-water mark."""


class Top(Upper):
    """The upper part that no other stands on. It passes two of the events on."""

    __slots__ = ("_drain_waiters", "_on_connected", "_on_lost", "error", "writing_paused")

    def __init__(self) -> None:
        Upper.__init__(self)
        # Whether writers are to wait, and those that do.
        self.writing_paused = False
        self._drain_waiters: list[FutureCore] | None = None
        self._on_connected: Callable[[], object] | None = None
        self._on_lost: Callable[[Top], object] | None = None
        # What the connection was lost because of.
        self.error: BaseException | None = None

    def call_when_connected(self, callback: Callable[[], object] | None) -> None:
        """Have ``callback()`` called once bytes can be sent."""
        self._on_connected = callback

    def call_when_lost(
        self, callback: Callable[[Top], object] | None
    ) -> Callable[[Top], object] | None:
        """Have ``callback(self)`` called once the connection is closed; return the one before."""
        before = self._on_lost
        self._on_lost = callback
        return before

    def pass_on_connected(self) -> None:
        """Call what is to be called, once."""
        callback = self._on_connected
        if callback is not None:
            self._on_connected = None
            callback()

    def pass_on_lost(self) -> None:
        """Call what is to be called, once."""
        self._on_connected = None
        callback = self._on_lost
        if callback is not None:
            self._on_lost = None
            callback(self)

    def drained(self, loop: LoopCore) -> FutureCore:
        """Return what to await until enough was sent; it fails when the connection does."""
        waiter = loop.create_future()
        if self._drain_waiters is None:
            self._drain_waiters = []
        self._drain_waiters.append(waiter)
        return waiter

    def wake_drainers(self, error: BaseException | None) -> None:
        """Let go whoever waits in ``drained()``, with an error or without."""
        waiters = self._drain_waiters
        self._drain_waiters = None
        for waiter in waiters or ():
            if waiter.done():
                continue
            if error is not None:
                waiter.set_exception(lost(error))
            else:
                finish_future(waiter, None)

    def close(self) -> None:
        """Send what was written, then close."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close now; what was not sent is dropped."""
        raise NotImplementedError

    def peername(self) -> object:
        """Return the peer's address, or None."""
        raise NotImplementedError


def lost(error: BaseException) -> BaseException:
    """Return the exception for one more of those that a connection's failure is told to.

    Each gets its own: an exception that is raised twice carries two tracebacks.
    """
    again = copied(error) if isinstance(error, OSError) else None
    if again is None:
        again = ConnectionResetError("Connection lost")
    again.__cause__ = error
    return again


def copied(error: BaseException) -> BaseException | None:
    """Return a copy of ``error``, with attributes that only some have: those of ssl.SSLError.

    Returns None when its class cannot be copied, as one whose constructor takes other arguments.
    """
    try:
        return copy.copy(error)
    except Exception:
        return None


def view_of(data: Any) -> memoryview:
    """Return the bytes of something bytes-like that is no ``bytes``, without gaps.

    Raises TypeError when it is not bytes-like.
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
    """Return a copy of something bytes-like that is no ``bytes``; raise as ``view_of`` does."""
    return view_of(data).tobytes()


def joined(parts: list[Any]) -> bytes:
    """Return several bytes-like objects in one."""
    try:
        return b"".join(parts)
    except TypeError:
        # All are bytes-like, but one has gaps; or one is not, and this says so.
        return b"".join([part if isinstance(part, bytes) else copy_of(part) for part in parts])


@trait
class Lower:
    """What bytes are sent through, and what the connection is ended by."""

    __slots__ = ()

    def set_upper(self, upper: Upper) -> None:
        """Tell ``upper`` of what happens from now on."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin: tell the upper part that it is connected as soon as it is, and receive."""
        raise NotImplementedError

    def announce_end(self, upper: Upper) -> None:
        """Tell ``upper`` that the peer sends no more; close, unless it goes on to send."""
        goes_on = False
        try:
            goes_on = upper.ended()
        finally:
            # Also on KeyboardInterrupt: the end is announced once.
            if not goes_on:
                self.close()

    def write(self, data: Any) -> None:
        """Send a bytes-like object: at once what can be sent, and the rest later, in order.

        Never blocks. ``data`` may be changed afterwards. Raises TypeError unless it is bytes-like,
        and RuntimeError after ``write_eof()``.
        """
        raise NotImplementedError

    def write_many(self, parts: list[Any]) -> None:
        """Send several bytes-like objects, in order."""
        raise NotImplementedError

    def unsent_size(self) -> int:
        """Return how many bytes were written and not sent yet."""
        raise NotImplementedError

    def undelivered_size(self) -> int:
        """Return how many bytes were written and have not reached the peer's system yet.

        Where the system does not tell, what was sent counts as delivered.
        """
        raise NotImplementedError

    def set_water_marks(self, high: Size | None, low: Size | None) -> None:
        """Set the unsent bytes above which writing is held, and those at which it is resumed.

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
        """Return whether one direction can be ended alone."""
        raise NotImplementedError

    def write_eof(self) -> None:
        """Announce the end once everything written was sent; receiving goes on."""
        raise NotImplementedError

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or being closed."""
        raise NotImplementedError

    def is_closed(self) -> bool:
        """Return whether the connection is closed: nothing can be sent any more."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop receiving, send what was written, then close."""
        raise NotImplementedError

    def fail(self, error: BaseException | None) -> None:
        """Close now, because of ``error`` or of nothing; what was not sent is dropped."""
        raise NotImplementedError

    def info(self, name: object) -> Any:
        """Return what is known under a name of ``get_extra_info``, or None."""
        raise NotImplementedError

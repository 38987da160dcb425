"""Waiting for descriptors: the callbacks of ``add_reader`` and ``add_writer``, and tasks.

A descriptor that does not belong to a connection has one ``DescriptorWatcher``. For each direction,
reading and writing, it has two slots, of which at most one is in use: a callback, which is called
at each event until it is removed, or the ``Readiness`` that a task awaits, which is for one event.

If there is a callback, the poller watches the descriptor continuously. If there are only tasks, it
is armed for the next event, and the watcher stays registered with the poller between the waits, so
that a task that waits again and again for the same descriptor needs one system call for each wait.
If a socket object is known that has the descriptor, its registration is kept armed from the second
wait on, and a wait needs no system call, as long as no bytes arrive between the waits. If the
socket is closed meanwhile, the watcher is stale. This is detected when the number of the descriptor
is used again: see ``poller.py``. The idioms for mypyc: see ``native/mypyc.py``.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any, Final

from runtime.kernel.arguments.callables import check_callback
from runtime.kernel.arguments.file_descriptors import HasFileno, descriptor
from runtime.kernel.diagnostics.describe import creation_stack, format_repr
from runtime.kernel.future import (
    FutureCore,
    fail_future,
    failure_of,
    finish_future,
    init_future,
    plain_futures,
)
from runtime.kernel.handles import Handle
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.watcher import READ, WRITE, Watcher

FileDescriptor = int | HasFileno

_UNKEPT_WAITS: Final = 32
"""Waits whose registration is not kept after an event had come while no task waited."""


class Readiness(FutureCore):
    """The future that a task awaits, once, until a descriptor is readable or writable.

    The end of the wait, in whatever way, frees the descriptor for another task.
    """

    __slots__ = ("_watcher",)

    def __init__(self, loop: Scheduler, watcher: DescriptorWatcher) -> None:
        init_future(self, loop)
        self._watcher = watcher

    def __await__(self) -> Generator[Any, None, Any]:
        return _await_readiness(self)

    def __repr__(self) -> str:
        name = f"Readiness of {self._watcher!r}"
        return format_repr(name, self._describe_state, self._describe_briefly)


plain_futures.add(Readiness)


def _await_readiness(readiness: Readiness | None) -> Generator[Any, None, Any]:
    # The frame drops its references to a failed future, as future._await() does.
    assert readiness is not None
    if not readiness.done():
        readiness._asyncio_future_blocking = True
        try:
            yield readiness
        except BaseException:
            readiness._watcher.give_up(readiness)
            readiness = None
            raise
    error = failure_of(readiness)
    if error is not None:
        readiness._watcher.give_up(readiness)
        readiness = None
        try:
            raise error
        finally:
            del error
    return None


class DescriptorWatcher(Watcher):
    """The callbacks and the waiting tasks of one descriptor."""

    __slots__ = (
        "_loop",
        "_sock",
        "_unkept_waits",
        "emptied_in",
        "reader",
        "reader_object",
        "reading",
        "writer",
        "writer_object",
        "writing",
    )

    def __init__(self, fd: int, loop: Scheduler) -> None:
        Watcher.__init__(self, fd)
        self._loop = loop
        # Callbacks.
        self.reader: Handle | None = None
        self.writer: Handle | None = None
        # The objects that were given to add_reader() and add_writer(). If an object is closed, it
        # no longer has a descriptor number, and remove_reader() finds the watcher by the object.
        self.reader_object: Any = None
        self.writer_object: Any = None
        # The futures that tasks await.
        self.reading: Readiness | None = None
        self.writing: Readiness | None = None
        # The turn of the loop in which a read last emptied the descriptor.
        self.emptied_in = -1
        # The socket object for which a task last waited to read, if it is known; and the number of
        # its waits to come whose registration is not kept.
        self._sock: weakref.ref[Any] | None = None
        self._unkept_waits = 0

    def begin_reading(self, readiness: Readiness, sock: object) -> None:
        """Begin a wait for reading, by the socket object ``sock`` if it is not None.

        Raises OSError if the descriptor cannot be watched.
        """
        self.reading = readiness
        if sock is None:
            self._sock = None
        elif self._sock is None or self._sock() is not sock:
            self._sock = weakref.ref(sock)
            self._unkept_waits = 1
        elif self._unkept_waits:
            self._unkept_waits -= 1
        elif not self.events and self._loop._poller.kept.resume(self):
            return
        try:
            self.update()
        except BaseException:
            self.reading = None
            raise

    def on_unwanted(self) -> None:
        """Have the next waits armed for one event each: bytes arrive between them."""
        self._unkept_waits = _UNKEPT_WAITS

    def on_fired(self, readable: bool, writable: bool) -> None:
        """Wake the tasks whose event it was; arm the descriptor again for the others."""
        if readable:
            self._wake_reading()
        if writable:
            self._wake_writing()
        if self.reading is not None or self.writing is not None:
            # A task that only writes may wait by another socket object, under the same number.
            is_event = readable or writable
            if not is_event and self.reading is not None and self._is_sock_closed():
                self._loop._poller.watch(self, 0)
                self.on_lost()
                return
            self.watch_remaining()

    def _is_sock_closed(self) -> bool:
        """Return whether the socket object of the reader is known and was closed or detached."""
        if self._sock is None:
            return False
        sock = self._sock()
        return sock is None or sock.fileno() != self.fd

    def on_readable(self) -> None:
        """Queue the callback, or wake the task."""
        if self.reader is not None:
            self._loop._ready_append(self.reader)
        elif self.reading is not None:
            self._wake_reading()
            self.watch_remaining()

    def on_writable(self) -> None:
        """Queue the callback, or wake the task."""
        if self.writer is not None:
            self._loop._ready_append(self.writer)
        elif self.writing is not None:
            self._wake_writing()
            self.watch_remaining()

    def _wake_reading(self) -> None:
        waiting = self.reading
        if waiting is not None:
            # In this order, so that an interrupt between the two does not lose the event.
            if not waiting.done():
                finish_future(waiting, None)
            self.reading = None

    def _wake_writing(self) -> None:
        waiting = self.writing
        if waiting is not None:
            if not waiting.done():
                finish_future(waiting, None)
            self.writing = None

    def watch_remaining(self) -> None:
        """Watch the events that are still waited for; the descriptor may be closed by now."""
        try:
            self.update()
        except OSError:
            self.on_lost()

    def on_lost(self) -> None:
        """Drop the callbacks, and make the waits of tasks fail: the descriptor was closed."""
        self._drop_all(is_closed=True)

    def on_taken_over(self) -> None:
        """Drop the callbacks, and make the waits of tasks fail: a connection watches the file."""
        self._drop_all(is_closed=False)

    def _drop_all(self, is_closed: bool) -> None:
        for handle in (self.reader, self.writer):
            if handle is not None:
                handle.cancel()
        self.reader = self.writer = None
        self.reader_object = self.writer_object = None
        for waiting in (self.reading, self.writing):
            if waiting is not None and not waiting.done():
                fail_future(waiting, _closed(self.fd) if is_closed else _passed_on(self.fd))
        self.reading = self.writing = None

    def on_closed(self) -> None:
        """Call ``on_lost``, and report the loss of callbacks, which no task would notice."""
        has_callbacks = self.reader is not None or self.writer is not None
        self.on_lost()
        if has_callbacks:
            self._loop.call_exception_handler(
                {
                    "message": f"File descriptor {self.fd} was closed while it was watched: its "
                    "callbacks are not called any more. Call remove_reader() and remove_writer() "
                    "before closing it",
                    "exception": OSError(errno.EBADF, os.strerror(errno.EBADF)),
                }
            )

    def give_up(self, readiness: Readiness) -> None:
        """End a wait before its event."""
        if self.reading is readiness:
            self.reading = None
        elif self.writing is readiness:
            self.writing = None
        else:
            return
        self.watch_remaining()

    def update(self) -> None:
        """Make the poller watch exactly the events that callbacks and tasks wait for."""
        events = 0
        if self.reader is not None or self.reading is not None:
            events = READ
        if self.writer is not None or self.writing is not None:
            events |= WRITE
        poller = self._loop._poller
        if events and self.reader is None and self.writer is None:
            keep = events == READ and self._sock is not None and not self._unkept_waits
            poller.arm(self, events, keep)
        else:
            poller.watch(self, events)

    def is_stale(self) -> bool:
        """Return whether the descriptor was closed, so that its number means another file now.

        If so, ``on_lost`` is called, and the watcher is as new.
        """
        if self._loop._poller.is_same_file(self):
            return False
        self._loop._poller.watch(self, 0)
        self.on_lost()
        return True

    def __repr__(self) -> str:
        return f"<file descriptor {self.fd}>"


def _watcher_of(loop: Scheduler, fd: int) -> DescriptorWatcher:
    watcher = loop._poller.watcher(fd)
    if isinstance(watcher, DescriptorWatcher):
        return watcher
    if watcher is not None:
        _check_unused(loop, fd, watcher)
    loop._check_open()
    # If there is a stale watcher, the poller calls its on_lost() when it registers the new one.
    return DescriptorWatcher(fd, loop)


def _check_unused(loop: Scheduler, fd: int, watcher: Watcher) -> None:
    """Raise RuntimeError if ``fd`` still belongs to ``watcher``, which is a connection's."""
    if loop._poller.is_same_file(watcher):
        raise RuntimeError(
            f"File descriptor {fd} is used by transport {watcher!r}: close the transport before "
            "you watch the descriptor"
        )


# -- Tasks -----------------------------------------------------------------------------------------


def readable(loop: Scheduler, fd: int, sock: object = None) -> Readiness:
    """Return a future that ends when ``fd`` is readable. It must be awaited at once, and once.

    ``sock`` is the open socket object that has the descriptor. If it is given, the future may also
    end without reason, so that a read must not block. Raises RuntimeError if another task or a
    callback already waits until ``fd`` is readable, and OSError if it cannot be watched.
    """
    watcher = _watcher_of(loop, fd)
    if (
        watcher.events
        and not watcher.is_stale()
        and (watcher.reader is not None or _is_pending(watcher.reading))
    ):
        raise _taken(fd)
    readiness = Readiness(loop, watcher)
    watcher.begin_reading(readiness, sock)
    return readiness


def writable(loop: Scheduler, fd: int) -> Readiness:
    """Return a future that ends when ``fd`` is writable. It must be awaited at once, and once.

    Raises RuntimeError if another task or a callback already waits until ``fd`` is writable, and
    OSError if it cannot be watched.
    """
    watcher = _watcher_of(loop, fd)
    if (
        watcher.events
        and not watcher.is_stale()
        and (watcher.writer is not None or _is_pending(watcher.writing))
    ):
        raise _taken(fd)
    readiness = Readiness(loop, watcher)
    watcher.writing = readiness
    try:
        watcher.update()
    except BaseException:
        watcher.writing = None
        raise
    return readiness


def _is_pending(waiting: Readiness | None) -> bool:
    """Return whether a task still waits; a cancelled task keeps its slot until it runs."""
    return waiting is not None and not waiting.done()


def _closed(fd: int) -> OSError:
    return OSError(
        errno.EBADF,
        f"file descriptor {fd} was closed while a task waited for it: end the task first",
    )


def _passed_on(fd: int) -> RuntimeError:
    return RuntimeError(
        f"file descriptor {fd} was passed to a stream, a transport or a server while a task waited "
        "for it: end the task first"
    )


def _taken(fd: int) -> RuntimeError:
    return RuntimeError(
        f"file descriptor {fd} is waited for already: one task, or one callback, at a time"
    )


# -- Callbacks -------------------------------------------------------------------------------------


def add_reader(
    loop: Scheduler, fd: FileDescriptor, callback: Callable[..., object], args: tuple[Any, ...]
) -> Handle:
    """Call ``callback(*args)`` whenever ``fd`` is readable, replacing an earlier reader."""
    check_callback(callback, "add_reader")
    watcher = _watcher_for_callback(loop, fd)
    if _is_pending(watcher.reading):
        raise _taken(watcher.fd)
    handle = _handle(loop, callback, args)
    if watcher.reader is not None:
        # The earlier reader may be stale: its descriptor was closed, and the number is used again.
        watcher.reader.cancel()
        loop._poller.reregister(watcher)
    else:
        loop._poller.watch(watcher, watcher.events | READ)
    watcher.reader = handle
    watcher.reader_object = fd
    return handle


def add_writer(
    loop: Scheduler, fd: FileDescriptor, callback: Callable[..., object], args: tuple[Any, ...]
) -> Handle:
    """Call ``callback(*args)`` whenever ``fd`` is writable, replacing an earlier writer."""
    check_callback(callback, "add_writer")
    watcher = _watcher_for_callback(loop, fd)
    if _is_pending(watcher.writing):
        raise _taken(watcher.fd)
    handle = _handle(loop, callback, args)
    if watcher.writer is not None:
        # The earlier writer may be stale: its descriptor was closed, and the number is used again.
        watcher.writer.cancel()
        loop._poller.reregister(watcher)
    else:
        loop._poller.watch(watcher, watcher.events | WRITE)
    watcher.writer = handle
    watcher.writer_object = fd
    return handle


def _handle(loop: Scheduler, callback: Callable[..., object], args: tuple[Any, ...]) -> Handle:
    handle = Handle(callback, args, loop, copy_context())
    if loop._debug:
        handle._source_traceback = creation_stack()
    return handle


def _watcher_for_callback(loop: Scheduler, fd: FileDescriptor) -> DescriptorWatcher:
    loop._check_open()
    if loop._debug:
        loop._check_thread()
    watcher = _watcher_of(loop, descriptor(fd))
    if watcher.events:
        watcher.is_stale()  # If so, this drops its callbacks and tasks, and it can be reused.
    return watcher


def _watcher_to_quit(loop: Scheduler, fd: FileDescriptor) -> DescriptorWatcher | None:
    try:
        number = descriptor(fd)
    except ValueError:
        closed = _watcher_of_closed(loop, fd)
        if closed is None:
            raise
        return closed
    watcher = loop._poller.watcher(number)
    if watcher is None or isinstance(watcher, DescriptorWatcher):
        return watcher
    _check_unused(loop, number, watcher)
    return None


def _watcher_of_closed(loop: Scheduler, given: object) -> DescriptorWatcher | None:
    """Return the watcher of a socket or file object that was closed after it was added."""
    for watcher in loop._poller.watchers():
        if isinstance(watcher, DescriptorWatcher) and (
            watcher.reader_object is given or watcher.writer_object is given
        ):
            return watcher
    return None


def _is_closed(fd: FileDescriptor) -> bool:
    try:
        descriptor(fd)
    except ValueError:
        return True
    return False


def remove_reader(loop: Scheduler, fd: FileDescriptor) -> bool:
    """Stop watching ``fd`` for reading. Returns whether there was a reader."""
    watcher = _watcher_to_quit(loop, fd)
    if watcher is None or watcher.reader is None:
        return False
    watcher.reader.cancel()
    watcher.reader = None
    watcher.reader_object = None
    if watcher.writer is None or not _is_closed(fd):
        watcher.watch_remaining()
    return True


def remove_writer(loop: Scheduler, fd: FileDescriptor) -> bool:
    """Stop watching ``fd`` for writing. Returns whether there was a writer."""
    watcher = _watcher_to_quit(loop, fd)
    if watcher is None or watcher.writer is None:
        return False
    watcher.writer.cancel()
    watcher.writer = None
    watcher.writer_object = None
    if watcher.reader is None or not _is_closed(fd):
        watcher.watch_remaining()
    return True

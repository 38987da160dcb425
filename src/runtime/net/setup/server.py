"""Servers: listening sockets and the connections that they accepted.

A listener accepts connections in batches. A batch is one connection at first. It is doubled while
every batch is full, up to ``_BATCH``, and is one again once no connection is waiting. Between two
batches the loop serves the existing connections: to accept one and start its handler takes as long
as to answer several requests, and a burst of new connections must not delay the others.

If the process or the system has no descriptor left, the listener stops watching its socket for a
second. Otherwise the selector would report the waiting connection again in every turn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from runtime.kernel.api.running import current_task
from runtime.kernel.arguments.seconds import Seconds, seconds
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import safe_repr
from runtime.kernel.errors import CancelledError
from runtime.kernel.native import accelerator
from runtime.kernel.poller import file_identity
from runtime.kernel.public_types import Future
from runtime.kernel.watcher import READ, Watcher
from runtime.net.setup.unix_sockets import SocketFile
from runtime.net.sockets.checks import set_no_delay

_BATCH: Final = 4
"""Connections that a listener accepts in one turn at most."""

_REST: Final = 1.0
"""Seconds before a listener accepts again after there was no descriptor left."""

_LAST_GRACE: Final = 1.0
"""Seconds that ``shutdown`` waits after closing connections, and after cancelling handlers."""

_SHUTDOWN_TIMEOUT: Final = 1.0
"""Default of ``Server.shutdown_timeout``, in seconds."""

_REPORT_AFTER: Final = 5.0
"""Seconds of waiting for connections after which a warning names their peers."""

_NAMED_MOST: Final = 5
"""Connections, or handlers, that the warning names at most."""

_logger: Final = logging.getLogger("asyncio")

_NON_BLOCKING_STREAM: Final[int] = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
_INHERITS_NO_DELAY: Final = sys.platform == "linux"

_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Closable(Protocol):
    """The interface of a connection that its server uses."""

    def close(self) -> None:
        """Send the written data, then close."""

    def abort(self) -> None:
        """Close now, and drop unsent data."""

    def peername(self) -> object:
        """Return the peer's address, or None."""


Accept = Callable[[socket.socket, Any], object]
"""Function that makes a connection from an accepted socket, and the peer's address."""


class _Listener(Watcher):
    """One listening socket, which passes each accepted socket to ``accept``."""

    def __init__(self, loop: LoopCore, sock: socket.socket, accept: Accept) -> None:
        super().__init__(sock.fileno())
        self.sock = sock
        self._loop = loop
        self._accept = accept
        self._batch = 1
        self._resumption: Any = None
        # Device and inode of the socket, while the listener rests.
        self._file: tuple[int, int] | None = None
        self._family = int(sock.family)
        # Not for a subclass of socket, which may override accept().
        self._by_accelerator = (
            accelerator.accept is not None
            and type(sock) is socket.socket
            and sock.family in (socket.AF_INET, socket.AF_INET6)
        )

    def start(self, backlog: int) -> None:
        # On Linux accepted sockets inherit the option, which saves a call for each of them.
        set_no_delay(self.sock)
        self.sock.listen(backlog)
        self._loop._poller.watch(self, READ)

    def stop(self) -> None:
        """Accept nothing: another listener may be made for the socket later."""
        self._loop._poller.watch(self, 0)

    def on_readable(self) -> None:
        if self.sock.fileno() != self.fd:
            self._stop()
            return
        for _ in range(self._batch):
            try:
                accepted = self._take()
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._rest(error)
                elif error.errno == errno.EBADF or not self._loop._poller.is_same_file(self):
                    self._stop()
                elif error.errno == errno.EINVAL:
                    self._shut_down()
                else:
                    raise
                return
            if accepted is None:
                self._batch = 1
                return
            client, address = accepted
            self._loop._accepted += 1
            try:
                self._accept(client, address)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._report_refused(error, address)
            if not self.events:
                return  # ``_accept`` has closed the server.
        self._batch = min(2 * self._batch, _BATCH)

    def _take(self) -> tuple[socket.socket, Any] | None:
        """Accept a connection; return its non-blocking socket and the peer's address."""
        if not self._by_accelerator:
            try:
                client, address = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return None
            client.setblocking(False)
            if not _INHERITS_NO_DELAY:
                set_no_delay(client)
            return client, address
        assert accelerator.accept is not None
        found = accelerator.accept(self.fd)
        if found is None:
            return None
        fd, address = found
        try:
            return socket.socket(self._family, _NON_BLOCKING_STREAM, 0, fd), address
        except BaseException:
            os.close(fd)
            raise

    def _report_refused(self, error: BaseException, address: object) -> None:
        self._loop.call_exception_handler(
            {
                "message": f"Error on transport creation for incoming connection from {address!r}",
                "exception": error,
                "socket": self.sock,
            }
        )

    def _rest(self, error: OSError) -> None:
        """Accept nothing for ``_REST`` seconds, because of ``error``."""
        self._batch = 1
        self._loop._poller.watch(self, 0)
        self._file = file_identity(self.fd)
        # Before the handler is called, which may close the server.
        self._resumption = self._loop.call_later(_REST, self._resume)
        self._loop.call_exception_handler(
            {
                "message": f"socket.accept() out of system resource; resting for {_REST} s",
                "exception": error,
                "socket": self.sock,
            }
        )

    def _resume(self) -> None:
        self._resumption = None
        if self.sock.fileno() != self.fd or file_identity(self.fd) != self._file:
            # Other code has closed the socket, and its number may belong to another file by now.
            self.on_lost()
            return
        self._loop._poller.watch(self, READ)

    def _stop(self) -> None:
        self._loop._poller.watch(self, 0)
        self.on_lost()

    def _shut_down(self) -> None:
        """Stop watching a socket that was shut down, perhaps by another process that shares it."""
        self._loop._poller.watch(self, 0)
        self._loop.call_exception_handler(
            {
                "message": "A listening socket was shut down by other code than its server, which "
                "therefore accepts no more connections",
                "socket": self.sock,
            }
        )

    def on_lost(self) -> None:
        if self.sock.fileno() == self.fd:
            # The descriptor was closed without the socket object, and its number may belong to
            # another file by now: the socket object must not close it.
            self.sock.detach()
        self._loop.call_exception_handler(
            {
                "message": "A listening socket was closed by other code than its server",
                "socket": self.sock,
            }
        )

    def close(self) -> None:
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None
        self._loop._poller.watch(self, 0)
        self.sock.close()

    def __repr__(self) -> str:
        return f"<listener {self.sock!r}>"


class Server(asyncio.AbstractServer):
    """Listening sockets and the connections that they accepted.

    As an asynchronous context manager, the server is closed at the end of the block, which then
    waits for its connections, however long they take. If an exception or a cancellation leaves the
    block, the server ends with ``shutdown(shutdown_timeout)``.

    Source: ``asyncio.Server`` in the standard library's documentation.
    """

    def __init__(
        self,
        loop: LoopCore,
        sockets: Sequence[socket.socket],
        backlog: int,
        file: SocketFile | None = None,
    ) -> None:
        self._loop = loop
        # The file of a Unix socket, to be removed when the server is closed.
        self._file = file
        self._listeners: list[_Listener] | None = None
        self._sockets = list(sockets)
        self._backlog = backlog
        self._accept: Accept | None = None
        self._serving = False
        self._clients: set[Closable] = set()
        # The tasks of ``start_server``'s callbacks, and the tasks that are inside ``shutdown``. A
        # task may be in both sets: a handler that shuts the server down.
        self._handlers: set[Any] = set()
        self._shutting_down: set[Any] = set()
        self._shutdown_timeout: float | None = _SHUTDOWN_TIMEOUT
        # Dictionaries without values, from which any waiter is removed without a search.
        self._closed_waiters: dict[Future[None], None] = {}
        self._shutdown_waiters: dict[Future[None], None] = {}
        self._serving_forever: Future[None] | None = None
        # The timer of the warning about a long wait.
        self._report_timer: Any = None

    # -- For the code that makes the connections ---------------------------------------------------

    def _serve_with(self, accept: Accept, start: bool) -> None:
        """Set the function for accepted sockets; start serving unless ``start`` is False."""
        self._accept = accept
        if start:
            try:
                self._begin()
            except BaseException:
                self.close()
                raise

    def _attach(self, client: Closable) -> None:
        """Add a connection to those of the server."""
        self._clients.add(client)

    def _detach(self, client: Closable) -> None:
        """Note that a connection has ended."""
        self._clients.discard(client)
        self._wake_if_over()

    def _attach_handler(self, task: Any) -> None:
        """Add a task to those that ``shutdown`` waits for."""
        self._handlers.add(task)

    def _detach_handler(self, task: Any) -> None:
        """Note that a handler has ended."""
        self._handlers.discard(task)
        self._wake_if_over()

    # -- For users ---------------------------------------------------------------------------------

    def get_loop(self) -> Any:
        """Return the loop that the server belongs to."""
        return self._loop

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets, as ``TransportSocket``; empty once the server is closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets)

    def is_serving(self) -> bool:
        """Return whether the server accepts connections."""
        return self._serving

    @property
    def shutdown_timeout(self) -> float | None:
        """The ``timeout`` of the ``shutdown`` that follows an exception or a cancellation.

        It is in seconds, 1 by default; None waits until the last connection has ended. The end of
        ``async with server`` and ``serve_forever()`` use it.
        """
        return self._shutdown_timeout

    @shutdown_timeout.setter
    def shutdown_timeout(self, timeout: Seconds | None) -> None:
        self._shutdown_timeout = _limit_of(timeout, "shutdown_timeout")

    def _begin(self) -> None:
        """Start to listen and accept. Raises RuntimeError if the server is closed."""
        if self._serving:
            return
        if not self._sockets or self._accept is None:
            raise RuntimeError(f"{self!r} is closed; it cannot serve again")
        listeners: list[_Listener] = []
        try:
            for sock in self._sockets:
                listener = _Listener(self._loop, sock, self._accept)
                listeners.append(listener)
                listener.start(self._backlog)
        except BaseException:
            for listener in listeners:
                listener.stop()
            raise
        self._listeners = listeners
        self._serving = True

    async def start_serving(self) -> None:
        """Start to accept connections; do nothing if the server accepts already.

        Raises RuntimeError if the server is closed.
        """
        self._begin()

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, then call ``shutdown(shutdown_timeout)``.

        If no task handles a connection, as with protocols, the connections are closed at once.
        A second cancellation interrupts the shutdown. Raises RuntimeError if the server is closed,
        or if another task is in this method.
        """
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._begin()
        self._serving_forever = self._loop.create_future()
        try:
            await self._serving_forever
        except CancelledError:
            if not self._handlers:
                # The connections of protocols: no task learns that they should end.
                self.close_clients()
            await self.shutdown(self._shutdown_timeout)
            raise
        finally:
            self._serving_forever = None

    def close(self) -> None:
        """Stop accepting and close the listening sockets; connections continue."""
        if not self._sockets:
            return
        if self._file is not None:
            self._file.remove()
        listeners, self._listeners = self._listeners, None
        sockets = list(self._sockets)
        self._sockets.clear()
        for listener in listeners or ():
            listener.close()
        for sock in sockets:
            sock.close()
        self._accept = None  # Break the reference cycle of the acceptor and the server.
        self._serving = False
        waiting = self._serving_forever
        if waiting is not None and not waiting.done():
            waiting.cancel()
        self._wake_if_over()

    def close_clients(self) -> None:
        """Close each connection once its written data was sent."""
        for client in list(self._clients):
            client.close()

    def abort_clients(self) -> None:
        """Close all connections now, and drop unsent data."""
        for client in list(self._clients):
            client.abort()

    async def shutdown(self, timeout: Seconds | None = None) -> None:
        """Close the server, and wait until its connections and handlers have ended.

        The handlers are the tasks of ``start_server``'s callbacks. After ``timeout`` seconds the
        remaining connections are closed: their written data is sent first, and their readers find
        the end of the stream. After one more second, they are aborted, and the remaining handlers
        are cancelled. After yet another second, a handler that ignores its cancellation is reported
        to the loop's exception handler. So with a timeout, the method always returns. It does not
        wait for the task that calls it. A cancellation leaves connections and handlers as they are.
        """
        limit = _limit_of(timeout, "shutdown()")
        self.close()
        caller = current_task()
        self._shutting_down.add(caller)
        try:
            if await self._ended_within(limit):
                return
            self.close_clients()
            if await self._ended_within(_LAST_GRACE):
                return
            self.abort_clients()
            for task in self._handlers - self._shutting_down:
                task.cancel("The server was shut down.")
            if not await self._ended_within(_LAST_GRACE):
                self._report_handlers()
                await self.wait_closed()
        finally:
            self._shutting_down.discard(caller)

    async def _ended_within(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds for connections and handlers; return whether all ended."""
        # The wait of another task that is inside ``shutdown`` may be over: it does not wait for
        # handlers that are inside ``shutdown`` themselves, as this task now is.
        self._wake_if_over()
        if self._is_over():
            return True
        waiter: Future[None] = self._loop.create_future()
        self._shutdown_waiters[waiter] = None
        expiry = None
        if timeout is not None:
            expiry = self._loop.call_later(timeout, _finish, waiter)
        else:
            self._report_later()
        try:
            await waiter
        finally:
            if expiry is not None:
                expiry.cancel()
            self._shutdown_waiters.pop(waiter, None)
            self._stop_report()
        return self._is_over()

    def _is_over(self) -> bool:
        return not self._clients and self._handlers <= self._shutting_down

    def _report_handlers(self) -> None:
        for task in self._handlers - self._shutting_down:
            self._loop.call_exception_handler(
                {"message": f"A handler continues after its cancellation: {self!r}", "task": task}
            )

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its last connection has ended. Cancellation safe.

        On every version of Python it waits for ``close()`` if the server is still open, and then
        for the connections that continue. Use ``shutdown(timeout)`` for a wait that always ends.
        """
        if not self._sockets and not self._clients:
            return
        waiter: Future[None] = self._loop.create_future()
        self._closed_waiters[waiter] = None
        if not self._sockets:
            self._report_later()
        try:
            await waiter
        finally:
            self._closed_waiters.pop(waiter, None)
            self._stop_report()

    def _report_later(self) -> None:
        """Start the timer that logs a warning if the closed server waits for long."""
        if self._report_timer is None:
            self._report_timer = self._loop.call_later(_REPORT_AFTER, self._report_waiting)

    def _stop_report(self) -> None:
        if self._report_timer is not None and not (self._closed_waiters or self._shutdown_waiters):
            self._report_timer.cancel()
            self._report_timer = None

    def _report_waiting(self) -> None:
        self._report_timer = None
        clients = [client.peername() for client in self._clients]
        handlers = self._handlers - self._shutting_down
        if clients:
            # A client on a Unix socket usually has no address.
            names = ", ".join(str(name or "a nameless peer") for name in clients[:_NAMED_MOST])
            if len(clients) > _NAMED_MOST:
                names += f" and {len(clients) - _NAMED_MOST} more"
            awaited = f"{_counted(len(clients), 'connection')} from {names}"
        else:
            awaited = f"{_counted(len(handlers), 'handler')}: {list(handlers)[:_NAMED_MOST]}"
        _logger.warning(
            "A closed server is waiting for %s. End them at either side, or bound the wait by "
            "Server.shutdown(timeout).",
            awaited,
        )

    def _wake_if_over(self) -> None:
        if self._sockets or self._clients:
            return
        _finish_all(self._closed_waiters)
        if self._shutdown_waiters and self._is_over():
            _finish_all(self._shutdown_waiters)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        if exc[0] is GeneratorExit:
            # The coroutine is being closed: it must not await.
            self.abort_clients()
        elif exc[0] is not None:
            await self.shutdown(self._shutdown_timeout)
        else:
            try:
                await self.wait_closed()
            except CancelledError:
                await self.shutdown(self._shutdown_timeout)
                raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={safe_repr(self.sockets)}>"


def _limit_of(timeout: Seconds | None, name: str) -> float | None:
    return None if timeout is None else max(seconds(timeout, name), 0.0)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _finish(waiter: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _finish_all(waiters: dict[Future[None], None]) -> None:
    for waiter in waiters:
        _finish(waiter)
    waiters.clear()

"""Replacements: the functions of the standard library that are the world's during a run.

The methods of ``socket.socket`` itself are replaced, and not the class, so that sockets of a run
are of exactly that class, also for modules that have imported it before. Each replacement looks at
the descriptor, and calls the original function for one that is not simulated. Sockets that another
thread makes are not simulated.

A blocking call lets the time of the network pass until it can return, without the tasks of the
loop, which it blocks as it would in a real run.
"""

from __future__ import annotations

import _socket
import errno
import functools
import math
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel.native import accelerator
from runtime.simulation.network import sockets
from runtime.simulation.network.endpoints import Endpoint
from runtime.simulation.network.names import Names
from runtime.simulation.network.sockets import Descriptors

_MISSING: Final = object()

_OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    name: getattr(sockets, name)
    for name in (
        "bind",
        "connect",
        "connect_ex",
        "getpeername",
        "getsockname",
        "getsockopt",
        "listen",
        "recv",
        "recv_into",
        "recvfrom",
        "recvfrom_into",
        "recvmsg",
        "recvmsg_into",
        "send",
        "sendall",
        "sendmsg",
        "sendto",
        "setsockopt",
        "shutdown",
    )
}

_POLL_READ: Final = getattr(select, "POLLIN", 1)
_POLL_WRITE: Final = getattr(select, "POLLOUT", 4)


class Replacements:
    """The replaced functions, from ``install`` to ``remove``."""

    def __init__(
        self,
        descriptors: Descriptors,
        names: Names,
        now: Callable[[], float],
        wait: Callable[[float], bool],
    ) -> None:
        self._descriptors = descriptors
        self._now = now
        # Lets the next event of the network happen if it is due by a moment, else sets the clock
        # to that moment if it is finite; returns whether there was an event.
        self._wait = wait
        self._names = names
        self._thread = 0
        self._replaced: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Replace the functions, for sockets that the calling thread makes."""
        self._thread = threading.get_ident()
        accelerator.set_simulator(self._descriptors)
        try:
            self._replace_methods()
            self._replace_functions()
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Put the original functions back."""
        while self._replaced:
            owner, name, original = self._replaced.pop()
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        accelerator.set_simulator(None)

    def _replace(self, owner: Any, name: str, function: Any) -> None:
        self._replaced.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, function)

    # -- The class -------------------------------------------------------------------------------

    def _replace_methods(self) -> None:
        descriptors = self._descriptors
        kind = socket.socket
        for name, operation in _OPERATIONS.items():
            self._replace(kind, name, self._method(getattr(kind, name), operation))
        self._replace(kind, "__init__", self._initializer(kind.__init__))
        private: Any = kind
        accept = functools.partial(sockets.accept, descriptors)
        self._replace(kind, "_accept", self._method(private._accept, accept))
        self._replace(kind, "_real_close", _closing(private._real_close, descriptors))
        self._replace(kind, "detach", _detaching(kind.detach, descriptors))

    def _method(
        self, original: Callable[..., Any], operation: Callable[..., Any]
    ) -> Callable[..., Any]:
        find = self._descriptors.find

        @functools.wraps(original)
        def method(sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
            endpoint = find(sock.fileno())
            if endpoint is None:
                return original(sock, *args, **kwargs)
            try:
                return operation(endpoint, *args, **kwargs)
            except BlockingIOError:
                if sock.gettimeout() == 0:
                    raise
            if operation is sockets.connect:
                attempt = functools.partial(sockets.finish_connecting, endpoint)
            else:
                attempt = functools.partial(operation, endpoint, *args, **kwargs)
            return self._block(sock, original.__name__, attempt)

        return method

    def _block(self, sock: socket.socket, name: str, attempt: Callable[[], Any]) -> Any:
        """Let time pass until ``attempt()`` succeeds; raise TimeoutError after the timeout."""
        timeout = sock.gettimeout()
        deadline = math.inf if timeout is None else self._now() + timeout
        while self._wait(deadline):
            try:
                return attempt()
            except BlockingIOError:
                pass
        if timeout is not None:
            raise TimeoutError("timed out")
        raise BlockingIOError(
            errno.EAGAIN,
            f"{name}() would block for ever, and the simulated world with it: {sock!r} is a "
            "blocking socket, and nothing is on its way in the network. Call setblocking(False), "
            "and await the loop's sock_* methods, or use a stream",
        )

    def _initializer(self, original: Callable[..., None]) -> Callable[..., None]:
        descriptors = self._descriptors

        def initialize(
            sock: Any, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None
        ) -> None:
            if fileno is None:
                if threading.get_ident() != self._thread:
                    original(sock, family, type, proto, fileno)
                    return
                family = socket.AF_INET if family == -1 else family
                type = socket.SOCK_STREAM if type == -1 else type
                proto = 0 if proto == -1 else proto
                endpoint: Endpoint | None = descriptors.new_endpoint(family, type, proto)
                assert endpoint is not None
                try:
                    fileno = descriptors.open(endpoint)
                except BaseException:
                    endpoint.close()
                    raise
            else:
                endpoint = descriptors.find(fileno)
            if endpoint is not None:
                family = endpoint.family if family == -1 else family
                type = endpoint.kind if type == -1 else type
                proto = endpoint.proto if proto == -1 else proto
            original(sock, family, type, proto, fileno)
            if endpoint is not None:
                descriptors.own(sock)

        return initialize

    # -- Functions ---------------------------------------------------------------------------------

    def _replace_functions(self) -> None:
        descriptors = self._descriptors
        names = self._names
        for name in (
            "getaddrinfo",
            "gethostbyaddr",
            "gethostbyname",
            "gethostbyname_ex",
            "gethostname",
            "getfqdn",
            "getnameinfo",
        ):
            self._replace(
                socket, name, self._in_thread(getattr(socket, name), getattr(names, name))
            )
        self._replace(socket, "socketpair", self._in_thread(socket.socketpair, self._socketpair))
        self._replace(socket, "dup", _duplicating(_socket.dup, descriptors))
        self._replace(socket, "close", descriptors.close)
        self._replace(os, "close", descriptors.close)
        if hasattr(os, "sendfile"):
            self._replace(os, "sendfile", _sending_file(os.sendfile, descriptors))
        if hasattr(select, "poll"):
            self._replace(select, "poll", functools.partial(_Poll, descriptors, select.poll))
        self._replace(select, "select", _selecting(select.select, descriptors))

    def _in_thread(
        self, original: Callable[..., Any], replacement: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == self._thread:
                return replacement(*args, **kwargs)
            return original(*args, **kwargs)

        return call

    def _socketpair(
        self, family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0
    ) -> tuple[socket.socket, socket.socket]:
        family = socket.AF_UNIX if family is None else family
        fds = self._descriptors.pair(family, type, proto)
        try:
            first, second = (socket.socket(family, type, proto, fd) for fd in fds)
        except BaseException:
            for fd in fds:
                self._descriptors.close(fd)
            raise
        return first, second


def _closing(original: Callable[..., None], descriptors: Descriptors) -> Callable[..., None]:
    def _real_close(sock: socket.socket, *args: Any) -> None:
        fd = sock.fileno()
        original(sock, *args)
        descriptors.released(fd)

    return _real_close


def _detaching(original: Callable[..., int], descriptors: Descriptors) -> Callable[..., int]:
    def detach(sock: socket.socket) -> int:
        fd = original(sock)
        descriptors.disown(fd)
        return fd

    return detach


def _duplicating(original: Callable[[int], int], descriptors: Descriptors) -> Callable[[int], int]:
    def dup(fd: int) -> int:
        return original(fd) if descriptors.find(fd) is None else descriptors.duplicate(fd)

    return dup


def _sending_file(original: Callable[..., int], descriptors: Descriptors) -> Callable[..., int]:
    @functools.wraps(original)
    def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int, **options: Any) -> int:
        endpoint = descriptors.find(out_fd)
        if endpoint is None:
            return original(out_fd, in_fd, offset, count, **options)
        return sockets.send_from_file(endpoint, in_fd, offset, count)

    return sendfile


def _number(file: Any) -> int:
    number: int = file if isinstance(file, int) else file.fileno()
    return number


def _selecting(original: Callable[..., Any], descriptors: Descriptors) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(
        rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        endpoints = {file: descriptors.find(_number(file)) for file in (*rlist, *wlist, *xlist)}
        if not any(endpoint is not None for endpoint in endpoints.values()):
            found: tuple[list[Any], list[Any], list[Any]] = original(rlist, wlist, xlist, timeout)
            return found
        real = [[each for each in files if endpoints[each] is None] for files in (rlist, wlist)]
        readable, writable, exceptional = original(
            *real, [each for each in xlist if endpoints[each] is None], 0
        )
        for each in rlist:
            endpoint = endpoints[each]
            if endpoint is not None and endpoint.readable():
                readable.append(each)
        for each in wlist:
            endpoint = endpoints[each]
            if endpoint is not None and endpoint.writable():
                writable.append(each)
        if not (readable or writable or exceptional or timeout == 0):
            raise BlockingIOError(
                errno.EAGAIN, "select() of simulated sockets cannot wait: the world stands still"
            )
        return readable, writable, exceptional

    return replacement


class _Poll:
    """``select.poll()`` for simulated and other descriptors."""

    def __init__(self, descriptors: Descriptors, original: Callable[[], Any]) -> None:
        self._descriptors = descriptors
        self._real = original()
        self._masks: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = _POLL_READ | _POLL_WRITE) -> None:
        """Add a descriptor."""
        number = _number(fd)
        if self._descriptors.find(number) is None:
            self._real.register(number, eventmask)
        else:
            self._masks[number] = eventmask

    def modify(self, fd: Any, eventmask: int) -> None:
        """Change the events of a descriptor."""
        number = _number(fd)
        if number in self._masks:
            self._masks[number] = eventmask
        else:
            self._real.modify(number, eventmask)

    def unregister(self, fd: Any) -> None:
        """Remove a descriptor."""
        number = _number(fd)
        if self._masks.pop(number, None) is None:
            self._real.unregister(number)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the ready descriptors. It cannot wait for simulated ones."""
        if not self._masks:
            events: list[tuple[int, int]] = self._real.poll(timeout)
            return events
        events = list(self._real.poll(0))
        for fd, mask in self._masks.items():
            endpoint = self._descriptors.find(fd)
            if endpoint is None:
                events.append((fd, getattr(select, "POLLNVAL", 32)))
                continue
            ready = (_POLL_READ if endpoint.readable() else 0) | (
                _POLL_WRITE if endpoint.writable() else 0
            )
            if ready & mask:
                events.append((fd, ready & mask))
        return events

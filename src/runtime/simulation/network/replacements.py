"""Replacements: the functions of the standard library that are the world's during a run.

The methods of ``socket.socket`` itself are replaced, and not the class, so that sockets of a run
are of exactly that class, also for modules that have imported it before. Each replacement looks at
the descriptor, and calls the original function for one that is not simulated. Sockets that another
thread makes are not simulated.

A blocking call lets the time of the network pass until it can return, without the tasks of the
loop, which it blocks as it would in a real run.
"""

from __future__ import annotations

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
from runtime.simulation.current import current_run
from runtime.simulation.errors import OutsideError
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

_NAMES: Final = (
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "gethostname",
    "getfqdn",
    "getnameinfo",
)

_POLL_READ: Final = getattr(select, "POLLIN", 1)
_POLL_WRITE: Final = getattr(select, "POLLOUT", 4)


class Replacements:
    """The replaced functions of one world, from ``install`` to ``remove``.

    ``now`` returns the time of the world. ``wait(moment)`` lets the next event of the network
    happen if it is due by that moment, else sets the clock to the moment if it is finite; it
    returns whether there was an event.
    """

    def __init__(
        self,
        descriptors: Descriptors,
        names: Names,
        now: Callable[[], float],
        wait: Callable[[float], bool],
    ) -> None:
        self.descriptors = descriptors
        self.names = names
        self.now = now
        self.wait = wait
        # The thread whose sockets are simulated.
        self.thread = 0
        self._replaced: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Replace the functions, for sockets that the calling thread makes."""
        self.thread = threading.get_ident()
        _active.append(self)
        accelerator.set_simulator(self.descriptors)
        try:
            for owner, name, original, function in _functions():
                self._replaced.append((owner, name, original))
                setattr(owner, name, function)
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
        _active.clear()


_active: Final[list[Replacements]] = []
"""The replacements that are installed, if any.

A module that is imported during a run may keep a function that was replaced then. So the functions
outlive a run: without a world they call the original.
"""

_Function = tuple[Any, str, Any, Any]
"""Owner, name, original (or ``_MISSING`` if a base class has it), and replacement."""

_made: Final[list[_Function]] = []
"""The functions of the last run, which the next one uses again."""


def _functions() -> list[_Function]:
    """Return the functions to replace. They are made anew if other code has replaced the same."""
    if not _made or any(
        vars(owner).get(name, _MISSING) is not original for owner, name, original, _ in _made
    ):
        _made[:] = [
            (owner, name, vars(owner).get(name, _MISSING), make(getattr(owner, name)))
            for owner, name, make in _makers()
            if hasattr(owner, name)
        ]
    return _made


def _makers() -> list[tuple[Any, str, Callable[[Any], Any]]]:
    """Return what is replaced, each with a function that makes the replacement of an original."""
    kind = socket.socket
    methods = [
        (kind, name, functools.partial(_method, operation=operation))
        for name, operation in _OPERATIONS.items()
    ]
    names = [(socket, name, _lookup) for name in _NAMES]
    return [
        *methods,
        (kind, "__init__", _initializer),
        (kind, "_accept", functools.partial(_method, operation=_accept)),
        (kind, "_real_close", _closing),
        (kind, "detach", _detaching),
        *names,
        (socket, "socketpair", _pairing),
        (socket, "dup", _duplicating),
        (socket, "close", _closing_descriptor),
        (os, "close", _closing_descriptor),
        (os, "dup", _duplicating),
        (os, "dup2", _replacing),
        (os, "sendfile", _sending_file),
        (select, "poll", _polling),
        (select, "select", _selecting),
    ]


def _find(fd: int) -> Endpoint | None:
    return _active[0].descriptors.find(fd) if _active else None


def _here() -> Replacements | None:
    """Return what is installed for this thread."""
    if _active and _active[0].thread == threading.get_ident():
        return _active[0]
    return None


# -- The class -------------------------------------------------------------------------------------


def _method(original: Callable[..., Any], operation: Callable[..., Any]) -> Callable[..., Any]:
    name = original.__name__

    @functools.wraps(original)
    def method(sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
        endpoint = _find(sock.fileno())
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
        return _block(sock, name, attempt)

    return method


def _accept(endpoint: Endpoint) -> tuple[int, Any]:
    return sockets.accept(_active[0].descriptors, endpoint)


def _block(sock: socket.socket, name: str, attempt: Callable[[], Any]) -> Any:
    """Let time pass until ``attempt()`` succeeds; raise TimeoutError after the timeout."""
    active = _active[0]
    timeout = sock.gettimeout()
    deadline = math.inf if timeout is None else active.now() + timeout
    while active.wait(deadline):
        try:
            return attempt()
        except BlockingIOError:
            pass
    run = current_run()
    if run is not None and run.slept is not None:
        raise OutsideError(
            f"{name}() in an executor waits for {sock!r}: calls in executors run in the thread of "
            "the loop, and the tasks that could answer cannot run meanwhile; let a coroutine do "
            "it, with a stream or the loop's sock_* methods"
        )
    if timeout is not None:
        raise TimeoutError("timed out")
    raise BlockingIOError(
        errno.EAGAIN,
        f"{name}() would block for ever, and the simulated world with it: {sock!r} is a blocking "
        "socket, and nothing is on its way in the network: call setblocking(False), and await the "
        "loop's sock_* methods, or use a stream",
    )


def _initializer(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def initialize(
        self: Any, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None
    ) -> None:
        active = _here()
        if active is None:
            original(self, family, type, proto, fileno)
            return
        descriptors = active.descriptors
        if fileno is None:
            family = socket.AF_INET if family == -1 else family
            type = socket.SOCK_STREAM if type == -1 else type
            proto = 0 if proto == -1 else proto
            fileno = descriptors.open_new(family, type, proto)
        endpoint = descriptors.find(fileno)
        if endpoint is not None:
            family = endpoint.family if family == -1 else family
            type = endpoint.kind if type == -1 else type
            proto = endpoint.proto if proto == -1 else proto
        original(self, family, type, proto, fileno)
        if endpoint is not None:
            descriptors.own(self)

    return initialize


def _closing(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def real_close(sock: socket.socket, *args: Any) -> None:
        fd = sock.fileno()
        original(sock, *args)
        for active in _active:
            active.descriptors.released(fd)

    return real_close


def _detaching(original: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(original)
    def detach(sock: socket.socket) -> int:
        fd = original(sock)
        for active in _active:
            active.descriptors.disown(fd)
        return fd

    return detach


# -- Functions -------------------------------------------------------------------------------------


def _lookup(original: Callable[..., Any]) -> Callable[..., Any]:
    name = original.__name__

    @functools.wraps(original)
    def look_up(*args: Any, **kwargs: Any) -> Any:
        active = _here()
        if active is None:
            return original(*args, **kwargs)
        return getattr(active.names, name)(*args, **kwargs)

    return look_up


def _pairing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def socketpair(family: Any = None, type: int = socket.SOCK_STREAM, proto: int = 0) -> Any:
        active = _here()
        if active is None:
            return original(family, type, proto)
        family = socket.AF_UNIX if family is None else family
        fds = active.descriptors.pair(family, type, proto)
        return tuple(socket.socket(family, type, proto, fd) for fd in fds)

    return socketpair


def _duplicating(original: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(original)
    def dup(fd: int) -> int:
        return original(fd) if _find(fd) is None else _active[0].descriptors.duplicate(fd)

    return dup


def _replacing(original: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(original)
    def dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
        number = original(fd, fd2, inheritable)
        for active in _active:
            active.descriptors.replaced(fd, fd2)
        return number

    return dup2


def _closing_descriptor(original: Callable[[int], None]) -> Callable[[int], None]:
    @functools.wraps(original)
    def close(fd: int) -> None:
        original(fd)
        for active in _active:
            active.descriptors.released(fd)

    return close


def _sending_file(original: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(original)
    def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int, **options: Any) -> int:
        endpoint = _find(out_fd)
        if endpoint is None:
            return original(out_fd, in_fd, offset, count, **options)
        return sockets.send_from_file(endpoint, in_fd, offset, count)

    return sendfile


def _polling(original: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(original)
    def poll() -> Any:
        return original() if _here() is None else _Poll(original)

    return poll


def _selecting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(
        rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        endpoints = {file: _find(_number(file)) for file in (*rlist, *wlist, *xlist)}
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

    def __init__(self, original: Callable[[], Any]) -> None:
        self._real = original()
        self._masks: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = _POLL_READ | _POLL_WRITE) -> None:
        """Add a descriptor."""
        number = _number(fd)
        if _find(number) is None:
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
            endpoint = _find(fd)
            if endpoint is None:
                events.append((fd, getattr(select, "POLLNVAL", 32)))
                continue
            ready = (_POLL_READ if endpoint.readable() else 0) | (
                _POLL_WRITE if endpoint.writable() else 0
            )
            if ready & mask:
                events.append((fd, ready & mask))
        return events


def _number(file: Any) -> int:
    number: int = file if isinstance(file, int) else file.fileno()
    return number

"""``forbid_blocking``: calls that would block an event loop raise an error, for tests.

Two ways lead to the calls. The interpreter announces some of them to audit hooks, whose exception
prevents the call: the opening of files, name lookups, connecting, ``os.system`` and others. Methods
of sockets, locks and processes it does not announce: they are replaced while calls are forbidden.

Whether a call blocks a loop depends on the thread and on the stack only: the thread must run a
loop, and the call must come from a step or a callback of it. The names of files play no part.
"""

from __future__ import annotations

import concurrent.futures
import functools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final

from runtime.kernel.compat.registry import loop_of_thread
from runtime.kernel.diagnostics.blocking_calls import advice_for

_allowed: ContextVar[bool] = ContextVar("runtime.observe.allow_blocking", default=False)

_LOADERS: Final = ("importlib._bootstrap", "_frozen_importlib", "linecache", "zipimport")
"""Modules that read source files."""

_OWN: Final = ("asyncio.", "runtime.")


class BlockingCallError(RuntimeError):
    """A call that would block the event loop was made in a step of a task or in a callback."""


class _State:
    """How often calls are forbidden at the moment, and whether the audit hook is installed."""

    depth = 0
    has_hook = False


_state: Final = _State()
_lock: Final = threading.Lock()


def _is_forbidden() -> bool:
    """Return whether a blocking call is forbidden here: in a step or a callback of a loop."""
    if not _state.depth or _allowed.get():
        return False
    loop = loop_of_thread(threading.get_ident())
    if loop is None or loop._waiting:
        return False
    frame = sys._getframe(2)
    return _is_of_program(frame) and not _is_in_import(frame)


def _is_of_program(frame: FrameType | None) -> bool:
    """Return whether the program makes a call, and not this package or asyncio for it."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if frame.f_code is _START_OF_THREAD:
            return False
        if name != __name__ and name.partition(".")[0] not in _LIBRARY:
            return not name.startswith(_OWN) or name.startswith(_RUN_THE_PROGRAM)
        frame = frame.f_back
    return True


_START_OF_THREAD: Final = threading.Thread.start.__code__
"""The function that starts a thread, and waits until it has begun."""


def _is_in_import(frame: FrameType | None) -> bool:
    """Return whether a call is part of the import of a module, or of reading source lines."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(_LOADERS):
            return True
        if name.startswith(_RUN_THE_PROGRAM):
            return False  # Whether the loop itself is run by an import does not matter.
        frame = frame.f_back
    return False


_RUN_THE_PROGRAM: Final = (
    "asyncio.runners",
    "runtime.kernel.core",
    "runtime.kernel.diagnostics.debug_mode",
    "runtime.kernel.handles",
    "runtime.kernel.native",
    "runtime.kernel.observed_turns",
    "runtime.kernel.task",
    "runtime.loop",
    "runtime.runner",
    "runtime.testing",
)
"""Modules that call a callback: if it is a function of the standard library, the program chose it.
"""

_LIBRARY: Final = sys.stdlib_module_names - {"__main__", "asyncio"}
"""Modules through which the program or the loop makes a call, and which do not decide anything."""


def _refuse(name: str, shown: str) -> None:
    instead = advice_for(name) or "runtime.to_thread()"
    raise BlockingCallError(
        f"{shown} would block the event loop: use {instead} instead; if the wait is short enough, "
        "allow it with runtime.observe.allow_blocking()"
    )


# -- Calls that the interpreter announces ----------------------------------------------------------


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _state.depth and event in _EVENTS and _EVENTS[event](arguments) and _is_forbidden():
        _refuse(_NAMES.get(event, event), f"{event}({', '.join(map(_shown, arguments[:2]))})")


def _shown(argument: object) -> str:
    if isinstance(argument, str | bytes | int | float | tuple | list):
        return repr(argument)[:200]
    return f"<{type(argument).__name__}>"


def _always(arguments: tuple[Any, ...]) -> bool:
    return True


def _connects_and_waits(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[0].gettimeout() != 0)


def _looks_up(arguments: tuple[Any, ...]) -> bool:
    host = arguments[0]
    if not host:
        return False
    text = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text.partition("%")[0])
        except (OSError, ValueError):
            continue
        return False
    return True


def _opens_a_path(arguments: tuple[Any, ...]) -> bool:
    return not isinstance(arguments[0], int)


_EVENTS: Final[dict[str, Callable[[tuple[Any, ...]], bool]]] = {
    "open": _opens_a_path,
    "os.listdir": _always,
    "os.scandir": _always,
    "os.system": _always,
    "shutil.copyfile": _always,
    "shutil.copytree": _always,
    "shutil.move": _always,
    "shutil.rmtree": _always,
    "socket.connect": _connects_and_waits,
    "socket.getaddrinfo": _looks_up,
    "socket.gethostbyaddr": _always,
    "socket.gethostbyname": _looks_up,
    "socket.getnameinfo": _always,
    "sqlite3.connect": _always,
    "time.sleep": lambda arguments: bool(arguments[0]),  # From Python 3.13 on.
    "urllib.Request": _always,
}
"""The events of blocking calls, and whether the call with given arguments blocks."""

_NAMES: Final = {
    "open": "io",
    "socket.gethostbyaddr": "socket.getaddrinfo",
    "socket.gethostbyname": "socket.getaddrinfo",
    "socket.getnameinfo": "socket.getaddrinfo",
}


# -- Calls that are replaced -----------------------------------------------------------------------


def _sleeps(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return bool(arguments and arguments[0])


def _socket_waits(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return bool(arguments and arguments[0].gettimeout() != 0)


def _waits_always(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return True


def _timeout_of(position: int) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
    def waits(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
        timeout = arguments[position] if len(arguments) > position else options.get("timeout")
        return timeout is None or timeout > 0

    return waits


def _thread_waits(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return bool(arguments[0].is_alive()) and _timeout_of(1)(arguments, options)


def _process_waits(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return arguments[0].returncode is None and _timeout_of(1)(arguments, options)


def _future_waits(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return not arguments[0].done() and _timeout_of(1)(arguments, options)


_Waits = Callable[[tuple[Any, ...], dict[str, Any]], bool]

_REPLACED: Final[list[tuple[Any, str, str, _Waits]]] = [
    (time, "sleep", "time.sleep", _sleeps),
    (threading.Condition, "wait", "threading.Condition.wait", _timeout_of(1)),
    (threading.Thread, "join", "threading.Thread.join", _thread_waits),
    # Before they have started a process, which has no parent that waits for it when they fail.
    (subprocess, "call", "subprocess.call", _waits_always),
    (subprocess, "run", "subprocess.run", _waits_always),
    (subprocess.Popen, "wait", "subprocess.Popen.wait", _process_waits),
    (subprocess.Popen, "communicate", "subprocess.Popen.communicate", _process_waits),
    (concurrent.futures.Future, "result", "concurrent.futures.Future.result", _future_waits),
    (concurrent.futures.Future, "exception", "concurrent.futures.Future.exception", _future_waits),
    *(
        (socket.socket, name, f"socket.socket.{name}", _socket_waits)
        for name in (
            "accept",
            "recv",
            "recv_into",
            "recvfrom",
            "recvfrom_into",
            "recvmsg",
            "send",
            "sendall",
            "sendmsg",
            "sendto",
        )
        if hasattr(socket.socket, name)
    ),
]
"""Owner, attribute, full name, and whether a call with given arguments waits."""


def _replacement(
    original: Callable[..., Any], name: str, waits: _Waits, *, is_method: bool
) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*arguments: Any, **options: Any) -> Any:
        if waits(arguments, options) and _is_forbidden():
            shown = ", ".join(map(_shown, arguments[1:] if is_method else arguments))
            _refuse(name, f"{name}({shown})")
        return original(*arguments, **options)

    return call


_originals: Final[list[tuple[Any, str, Any]]] = []
"""The replaced functions: owner, attribute, and the attribute of the owner itself, or None."""


def _begin() -> None:
    with _lock:
        _state.depth += 1
        if _state.depth > 1:
            return
        if not _state.has_hook:
            # An audit hook stays for ever: it tests the depth first.
            sys.addaudithook(_audit)
            _state.has_hook = True
        for owner, attribute, name, waits in _REPLACED:
            _originals.append((owner, attribute, vars(owner).get(attribute)))
            original = getattr(owner, attribute)
            is_method = isinstance(owner, type)
            setattr(owner, attribute, _replacement(original, name, waits, is_method=is_method))


def _end() -> None:
    with _lock:
        _state.depth -= 1
        if _state.depth:
            return
        while _originals:
            owner, attribute, own = _originals.pop()
            if own is None:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, own)


@contextmanager
def forbid_blocking() -> Iterator[None]:
    """Raise BlockingCallError in the block, where a call would block an event loop.

    It is raised in tasks and callbacks of every loop of the process, in place of the call:
    ``time.sleep``, opening and listing files, name lookups, methods of sockets that are not
    non-blocking, ``subprocess.run`` and ``Popen.wait``, ``os.system``, and waiting for a thread, an
    event, a condition or a queue of threads, or a concurrent future. Imports are allowed, other
    threads too, and ``with allow_blocking():`` allows everything. It does not see locks of threads,
    reading and writing of an open file, calculations, and waiting in C code; and, up to Python
    3.12, a ``sleep`` that the program has imported itself, with ``from time import sleep``.

    This is for tests: ``pytest --runtime-forbid-blocking`` puts it around each of them.

    >>> import time, runtime
    >>> async def main() -> None:
    ...     time.sleep(0.1)
    >>> with runtime.observe.forbid_blocking():
    ...     runtime.run(main())
    Traceback (most recent call last):
    ...
    runtime.observe.BlockingCallError: time.sleep(0.1) would block the event loop: ...
    """
    _begin()
    try:
        yield
    finally:
        _end()


@contextmanager
def allow_blocking() -> Iterator[None]:
    """Allow blocking calls in the block, for the current task or callback and what it calls.

    >>> import time, runtime
    >>> async def main() -> None:
    ...     with runtime.observe.allow_blocking():
    ...         time.sleep(0.001)
    >>> with runtime.observe.forbid_blocking():
    ...     runtime.run(main())
    """
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)

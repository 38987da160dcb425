"""The observed end: a thread that answers the requests of ``python -m runtime ps`` and the like.

The thread reads the tasks and the metrics of all loops of the process. The loops do nothing for it
and never wait for it: after every few tasks, the thread sleeps for a moment without the GIL. A
client has some seconds to send its request and to read the answer.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import itertools
import json
import linecache
import os
import socket
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from runtime.kernel.api.metrics import metrics_of
from runtime.kernel.compat.registry import every_loop
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.threads.observers import observers
from runtime.observe.endpoint import (
    MOST_OF_A_REQUEST,
    ObserveError,
    is_allowed,
    socket_path,
)
from runtime.observe.loop_info import (
    ConnectionInfo,
    TimerInfo,
    fullest_connections,
    next_timers,
)
from runtime.observe.task_info import TaskInfo, each_task, no_pause

_PATIENCE: Final = 5.0
"""Seconds that a client has for its request, and to read each part of the answer."""

_MOST_CLIENTS: Final = 8
"""Number of clients at a time; further ones wait."""

_TASKS_AT_ONCE: Final = 16
_PAUSE: Final = 0.0002

_SENT_AT_ONCE: Final = 64
"""Parts of an answer, each about a task, a connection or a timer, to join into one text."""

_MOST_SHOWN: Final = 1000
"""Connections and timers that the console gets."""


class Listener:
    """The socket and the thread that answer. ``close()`` ends both."""

    def __init__(self, where: Path | None = None) -> None:
        self.path = socket_path(os.getpid(), where, make=True)
        self._pid = os.getpid()
        self._clients = threading.BoundedSemaphore(_MOST_CLIENTS)
        self._socket = _bound_to(self.path)
        self._thread = threading.Thread(target=self._serve, name="runtime observe", daemon=True)
        observers.append(self._thread)
        self._thread.start()

    def close(self) -> None:
        """Answer no more requests, and remove the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._pid == os.getpid():
            self._thread.join()
            self.remove_socket()

    def remove_socket(self) -> None:
        """Remove the file of the socket, unless it is that of the parent of this process."""
        if self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def is_closed(self) -> bool:
        """Return whether requests are not answered any more."""
        return self._socket.fileno() < 0

    def leave_to_parent(self) -> None:
        """Close the descriptor in the child of a fork, where the thread does not run."""
        self._socket.close()
        observers.clear()

    def _serve(self) -> None:
        try:
            while True:
                self._clients.acquire()
                try:
                    connection, _ = self._socket.accept()
                except OSError:
                    return  # The socket was closed.
                thread = threading.Thread(
                    target=self._answer, args=(connection,), name="runtime observe", daemon=True
                )
                observers.append(thread)
                thread.start()
        finally:
            with contextlib.suppress(ValueError):
                observers.remove(threading.current_thread())

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_PATIENCE)
                if is_allowed(connection):
                    then: _Then = []
                    send(connection, answer_to(_request_from(connection), then))
                    for action in then:
                        action()
        except OSError:
            pass  # The client was too slow, or has left.
        finally:
            self._clients.release()
            with contextlib.suppress(ValueError):
                observers.remove(threading.current_thread())


def send(connection: socket.socket, texts: list[str]) -> None:
    """Send the parts of an answer. Each call of the system is a turn for the loop."""
    for first in range(0, len(texts), _SENT_AT_ONCE):
        connection.sendall("".join(texts[first : first + _SENT_AT_ONCE]).encode())


def _bound_to(path: Path) -> socket.socket:
    """Return a listening socket at ``path``, which only the user may connect to."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ObserveError(f"{path} is not a socket: remove it")
        # An earlier process with this number has left it: only one process has the number now.
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Until the mode is set, the folder keeps other users out.
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(_MOST_CLIENTS)
    except BaseException:
        listening.close()
        raise
    return listening


def _request_from(connection: socket.socket) -> object:
    """Receive the line of a request; return what it says, or None if it makes no sense."""
    deadline = time.monotonic() + _PATIENCE
    line = b""
    while b"\n" not in line and len(line) < MOST_OF_A_REQUEST and time.monotonic() < deadline:
        part = connection.recv(MOST_OF_A_REQUEST - len(line))
        if not part:
            break
        line += part
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# -- Answers ---------------------------------------------------------------------------------------

_Then = list[Callable[[], object]]
_Part = Callable[[LoopCore, dict[str, Any]], list[str]]
"""Returns a part of an answer as JSON, in several texts."""


def answer_to(request: object, then: _Then) -> list[str]:
    """Return the answer to a request: a JSON object with ``loops``, or with ``error``.

    It is returned in many parts: to join those about 10,000 tasks would take milliseconds, in which
    the loop could not run. Functions to be called when the answer was sent are added to ``then``:
    the cancellation of a task may be the end of the process.
    """
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        return [json.dumps({"error": "a request is a JSON object with a command"})]
    name = request["command"]
    try:
        if name == "cancel":
            return _answer_cancel(request, then)
        if name not in _COMMANDS:
            return [json.dumps({"error": f"unknown command {name[:40]!r}"})]
        return _answer(request, _COMMANDS[name])
    except Exception as error:
        return [json.dumps({"error": f"{type(error).__name__}: {error}"})]


def _answer(request: dict[str, Any], parts: dict[str, _Part], **more: object) -> list[str]:
    """Return an answer with some parts for each loop, each of them JSON.

    The text is made entry by entry: to make one of 10,000 tasks in one call would hold the GIL for
    too long, and as objects they would cause garbage collections.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    texts = [json.dumps({"pid": os.getpid(), **more})[:-1], ', "loops": [']
    before = ""
    for loop in every_loop():
        if loop.is_closed():
            continue
        heading = {
            "id": id(loop),
            "name": type(loop).__name__,
            "thread": names.get(loop._thread_id),
        }
        texts += [before, json.dumps(heading)[:-1]]
        before = ", "
        for name, part in parts.items():
            texts.append(f", {json.dumps(name)}: ")
            texts += part(loop, request)
        texts.append("}")
    texts.append("]}")
    return texts


def _list_of(
    entries: Iterable[TaskInfo | ConnectionInfo | TimerInfo], pause: Callable[[], object]
) -> list[str]:
    texts = ["["]
    before = ""
    for entry in entries:
        texts.append(before + json.dumps(_fields(entry)))
        before = ", "
        pause()
    texts.append("]")
    return texts


def _tasks(loop: LoopCore, request: dict[str, Any]) -> list[str]:
    return _list_of(each_task(loop, _pauses()), no_pause)


def _wanted_tasks(loop: LoopCore, request: dict[str, Any]) -> list[str]:
    wanted = str(request.get("task"))
    found = [
        {**_fields(task), "source": _source(task)}
        for task in each_task(loop, _pauses())
        if wanted in (task.name, f"{task.id:x}")
    ]
    return [json.dumps(found)]


def _source(task: TaskInfo) -> list[str]:
    return [linecache.getline(place.file, place.line).strip() for place in task.stack]


def _metrics(loop: LoopCore, request: dict[str, Any]) -> list[str]:
    metrics = metrics_of(loop)
    shown: dict[str, Any] = {
        name: _shown(getattr(metrics, name))
        for name in metrics.fields()
        if name not in ("collector", "coroutines")
    }
    shown |= {"busy": metrics.busy, "utilization": metrics.utilization}
    for generation, pauses in enumerate(metrics.collector.pauses):
        shown[f"collector_pauses_{generation}"] = _shown(pauses)
    if metrics.coroutines:
        shown["coroutines"] = [
            {name: getattr(each, name) for name in each.fields()} for each in metrics.coroutines
        ]
    return [json.dumps(shown)]


def _connections(loop: LoopCore, request: dict[str, Any]) -> list[str]:
    pause = _pauses()
    return _list_of(fullest_connections(loop, _most(request), pause), pause)


def _timers(loop: LoopCore, request: dict[str, Any]) -> list[str]:
    pause = _pauses()
    return _list_of(next_timers(loop, _most(request), pause), pause)


def _most(request: dict[str, Any]) -> int | None:
    """Return how many entries an answer may have: the console shows the first ones only."""
    return _MOST_SHOWN if request["command"] == "top" else None


def _answer_cancel(request: dict[str, Any], then: _Then) -> list[str]:
    wanted, reason = request.get("task"), request.get("reason")
    count = 0
    for loop in every_loop():
        for task in [] if loop.is_closed() else list(loop._tasks):
            if wanted in (str(task.get_name()), f"{id(task):x}"):
                count += 1
                then.append(functools.partial(loop.call_soon_threadsafe, task.cancel, reason))
    return _answer(request, {}, cancelled=count)


_COMMANDS: Final[dict[str, dict[str, _Part]]] = {
    "connections": {"connections": _connections},
    "metrics": {"metrics": _metrics},
    "ps": {"tasks": _tasks},
    "stack": {"tasks": _wanted_tasks},
    "timers": {"timers": _timers},
    "top": {
        "metrics": _metrics,
        "tasks": _tasks,
        "connections": _connections,
        "timers": _timers,
    },
}


def _pauses() -> Callable[[], None]:
    """Return a function that sleeps for a moment, without the GIL, at every few of its calls."""
    calls = itertools.count(1)

    def pause() -> None:
        if next(calls) % _TASKS_AT_ONCE == 0:
            time.sleep(_PAUSE)

    return pause


def _fields(entry: TaskInfo | ConnectionInfo | TimerInfo) -> dict[str, object]:
    """Return the fields of an entry; ``dataclasses.asdict`` would take several times as long."""
    fields: dict[str, object] = {name: getattr(entry, name) for name in _FIELDS[type(entry)]}
    if isinstance(entry, TaskInfo):
        fields["stack"] = [
            {"function": place.function, "file": place.file, "line": place.line}
            for place in entry.stack
        ]
    return fields


_FIELDS: Final = {
    kind: tuple(field.name for field in dataclasses.fields(kind))
    for kind in (TaskInfo, ConnectionInfo, TimerInfo)
}


def _shown(value: object) -> object:
    if not isinstance(value, Histogram):
        return value
    quantiles = {f"p{share:g}": value.quantile(share / 100) for share in (50, 90, 99, 99.9)}
    return {
        "count": value.count,
        "total": value.total,
        "longest": value.longest,
        **quantiles,
        "buckets": [
            [bound if bound < float("inf") else None, count] for bound, count in value.buckets()
        ],
    }


# -- The listener of the process -------------------------------------------------------------------


class _State:
    """The listener of this process, if there is one."""

    listener: Listener | None = None


_state: Final = _State()


def listen() -> Listener:
    """Let this user's ``python -m runtime ps``, ``top`` and so on observe this process.

    A thread answers them, on a Unix socket in a folder of the user's own. A process that is started
    with ``RUNTIME_OBSERVE=1`` does this by itself; so does the child of a fork whose parent does.
    Returns the listener, whose ``close()`` ends this, the same one each time. Raises ObserveError
    if the folder is not safe: a link, or open to other users.

    >>> import runtime
    >>> listener = runtime.observe.listen()
    >>> listener.close()
    """
    return _listen(None)


def _listen(where: Path | None) -> Listener:
    listener = _state.listener
    if listener is None or listener.is_closed():
        listener = _state.listener = Listener(where)
    return listener


def listen_in(where: str) -> None:
    """Listen in the folder of a client, which may be another one than that of this process."""
    listener = _state.listener
    if listener is not None and listener.path.parent != Path(where):
        listener.close()
    _listen(Path(where))


def listen_if_possible() -> None:
    """Listen, for ``RUNTIME_OBSERVE=1``; issue a RuntimeWarning if that is not possible."""
    try:
        listen()
    except OSError as error:
        warnings.warn(
            f"this process cannot be observed, though RUNTIME_OBSERVE is set: {error}",
            RuntimeWarning,
            stacklevel=2,
        )


def _after_fork() -> None:
    listener = _state.listener
    if listener is not None and not listener.is_closed():
        listener.leave_to_parent()
        _state.listener = None
        with contextlib.suppress(OSError):
            _listen(listener.path.parent)


def _at_exit() -> None:
    """Remove the socket: no process with this number may ever come to replace it."""
    listener = _state.listener
    if listener is not None and not listener.is_closed():
        listener.remove_socket()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

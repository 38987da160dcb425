"""The observed end: a thread that answers the requests of ``python -m runtime ps`` and the like.

The thread reads the tasks and the metrics of all loops of the process. The loops do nothing for it
and never wait for it: after every few tasks, the thread sleeps for a moment without the GIL. A
client has some seconds to send its request and to read the answer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import linecache
import os
import socket
import stat
import threading
import time
import warnings
from collections.abc import Callable
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
from runtime.observe.loop_info import connections, timers
from runtime.observe.task_info import TaskInfo, tasks

_PATIENCE: Final = 5.0
"""Seconds that a client has for its request, and to read each part of the answer."""

_MOST_CLIENTS: Final = 8
"""Number of clients at a time; further ones wait."""

_TASKS_AT_ONCE: Final = 16
_PAUSE: Final = 0.0002

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
            self.path.unlink(missing_ok=True)

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
                    answer = answer_to(_request_from(connection), then)
                    connection.sendall(json.dumps(answer).encode())
                    for action in then:
                        action()
        except OSError:
            pass  # The client was too slow, or has left.
        finally:
            self._clients.release()
            with contextlib.suppress(ValueError):
                observers.remove(threading.current_thread())


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


def answer_to(request: object, then: _Then) -> dict[str, Any]:
    """Return the answer to a request: an object with ``loops``, or with ``error``.

    Functions to be called when the answer was sent are added to ``then``: the cancellation of a
    task may be the end of the process.
    """
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        return {"error": "a request is a JSON object with a command"}
    command = _COMMANDS.get(request["command"])
    if command is None:
        return {"error": f"unknown command {request['command'][:40]!r}"}
    try:
        return command(request, then)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _on_each_loop(
    add: Callable[[LoopCore, dict[str, Any]], object],
) -> dict[str, Any]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found: list[dict[str, Any]] = []
    for loop in every_loop():
        if not loop.is_closed():
            entry = {
                "id": id(loop),
                "name": type(loop).__name__,
                "thread": names.get(loop._thread_id),
            }
            add(loop, entry)
            found.append(entry)
    return {"pid": os.getpid(), "loops": found}


def _add_tasks(loop: LoopCore, entry: dict[str, Any]) -> None:
    entry["tasks"] = [dataclasses.asdict(task) for task in _tasks_of(loop)]


def _answer_ps(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    return _on_each_loop(_add_tasks)


def _answer_stack(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    wanted = str(request.get("task"))

    def add(loop: LoopCore, entry: dict[str, Any]) -> None:
        chosen = [task for task in _tasks_of(loop) if wanted in (task.name, f"{task.id:x}")]
        entry["tasks"] = [{**dataclasses.asdict(task), "source": _source(task)} for task in chosen]

    return _on_each_loop(add)


def _add_metrics(loop: LoopCore, entry: dict[str, Any]) -> None:
    metrics = metrics_of(loop)
    shown: dict[str, Any] = {
        name: _shown(getattr(metrics, name)) for name in metrics.fields() if name != "collector"
    }
    shown |= {"busy": metrics.busy, "utilization": metrics.utilization}
    for generation, pauses in enumerate(metrics.collector.pauses):
        shown[f"collector_pauses_{generation}"] = _shown(pauses)
    entry["metrics"] = shown


def _answer_metrics(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    return _on_each_loop(_add_metrics)


def _add_connections(loop: LoopCore, entry: dict[str, Any]) -> None:
    entry["connections"] = [dataclasses.asdict(each) for each in connections(loop)]


def _answer_connections(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    return _on_each_loop(_add_connections)


def _add_timers(loop: LoopCore, entry: dict[str, Any]) -> None:
    entry["timers"] = [dataclasses.asdict(each) for each in timers(loop)]


def _answer_timers(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    return _on_each_loop(_add_timers)


def _answer_top(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    """Answer everything that the console shows, with the first of very many connections."""

    def add(loop: LoopCore, entry: dict[str, Any]) -> None:
        for part in (_add_metrics, _add_tasks, _add_connections, _add_timers):
            part(loop, entry)
        for name in ("connections", "timers"):
            del entry[name][_MOST_SHOWN:]

    return _on_each_loop(add)


def _answer_cancel(request: dict[str, Any], then: _Then) -> dict[str, Any]:
    wanted, reason = request.get("task"), request.get("reason")
    count = 0

    def add(loop: LoopCore, entry: dict[str, Any]) -> None:
        nonlocal count
        for task in list(loop._tasks):
            if wanted in (str(task.get_name()), f"{id(task):x}"):
                count += 1
                then.append(functools.partial(loop.call_soon_threadsafe, task.cancel, reason))

    return {**_on_each_loop(add), "cancelled": count}


_COMMANDS: Final = {
    "cancel": _answer_cancel,
    "connections": _answer_connections,
    "metrics": _answer_metrics,
    "ps": _answer_ps,
    "stack": _answer_stack,
    "timers": _answer_timers,
    "top": _answer_top,
}


def _tasks_of(loop: LoopCore) -> list[TaskInfo]:
    count = 0

    def pause() -> None:
        nonlocal count
        count += 1
        if count % _TASKS_AT_ONCE == 0:
            time.sleep(_PAUSE)

    return tasks(loop, pause=pause)


def _source(task: TaskInfo) -> list[str]:
    return [linecache.getline(place.file, place.line).strip() for place in task.stack]


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""The observing end: it asks a process for its tasks and metrics, and prints them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runtime.observe.endpoint import (
    MOST_OF_AN_ANSWER,
    ObserveError,
    checked_folder,
    is_allowed,
    socket_path,
)
from runtime.observe.printing import as_text
from runtime.observe.task_info import Place, TaskInfo

COMMANDS: Final = {
    "ps": "list the tasks of a process",
    "tree": "show which tasks wait for which, as runtime.print_tasks() does",
    "stack": "show the stack of a task, with its source lines",
    "metrics": "show the metrics of each loop",
    "connections": "list the connections, the fullest write buffer first",
    "timers": "list the timers, the next one first",
    "cancel": "cancel a task",
}
"""The commands of ``python -m runtime COMMAND PID``, and their descriptions."""

_PATIENCE: Final = 10.0


def ask(pid: int, request: dict[str, Any], *, patience: float = _PATIENCE) -> dict[str, Any]:
    """Return the answer of the process ``pid`` to a request, within ``patience`` seconds.

    If the process does not listen, it is made to, from Python 3.14 on. Raises ObserveError if that
    is not possible or the process does not answer.
    """
    with _connected(pid, patience) as connection:
        connection.settimeout(patience)
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = bytearray()
        try:
            while part := connection.recv(1 << 16):
                answer += part
                if len(answer) > MOST_OF_AN_ANSWER:
                    raise ObserveError(f"the answer of process {pid} is too long")
        except TimeoutError:
            raise ObserveError(f"process {pid} does not answer within {patience:g} s") from None
    try:
        found = json.loads(answer)
    except ValueError:
        raise ObserveError(f"process {pid} gave no answer") from None
    if not isinstance(found, dict) or "error" in found:
        raise ObserveError(f"process {pid} answered: {found}")
    return found


def _connected(pid: int, patience: float) -> socket.socket:
    """Return a connection to a process; make the process listen if it does not."""
    try:
        return _connect(socket_path(pid))
    except (ObserveError, FileNotFoundError, ConnectionRefusedError):
        _make_listen(pid)
    path = socket_path(pid, make=True)
    deadline = time.monotonic() + patience
    while True:
        try:
            return _connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise ObserveError(
                    f"process {pid} does not respond: its main thread runs no Python code, because "
                    "it waits for an event or is inside a C function: try again when it is "
                    "active, or start it with RUNTIME_OBSERVE=1"
                ) from None
            time.sleep(0.02)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
        if not is_allowed(connection):
            raise ObserveError(f"the process behind {path} belongs to another user")
    except BaseException:
        connection.close()
        raise
    return connection


_SCRIPT: Final = """\
import sys
if "runtime" in sys.modules:
    __import__("runtime.observe.listening").observe.listening.listen_in({folder!r})
"""


def _make_listen(pid: int) -> None:
    """Have a process that does not listen begin to. Raises ObserveError if this is not possible."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        raise ObserveError(f"there is no process {pid}") from None
    except PermissionError:
        raise ObserveError(f"process {pid} belongs to another user") from None
    remote_exec: Any = getattr(sys, "remote_exec", None)
    advice = "start it with RUNTIME_OBSERVE=1, or call runtime.observe.listen() in it"
    if remote_exec is None:
        raise ObserveError(f"process {pid} does not listen: {advice}")
    number, name = tempfile.mkstemp(".py", "listen-", checked_folder(make=True), text=True)
    with os.fdopen(number, "w") as script:
        script.write(_SCRIPT.format(folder=os.path.dirname(name)))
    try:
        remote_exec(pid, name)
    except (OSError, RuntimeError, ValueError) as error:
        os.unlink(name)
        raise ObserveError(f"process {pid} does not listen, and {error}: {advice}") from error
    _scripts.append(Path(name))


_scripts: Final[list[Path]] = []
"""Scripts that a process may not have read yet."""


# -- Printing --------------------------------------------------------------------------------------


def task_from(fields: dict[str, Any]) -> TaskInfo:
    """Return the task with the fields of an answer."""
    fields = {name: value for name, value in fields.items() if name != "source"}
    fields["stack"] = tuple(Place(**place) for place in fields["stack"])
    fields["awaits"] = tuple(fields["awaits"])
    fields["held_by"] = tuple(fields["held_by"])
    return TaskInfo(**fields)


def _heading(loop: dict[str, Any]) -> str:
    where = "not running" if loop["thread"] is None else f"running in thread {loop['thread']!r}"
    return f"{loop['name']} {where}"


def _ps(loop: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, ...]] = [("ID", "STATE", "AGE", "NAME", "COROUTINE", "WHERE")]
    for task in map(task_from, loop["tasks"]):
        age = "-" if task.age is None else f"{task.age:.1f}"
        place = task.stack[-1] if task.stack else None
        where = "" if place is None else f"{Path(place.file).name}:{place.line}"
        rows.append((f"{task.id:x}", task.state, age, task.name, task.coroutine, where))
    return _columns(rows)


def _connections(loop: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, ...]] = [("FD", "STATE", "UNSENT", "PEER", "LOCAL", "PROTOCOL")]
    for each in loop["connections"]:
        columns = ("fd", "state", "unsent", "peer", "local", "protocol")
        rows.append(tuple(str(each[column]) for column in columns))
    return _columns(rows)


def _timers(loop: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, ...]] = [("DUE IN", "CALLBACK")]
    rows += [(f"{each['due_in']:.3f}", each["callback"]) for each in loop["timers"]]
    return _columns(rows)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _tree(loop: dict[str, Any]) -> list[str]:
    return as_text(map(task_from, loop["tasks"])).splitlines()


def _stack(loop: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for fields in loop["tasks"]:
        task = task_from(fields)
        lines.append(f"{task.name}: {task.coroutine}(), {task.state}")
        for place, source in zip(task.stack, fields["source"], strict=True):
            lines += [f'  File "{place.file}", line {place.line}, in {place.function}']
            lines += [f"    {source}"] if source else []
        if task.waits_for:
            lines.append(f"  waits for {task.waits_for}")
    return lines


def _metrics(loop: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, value in loop["metrics"].items():
        if isinstance(value, dict):
            shown = f"{value['count']} times"
            if value["count"]:
                shown += "".join(
                    f", {key} {value[key] * 1e3:.3f} ms" for key in ("p50", "p99", "longest")
                )
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        lines.append(f"{name}: {shown}")
    return lines


_PRINTERS: Final = {
    "connections": _connections,
    "metrics": _metrics,
    "ps": _ps,
    "stack": _stack,
    "timers": _timers,
    "tree": _tree,
}


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m runtime COMMAND PID``; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("pid", type=int, help="the process")
        if name in ("stack", "cancel"):
            command.add_argument("task", help="the name of a task, or its ID as ps shows it")
        if name != "cancel":
            command.add_argument("--json", action="store_true", help="print the answer as JSON")
    options = parser.parse_args(arguments)
    name = options.command
    request = {"command": "ps" if name == "tree" else name}
    if name in ("stack", "cancel"):
        request["task"] = options.task
    try:
        answer = ask(options.pid, request)
    except ObserveError as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 1
    finally:
        while _scripts:
            with contextlib.suppress(OSError):
                _scripts.pop().unlink()
    if name == "cancel":
        print(f"cancelled {answer['cancelled']}")
        return 0 if answer["cancelled"] else 1
    if options.json:
        json.dump(answer, sys.stdout, indent=1)
        print()
        return 0
    for loop in answer["loops"]:
        print(_heading(loop))
        print("\n".join(f"  {line}" for line in _PRINTERS[name](loop)))
    return 0

"""The observing end: it asks a process for its tasks and metrics."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from runtime.observe.endpoint import (
    MOST_OF_AN_ANSWER,
    ObserveError,
    checked_folder,
    is_allowed,
    socket_path,
)

_PATIENCE: Final = 10.0


def ask(pid: int, request: dict[str, Any], *, patience: float = _PATIENCE) -> dict[str, Any]:
    """Return the answer of the process ``pid`` to a request, within ``patience`` seconds.

    If the process does not listen, it is made to, from Python 3.14 on. Raises ObserveError if that
    is not possible or the process does not answer.
    """
    with _connected(pid, patience) as connection:
        connection.settimeout(patience)
        answer = bytearray()
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            while part := connection.recv(1 << 16):
                answer += part
                if len(answer) > MOST_OF_AN_ANSWER:
                    raise ObserveError(f"the answer of process {pid} is too long")
        except TimeoutError:
            raise ObserveError(f"process {pid} does not answer within {patience:g} s") from None
        except ConnectionError:
            raise ObserveError(f"process {pid} ended before it had answered") from None
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
        script = _make_listen(pid)
    try:
        path = socket_path(pid, make=True)
        deadline = time.monotonic() + patience
        while True:
            try:
                return _connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise ObserveError(
                        f"process {pid} does not respond: its main thread runs no Python code, "
                        "because it waits for an event or is inside a C function: try again when "
                        "it is active, or start it with RUNTIME_OBSERVE=1"
                    ) from None
                time.sleep(0.02)
    finally:
        with contextlib.suppress(OSError):
            script.unlink()


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


def _make_listen(pid: int) -> Path:
    """Have a process that does not listen begin to; return the script that it is to run.

    Raises ObserveError if this is not possible.
    """
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
    return Path(name)

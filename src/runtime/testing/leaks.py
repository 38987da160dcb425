"""Open resources of a test: tasks and child processes of its loop, and open descriptors."""

from __future__ import annotations

import asyncio
import functools
import os
import shlex
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.kernel.daemons import is_daemon
from runtime.kernel.diagnostics.deadlock import describe_wait

_ANY_HOST = ("0.0.0.0", "::")
"""The addresses of a socket that listens on all interfaces."""


_LONGEST_COMMAND = 200
"""The number of characters of a process's command that are shown."""


class Child(Protocol):
    """A child process that a loop waits for. It was started in ``context``."""

    daemon: bool
    context: Context

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The process."""

    @property
    def pidfd(self) -> int:
        """The descriptor by which the end of the process is noticed; -1 if a thread waits."""


@dataclass
class Open:
    """Tasks that have not ended, processes that a loop waits for, and open descriptors."""

    tasks: set[Any] = field(default_factory=set)
    processes: set[Child] = field(default_factory=set)
    descriptors: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.tasks or self.processes or self.descriptors)

    def __sub__(self, other: Open) -> Open:
        return Open(
            self.tasks - other.tasks,
            self.processes - other.processes,
            self.descriptors - other.descriptors,
        )

    def __or__(self, other: Open) -> Open:
        return Open(
            self.tasks | other.tasks,
            self.processes | other.processes,
            self.descriptors | other.descriptors,
        )

    def without_daemons(self) -> Open:
        """Return these resources without daemon tasks, and without the processes of daemons."""
        tasks = {
            task
            for task in self.tasks
            if not (hasattr(task, "get_context") and is_daemon(task.get_context()))
        }
        daemons = {process for process in self.processes if process.daemon}
        return Open(
            tasks, self.processes - daemons, self.descriptors - descriptors_of(daemons).keys()
        )

    def describe(self) -> Iterator[str]:
        """Yield a description of each resource.

        Tasks are shown with the place where they wait, descriptors with their file. The descriptors
        of a process are listed with the process.
        """
        for task in sorted(self.tasks, key=_name_of):
            first, *rest = describe_wait(task)
            yield "\n".join(["task " + first, *rest])
        for process in sorted(self.processes, key=lambda process: process.popen.pid):
            yield _describe_process(process)
        for descriptor in sorted(self.descriptors - descriptors_of(self.processes).keys()):
            try:
                target = f" -> {os.readlink(f'{_descriptor_folder()}/{descriptor}')}"
            except OSError:
                target = ""
            yield f"descriptor {descriptor}{target}"


def open_resources(loop: Any) -> Open:
    """Return the tasks and child processes of ``loop``, and the descriptors of this process.

    A closed loop has neither tasks nor processes.
    """
    if loop.is_closed():
        return Open(descriptors=open_descriptors())
    # The loop waits for a process with a watcher of its pidfd, or with a thread.
    waits = [getattr(watcher, "wait", None) for watcher in loop._poller.watchers()]
    processes = {wait for wait in (*waits, *loop._external_work) if hasattr(wait, "popen")}
    return Open(asyncio.all_tasks(loop), processes, open_descriptors())


def descriptors_of(processes: Iterable[Child]) -> dict[int, str]:
    """Return the descriptors that belong to processes, and the name of each: pidfd or a pipe."""
    found: dict[int, str] = {}
    for process in processes:
        found[process.pidfd] = "pidfd"
        popen = process.popen
        for name, pipe in (
            ("stdin", popen.stdin),
            ("stdout", popen.stdout),
            ("stderr", popen.stderr),
        ):
            if pipe is not None and not pipe.closed:
                found[pipe.fileno()] = name
    found.pop(-1, None)
    return found


def _describe_process(process: Child) -> str:
    arguments: Any = process.popen.args
    if isinstance(arguments, (str, bytes, os.PathLike)):
        command = os.fsdecode(arguments)
    else:
        command = shlex.join(map(os.fsdecode, arguments))
    if len(command) > _LONGEST_COMMAND:
        command = command[:_LONGEST_COMMAND] + " ..."
    line = f"process {process.popen.pid} has not ended: {command}"
    kinds = sorted(descriptors_of([process]).items())
    descriptors = ", ".join(f"{number} ({kind})" for number, kind in kinds)
    return f"{line}\n  with descriptors {descriptors}" if descriptors else line


def open_descriptors() -> set[int]:
    """Return the open descriptors of this process; none if the system cannot list them."""
    folder = _descriptor_folder()
    found = set()
    for name in os.listdir(folder) if folder is not None else ():
        try:
            os.fstat(int(name))
        except OSError:
            continue  # It was the descriptor with which the folder was listed.
        found.add(int(name))
    return found


def accepted_descriptors(listening: Iterable[int], descriptors: Iterable[int]) -> set[int]:
    """Return the descriptors of connections that one of the sockets ``listening`` accepted."""
    addresses = [address for fd in listening if (address := _address_of(fd, listens=True))]
    if not addresses:
        return set()
    return {
        fd
        for fd in descriptors
        if (address := _address_of(fd, listens=False))
        and any(_is_covered(address, listener) for listener in addresses)
    }


def _address_of(descriptor: int, *, listens: bool) -> tuple[int, Any] | None:
    """Return the family and the local address of a stream socket.

    Return None for other files, and unless the socket listens, or does not, as ``listens`` says.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if sock.type != socket.SOCK_STREAM:
            return None
        if bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) is not listens:
            return None
        name = sock.getsockname()
    except OSError:
        return None
    finally:
        sock.detach()
    return (sock.family, name) if name else None


def _is_covered(address: tuple[int, Any], listener: tuple[int, Any]) -> bool:
    """Return whether a connection with a local address may have been accepted by a listener."""
    (family, name), (listener_family, listener_name) = address, listener
    if family != listener_family or not isinstance(name, tuple):
        return address == listener
    return bool(name[1] == listener_name[1] and listener_name[0] in (name[0], *_ANY_HOST))


@functools.cache
def _descriptor_folder() -> str | None:
    folders = ("/proc/self/fd", "/dev/fd")
    return next((folder for folder in folders if os.path.isdir(folder)), None)


def _name_of(task: Any) -> str:
    return str(task.get_name())

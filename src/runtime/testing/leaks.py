"""What is open in a test: the tasks of its loop, and the descriptors of the process."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runtime.kernel.daemons import is_daemon
from runtime.kernel.deadlock import describe_wait

_ANY_HOST = ("0.0.0.0", "::")
"""The addresses of a socket that listens on all interfaces."""


@dataclass
class Open:
    """Tasks that have not ended, and descriptors that are open."""

    tasks: set[Any] = field(default_factory=set)
    descriptors: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.tasks or self.descriptors)

    def __sub__(self, other: Open) -> Open:
        return Open(self.tasks - other.tasks, self.descriptors - other.descriptors)

    def __or__(self, other: Open) -> Open:
        return Open(self.tasks | other.tasks, self.descriptors | other.descriptors)

    def without_daemons(self) -> Open:
        """Return all of it but the tasks that nobody need wait for."""
        tasks = {
            task
            for task in self.tasks
            if not (hasattr(task, "get_context") and is_daemon(task.get_context()))
        }
        return Open(tasks, self.descriptors)

    def describe(self) -> Iterator[str]:
        """Say of each task where it waits, and of each descriptor what it leads to."""
        for task in sorted(self.tasks, key=_name_of):
            first, *rest = describe_wait(task)
            yield "\n".join(["task " + first, *rest])
        for descriptor in sorted(self.descriptors):
            try:
                target = f" -> {os.readlink(f'{_descriptor_folder()}/{descriptor}')}"
            except OSError:
                target = ""
            yield f"descriptor {descriptor}{target}"


def what_is_open(loop: Any) -> Open:
    """Return the tasks of a loop, none when it is closed, and the descriptors of the process."""
    tasks: set[Any] = set() if loop.is_closed() else asyncio.all_tasks(loop)
    return Open(tasks, open_descriptors())


def open_descriptors() -> set[int]:
    """Return the descriptors that are open in this process; none where that cannot be told."""
    folder = _descriptor_folder()
    found = set()
    for name in os.listdir(folder) if folder is not None else ():
        try:
            os.fstat(int(name))
        except OSError:
            continue  # It was that of the listing.
        found.add(int(name))
    return found


def accepted_by(listening: Iterable[int], descriptors: Iterable[int]) -> set[int]:
    """Return those of ``descriptors`` that are connections which one of ``listening`` accepted."""
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
    """Return family and address of a stream socket that listens, or does not; else None."""
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
    """Return whether a connection with a local address may come from a listener."""
    (family, name), (its_family, its_name) = address, listener
    if family != its_family or not isinstance(name, tuple):
        return address == listener
    return bool(name[1] == its_name[1] and its_name[0] in (name[0], *_ANY_HOST))


@functools.cache
def _descriptor_folder() -> str | None:
    folders = ("/proc/self/fd", "/dev/fd")
    return next((folder for folder in folders if os.path.isdir(folder)), None)


def _name_of(task: Any) -> str:
    return str(task.get_name())

"""Readiness: waiting until a descriptor is readable, writable, or has an exceptional condition."""

from __future__ import annotations

import select
import socket
import threading

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.arguments.file_descriptors import HasFileno, descriptor
from runtime.kernel.descriptors import readable, writable
from runtime.kernel.public_types import Future


async def wait_readable(sock: int | HasFileno) -> None:
    """Wait until a read from ``sock``, a socket or a descriptor, would not block.

    Raises RuntimeError if another task waits for the same; ValueError for a closed socket; and
    OSError if the descriptor is closed during the wait and its number used again. Cancellation
    safe.
    """
    await readable(get_running_loop(), descriptor(sock))


async def wait_writable(sock: int | HasFileno) -> None:
    """Wait until a write to ``sock``, a socket or a descriptor, would not block.

    Raises RuntimeError if another task waits for the same; ValueError for a closed socket; and
    OSError if the descriptor is closed during the wait and its number used again. Cancellation
    safe.
    """
    await writable(get_running_loop(), descriptor(sock))


async def wait_exceptional(sock: int | HasFileno) -> None:
    """Wait for urgent (out-of-band) data, an error or a hang-up on ``sock``.

    Ordinary data does not end the wait. The loop's selector cannot wait for these conditions: on
    Linux an epoll object is made that can, and that the selector watches; on other systems a thread
    waits. Raises ValueError for a closed socket. Cancellation safe.
    """
    fd = descriptor(sock)
    if hasattr(select, "epoll"):
        with select.epoll() as exceptional:
            exceptional.register(fd, select.EPOLLPRI)
            await wait_readable(exceptional.fileno())
    else:
        await wait_exceptional_in_thread(fd)


async def wait_exceptional_in_thread(fd: int) -> None:
    """Wait like ``wait_exceptional``, by a thread that polls: for systems without epoll."""
    loop = get_running_loop()
    done: Future[None] = loop.create_future()
    receiver, sender = socket.socketpair()

    def poll() -> None:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        poller.register(receiver.fileno(), select.POLLIN)
        ready = [number for number, _ in poller.poll()]
        if fd in ready and not loop.is_closed():
            loop.call_soon_threadsafe(_finish, done)

    thread = threading.Thread(target=poll, name=f"wait_exceptional({fd})", daemon=True)
    with receiver, sender:
        thread.start()
        try:
            await done
        finally:
            sender.send(b"\0")
            thread.join()


def _finish(ready: Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

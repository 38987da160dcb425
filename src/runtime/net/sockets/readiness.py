"""Waiting until a descriptor can be read or written, or has something exceptional to tell."""

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

    Raises RuntimeError when another task waits for the same, ValueError for a closed socket, and
    OSError when the descriptor is closed meanwhile and its number taken. Cancellation safe.
    """
    await readable(get_running_loop(), descriptor(sock))


async def wait_writable(sock: int | HasFileno) -> None:
    """Wait until a write to ``sock``, a socket or a descriptor, would not block.

    Raises RuntimeError when another task waits for the same, ValueError for a closed socket, and
    OSError when the descriptor is closed meanwhile and its number taken. Cancellation safe.
    """
    await writable(get_running_loop(), descriptor(sock))


async def wait_exceptional(sock: int | HasFileno) -> None:
    """Wait for urgent (out-of-band) data, an error or a hang-up on ``sock``.

    Ordinary data does not end the wait. On Linux an epoll of its own watches for it, which the
    loop's selector can watch in turn; elsewhere a thread does. Raises ValueError for a closed
    socket. Cancellation safe.
    """
    fd = descriptor(sock)
    if hasattr(select, "epoll"):
        with select.epoll() as exceptional:
            exceptional.register(fd, select.EPOLLPRI)
            await wait_readable(exceptional.fileno())
    else:
        await wait_exceptional_in_thread(fd)


async def wait_exceptional_in_thread(fd: int) -> None:
    """As ``wait_exceptional``, where the selector cannot watch for it: a thread polls."""
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

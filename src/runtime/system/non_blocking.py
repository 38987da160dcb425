"""Non-blocking mode of pipes: set while a transport uses a pipe, and restored afterwards.

Whether reads and writes block is a property of the open file behind a descriptor, not of the
descriptor. The open file may have other users: duplicates of the descriptor in this process, or the
shell that started the program with its terminal as standard output, and the programs that this
shell starts next. They do not expect a write to be partial, or to fail because it would block. The
mode is therefore restored when the transport ends.

Several transports may use one open file, such as those for the input and the output of a terminal.
The last of them restores the mode.

Source: fcntl(2), "File status flags".
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Final

from runtime.kernel.poller import file_identity

if sys.platform != "win32":  # Windows has no such pipes.
    # Imported here, because a finalizer that runs at the end of the interpreter cannot import.
    import fcntl

_lock: Final = threading.RLock()
"""Lock for ``_uses``. It is reentrant because the garbage collector may drop a transport, and so
call ``end()``, while the lock is held."""

_uses: Final[dict[tuple[int, int] | None, list[NonBlocking]]] = {}
"""Every use of an open file by a transport, of the loops of all threads, by device and inode."""


class NonBlocking:
    """One transport's use of a descriptor in non-blocking mode, from now to ``end()``."""

    __slots__ = ("_fd", "_file", "_pid", "_restores")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = file_identity(fd)
        self._pid = os.getpid()
        with _lock:
            self._restores = os.get_blocking(fd)
            os.set_blocking(fd, False)
            _uses.setdefault(self._file, []).append(self)

    def end(self) -> None:
        """Restore the mode, if this is the last use of the open file.

        It can be called more than once. It does nothing if other code has closed the descriptor,
        whose number may mean another file by now. A forked process leaves the mode alone: its
        parent continues with the transport.
        """
        if os.getpid() != self._pid:
            return
        with _lock:
            uses = _uses.get(self._file, [])
            if self not in uses:
                return
            uses.remove(self)
            if not uses:
                del _uses[self._file]
            if self._restores and self._is_open():
                self._restore_or_leave_to(list(uses))

    def _is_open(self) -> bool:
        return file_identity(self._fd) == self._file

    def _restore_or_leave_to(self, others: list[NonBlocking]) -> None:
        for other in others:
            if other._is_open() and _is_same_open_file(self._fd, other._fd):
                other._restores = True
                return
        os.set_blocking(self._fd, True)

    def restore(self) -> None:
        """Restore the mode while the transport is still open, because the program ends."""
        if self._restores and os.getpid() == self._pid and self._is_open():
            os.set_blocking(self._fd, True)


@atexit.register
def _restore_all() -> None:
    for uses in list(_uses.values()):
        for use in list(uses):
            use.restore()


def _is_same_open_file(fd: int, other: int) -> bool:
    """Return whether two descriptors refer to the same open file.

    It changes a flag through one descriptor, looks for the change through the other, and undoes it.
    The flag is O_APPEND, which has no effect on pipes, sockets and character devices.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    before = fcntl.fcntl(other, fcntl.F_GETFL)
    if flags != before:
        return False
    fcntl.fcntl(fd, fcntl.F_SETFL, flags ^ os.O_APPEND)
    try:
        return fcntl.fcntl(other, fcntl.F_GETFL) != before
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)

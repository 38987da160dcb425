"""Pipes that are non-blocking while a transport uses them, and as they were before afterwards.

Whether reads and writes wait is no property of a descriptor, but of the open file behind it. Others
have that too: duplicates of the descriptor in this process, the shell that started the program with
its terminal as standard output, and what that starts next. They do not expect a write that sends a
part and fails, so the mode is restored when the transport is done.

Several transports may use one open file, as for the input and the output of a terminal. The last of
them restores the mode.

Source: fcntl(2), "File status flags".
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Final

from runtime.kernel.poller import file_of

if sys.platform != "win32":  # There are no such pipes.
    # Here, for a finalizer that runs at the end of the interpreter can import nothing.
    import fcntl

_lock: Final = threading.RLock()
"""Reentrant: the garbage collector may drop a transport while another one is looked at."""

_uses: Final[dict[tuple[int, int] | None, list[NonBlocking]]] = {}
"""Every use, by its file; those of loops in other threads too."""


class NonBlocking:
    """One transport's use of a descriptor in non-blocking mode, from now to ``end()``."""

    __slots__ = ("_fd", "_file", "_pid", "_restores")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._file = file_of(fd)
        self._pid = os.getpid()
        with _lock:
            self._restores = os.get_blocking(fd)
            os.set_blocking(fd, False)
            _uses.setdefault(self._file, []).append(self)

    def end(self) -> None:
        """Restore the mode, if this is the last use of the open file. Calling it twice is fine.

        Nothing is done to a descriptor that was closed by others, and means another file by now.
        A forked process leaves the mode to its parent, which goes on with the transport.
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
        return file_of(self._fd) == self._file

    def _restore_or_leave_to(self, others: list[NonBlocking]) -> None:
        for other in others:
            if other._is_open() and _is_same_open_file(self._fd, other._fd):
                other._restores = True
                return
        os.set_blocking(self._fd, True)

    def restore(self) -> None:
        """Restore the mode though the transport is still there: the program ends."""
        if self._restores and os.getpid() == self._pid and self._is_open():
            os.set_blocking(self._fd, True)


@atexit.register
def _restore_all() -> None:
    for uses in list(_uses.values()):
        for use in list(uses):
            use.restore()


def _is_same_open_file(fd: int, other: int) -> bool:
    """Return whether a flag that is changed through one descriptor shows in the other.

    The flag means nothing to pipes, sockets and character devices: where writes go in the file.
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

"""``ReadEnd``: the end of a pipe that is read from."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.native import accelerator
from runtime.kernel.watcher import READ
from runtime.system.pipe_ends import Pipe, PipeEnd

_run_in: Final = Context.run
_receive: Final[Callable[[int], bytes | None]] = accelerator.read
# The number of reads that empty the largest pipe that Linux gives to ordinary users, 1 MiB.
_READS_AT_EXIT: Final = 32


class ReadEnd(PipeEnd):
    """The read end of a pipe: it passes received data to the protocol."""

    __slots__ = ("_in_turns", "_paused")

    def __init__(self, loop: LoopCore, pipe: Pipe, protocol: Any) -> None:
        PipeEnd.__init__(self, loop, pipe, protocol)
        self._paused = False
        # Whether a read is scheduled for the next turn, from a device that cannot be watched.
        self._in_turns = False

    def reading(self) -> bool:
        """Return whether received data is passed to the protocol."""
        return not self._paused and not self.closing

    def pause(self) -> None:
        """Stop reading, and leave the data in the pipe."""
        if self.reading():
            self._paused = True
            self.update_watch()

    def resume(self) -> None:
        """Read again after a pause."""
        if self._paused and not self.closing:
            self._paused = False
            self.update_watch()

    def close(self) -> None:
        """Stop reading."""
        self.end(None)

    def events_to_watch(self) -> int:
        """Return READ unless reading is paused."""
        return READ if self.reading() else 0

    def on_readable(self) -> None:
        """Read once; pass the data, or the end of file, to the protocol."""
        self._read()

    def on_process_exit(self) -> None:
        """Read all that is left in the pipe, and the end of file, unless the protocol pauses.

        Another process may hold the pipe open too: data that it writes from now on comes later.
        """
        for _ in range(_READS_AT_EXIT):
            if not self.reading() or not self._read():
                return

    def _read(self) -> bool:
        """Read once, as ``on_readable`` does; return whether there may be more to read at once."""
        if not self.check_open():
            return False
        try:
            data = _receive(self.number)
        except OSError as error:
            self.fail(error)
            return False
        if data is None:
            return False
        if data:
            self._deliver(data)
            return True
        self.call_soon(self.protocol.eof_received)
        self.end(None)
        return False

    def _deliver(self, data: bytes) -> None:
        try:
            _run_in(self.context, self.protocol.data_received, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report("protocol.data_received() failed", error)

    def cannot_watch(self, error: OSError) -> None:
        """Read once in every turn, if the system refuses to watch the descriptor.

        Linux refuses that for devices that are always ready, such as ``/dev/null``.
        """
        if not isinstance(error, PermissionError):
            self.fail(error)
        elif not self._in_turns:
            self._in_turns = True
            self.loop.call_soon(self._read_in_turn)

    def _read_in_turn(self) -> None:
        self._in_turns = False
        if self.reading():
            self.on_readable()
        if self.reading():
            self.update_watch()

    def fail(self, error: OSError) -> None:
        """End because of ``error``, and report it: a protocol may ignore it.

        EIO is not reported. A terminal gives this error when its other side is gone.
        """
        if self.ended:
            return
        if error.errno == errno.EIO:
            self.note("Fatal read error on pipe transport", error)
        else:
            self.report("Fatal read error on pipe transport", error)
        self.end(error)

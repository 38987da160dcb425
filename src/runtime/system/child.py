"""A child process: how the loop learns that it has ended, takes its exit status, and signals it.

Where the system has pidfds (Linux since 5.4), the loop watches the child's as it watches any
descriptor. Elsewhere, and where that fails, a thread waits for the child, and wakes the loop.

Whoever ends a wait, the status is taken in the loop's thread: until then the system keeps the child
as a zombie, so that its pid means no other process, and cannot be signalled by mistake. Nobody asks
for any child but this one: what ``subprocess``, ``multiprocessing`` and other loops started is
theirs to wait for. No signal is involved, and so it does not matter in which thread a loop runs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final

from runtime.kernel.core import LoopCore
from runtime.kernel.poller import READ, Watcher

STATUS_TAKEN: Final = 255
"""What is reported of a child whose exit status somebody else took."""

_logger: Final = logging.getLogger("asyncio")


@functools.cache
def pidfds_work() -> bool:
    """Return whether the system has pidfds that can be waited for, and lets this process use them.

    It may be too old, or filter system calls as some containers do.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(os, "P_PIDFD"):
        return False
    try:
        pidfd = os.pidfd_open(os.getpid())
    except OSError:
        return False
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return True  # Understood: this process is not a child of its own.
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return False


class Child:
    """A process that was started with ``subprocess.Popen``, until its exit status is taken.

    ``popen.returncode`` is where the status is noted, by whoever takes it.
    """

    __slots__ = ("_watcher", "pidfd", "popen")

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.pidfd = -1
        self._watcher: Watcher | None = None

    # -- Noticing the end --------------------------------------------------------------------------

    def watch(self, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        """Have ``on_end(returncode)`` called, in the loop, when the child has ended."""
        if pidfds_work():
            try:
                self.pidfd = os.pidfd_open(self.popen.pid)
                watcher = _EndWatcher(self, loop, on_end)
                loop.poller.watch(watcher, READ)
            except (OSError, ValueError):
                # No descriptors left; a selector that cannot take it; or the child is gone, and
                # its status with it. The thread finds out.
                self.close_pidfd()
            else:
                self._watcher = watcher
                return
        self.wait_in_thread(loop, on_end)

    def wait_in_thread(self, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        """As ``watch``, by a thread."""

        def end() -> None:
            returncode = self.take_status()
            assert returncode is not None
            on_end(returncode)

        def wait() -> None:
            self._wait_for_end()
            try:
                loop.call_soon_threadsafe(end)
            except RuntimeError:  # The loop was closed, and nobody else takes the status.
                self.take_status()

        self._start_thread(wait)

    def bury(self) -> None:
        """Take the status of a child that is about to end and that no loop watches any more."""
        self.close_pidfd()
        # A thread that starts while the interpreter ends would never get to run.
        if self.take_status() is None and not sys.is_finalizing():

            def wait() -> None:
                self._wait_for_end()
                self.take_status()

            with contextlib.suppress(RuntimeError):
                self._start_thread(wait)

    def _start_thread(self, wait: Callable[[], None]) -> None:
        name = f"runtime waits for process {self.popen.pid}"
        # Not to be waited for at exit: the child may outlive this process.
        threading.Thread(target=wait, name=name, daemon=True).start()

    def _wait_for_end(self) -> None:
        """Block until the child has ended."""
        # Somebody else may have taken the status: ``take_status`` will find that out.
        with contextlib.suppress(ChildProcessError):
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT)
            else:  # Here the status can't be left for later.
                _, status = os.waitpid(self.popen.pid, 0)
                self.popen.returncode = os.waitstatus_to_exitcode(status)

    # -- The exit status ---------------------------------------------------------------------------

    def take_status(self) -> int | None:
        """Return the return code, negative for a signal, when the child has ended; else None."""
        popen = self.popen
        if popen.returncode is None:
            try:
                returncode = self._reap()
            except ChildProcessError:
                returncode = self._status_taken()
            if returncode is not None:
                popen.returncode = returncode
        return popen.returncode

    def _reap(self) -> int | None:
        if self.pidfd < 0:
            pid, status = os.waitpid(self.popen.pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) if pid else None
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _status_taken(self) -> int:
        """Return what another thread that waited through the Popen object was told, or 255."""
        popen = self.popen
        # Such a thread holds this lock until it has noted the status.
        with getattr(popen, "_waitpid_lock", contextlib.nullcontext()):
            if popen.returncode is not None:
                return popen.returncode
        _logger.warning(
            "The exit status of process %d was taken by somebody else, so returncode %d is "
            "reported: do not call os.wait() or waitpid(-1), and do not ignore SIGCHLD, in a "
            "program that has subprocesses in an event loop.",
            popen.pid,
            STATUS_TAKEN,
        )
        return STATUS_TAKEN

    # -- Signals -----------------------------------------------------------------------------------

    def send_signal(self, number: int) -> None:
        """Send a signal; none to a child that has ended, nor to whoever has its pid by now.

        Raises PermissionError when the child runs for another user, and OSError for a number that
        is no signal.
        """
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self.popen.returncode is None:
                os.kill(self.popen.pid, number)

    # -- Ending ------------------------------------------------------------------------------------

    def close_pidfd(self) -> None:
        """Close the pidfd, if there is one; it is watched no more."""
        watcher = self._watcher
        if watcher is not None:
            self._watcher = None
            if isinstance(watcher, _EndWatcher):
                watcher.end()
        pidfd = self.pidfd
        if pidfd >= 0:
            self.pidfd = -1
            os.close(pidfd)


class _EndWatcher(Watcher):
    """Watches a pidfd, which can be read once its process has ended."""

    __slots__ = ("_child", "_loop", "_on_end")

    def __init__(self, child: Child, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        Watcher.__init__(self, child.pidfd)
        self._child = child
        self._loop = loop
        self._on_end = on_end

    def end(self) -> None:
        if self.events:
            self._loop.poller.watch(self, 0)

    def on_readable(self) -> None:
        returncode = self._child.take_status()
        if returncode is not None:
            self._child.close_pidfd()
            self._on_end(returncode)

    def on_lost(self) -> None:
        """Wait in a thread instead: somebody closed the pidfd, and its number is another file's."""
        self._child.pidfd = -1
        self._child.wait_in_thread(self._loop, self._on_end)

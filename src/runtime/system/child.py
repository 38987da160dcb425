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
import weakref
from collections.abc import Callable
from contextvars import copy_context
from typing import Final

from runtime.kernel.core import LoopCore
from runtime.kernel.daemons import ExternalWork
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


_PEEK: Final = getattr(os, "WEXITED", 0) | getattr(os, "WNOWAIT", 0) | os.WNOHANG
"""Options of ``waitid`` that ask for an end and leave the status where it is."""


def _is_stop(info: os.waitid_result | None) -> bool:
    """Return whether ``waitid`` tells of a stop, as macOS does although only ends are asked for."""
    return info is not None and info.si_code in (os.CLD_STOPPED, os.CLD_CONTINUED, os.CLD_TRAPPED)


class Child:
    """A process that was started with ``subprocess.Popen``, until its exit status is taken.

    ``popen.returncode`` is where the status is noted, by whoever takes it.
    """

    __slots__ = ("_lock", "_thread_waits", "_watcher", "pidfd", "popen")

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.pidfd = -1
        self._watcher: _EndWatcher | None = None
        # Whether a thread waits, and will take the status when the loop does not.
        self._thread_waits = False
        # The status can be taken once, and whoever comes second is to find it noted. The lock is
        # Popen's own, which a thread in ``Popen.wait()`` holds for as long as it waits.
        self._lock: threading.Lock = getattr(popen, "_waitpid_lock", None) or threading.Lock()

    # -- Noticing the end --------------------------------------------------------------------------

    def watch(self, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        """Have ``on_end(returncode)`` called, in the loop, when the child has ended.

        Until then the loop holds ``on_end``: through ``_external_work`` if a thread waits, for a
        thread that held it would keep the transport from being dropped with its loop.
        """
        wait = _Wait(self, loop, on_end)
        if pidfds_work():
            try:
                self.pidfd = os.pidfd_open(self.popen.pid)
                watcher = _EndWatcher(self, loop, wait)
                loop._poller.watch(watcher, READ)
            except Exception:
                # No descriptors left; a selector that cannot take it, or refuses to; or the child
                # is gone, and its status with it. The thread finds out.
                self.close_pidfd()
            else:
                self._watcher = watcher
                return
        self.wait_in_thread(wait)

    def wait_in_thread(self, wait: _Wait | None) -> None:
        """Have a thread wait for the child, and tell ``wait``, or take the status itself."""
        self._thread_waits = True
        if wait is not None:
            wait.hold()
        reference = weakref.ref(wait) if wait is not None else None

        def wait_for_end() -> None:
            self._block_until_end()
            wait = reference() if reference is not None else None
            # With its loop closed, there is nobody else to take the status.
            if wait is None or not wait.notify():
                self.status_at_end()

        # Not to be waited for at exit: the child may outlive this process.
        name = f"runtime waits for process {self.popen.pid}"
        threading.Thread(target=wait_for_end, name=name, daemon=True).start()

    def reap_in_background(self) -> None:
        """Take the status of a child that is about to end and that no loop watches any more."""
        self.close_pidfd()
        # A thread that starts while the interpreter ends would never get to run.
        if self.status_now() is None and not self._thread_waits and not sys.is_finalizing():
            with contextlib.suppress(RuntimeError):
                self.wait_in_thread(None)

    def _block_until_end(self) -> None:
        # Somebody else may have taken the status: ``_take_status`` will find that out.
        with contextlib.suppress(ChildProcessError):
            if hasattr(os, "waitid"):
                pid = self.popen.pid
                while _is_stop(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)):
                    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
                return
            with self._lock:  # The status can't be left for later here.
                if self.popen.returncode is None:
                    _, status = os.waitpid(self.popen.pid, 0)
                    self.popen.returncode = os.waitstatus_to_exitcode(status)

    # -- The exit status ---------------------------------------------------------------------------

    def status_now(self) -> int | None:
        """Return the return code, negative for a signal; None while the child runs.

        None also when another thread is waiting for the child, and about to take the status.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._take_status()
        finally:
            self._lock.release()

    def status_at_end(self) -> int | None:
        """As ``status_now``, for a child that has ended: a thread that waits too is let go first.

        None if it has not ended after all.
        """
        with self._lock:
            return self._take_status()

    def _take_status(self) -> int | None:
        popen = self.popen
        if popen.returncode is None:
            try:
                popen.returncode = self._reap()
            except ChildProcessError:
                popen.returncode = STATUS_TAKEN
                _logger.warning(
                    "The exit status of process %d was taken by somebody else, so returncode %d "
                    "is reported: do not call os.wait() or waitpid(-1), and do not ignore "
                    "SIGCHLD, in a program that has subprocesses in an event loop.",
                    popen.pid,
                    STATUS_TAKEN,
                )
        return popen.returncode

    def _reap(self) -> int | None:
        if self.pidfd < 0:
            pid, status = os.waitpid(self.popen.pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) if pid else None
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    # -- Signals -----------------------------------------------------------------------------------

    def send_signal(self, number: int) -> None:
        """Send a signal; none to a child that has ended, nor to whoever has its pid by now.

        Raises PermissionError when the child runs for another user, and OSError for a number that
        is no signal.
        """
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self._is_ours():
                os.kill(self.popen.pid, number)

    def _is_ours(self) -> bool:
        """Return whether the pid still means the child, and it runs.

        The status may have been taken elsewhere, so that another process can have the pid by now.
        """
        if self.popen.returncode is not None:
            return False
        try:
            if hasattr(os, "waitid"):
                return os.waitid(os.P_PID, self.popen.pid, _PEEK) is None
            # The thread that waits holds the lock. If the status is taken here, it finds it noted.
            pid, status = os.waitpid(self.popen.pid, os.WNOHANG)
            if pid:
                self.popen.returncode = os.waitstatus_to_exitcode(status)
            return pid == 0
        except ChildProcessError:
            return False

    # -- Ending ------------------------------------------------------------------------------------

    def forget_pidfd(self) -> None:
        """Take note that the pidfd was closed by somebody else, and is watched no more."""
        self._watcher = None
        self.pidfd = -1

    def close_pidfd(self) -> None:
        """Close the pidfd, if there is one; it is watched no more."""
        watcher = self._watcher
        if watcher is not None:
            self._watcher = None
            watcher.end()
        pidfd = self.pidfd
        if pidfd >= 0:
            self.pidfd = -1
            os.close(pidfd)


class _Wait(ExternalWork):
    """Who waits for the end of a child; a thread may be told to tell it."""

    __slots__ = ("__weakref__", "_child", "_loop", "context", "on_end")

    def __init__(self, child: Child, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        super().__init__()
        # What the process was started in.
        self.context = copy_context()
        self._child = child
        self._loop = loop
        self.on_end = on_end

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The process, for reports."""
        return self._child.popen

    @property
    def pidfd(self) -> int:
        """The descriptor by which the loop learns of the end; -1 when a thread waits."""
        return self._child.pidfd

    def hold(self) -> None:
        """Stay alive until the end, or that of the loop."""
        self._loop._external_work.add(self)

    def notify(self) -> bool:
        """Wake the loop, from any thread; return whether that will take the status."""
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            return False
        return True

    def _end(self) -> None:
        self._loop._external_work.discard(self)
        returncode = self._child.status_at_end()
        assert returncode is not None
        self.on_end(returncode)


class _EndWatcher(Watcher):
    """Watches a pidfd, which can be read once its process has ended."""

    __slots__ = ("_child", "_loop", "wait")

    def __init__(self, child: Child, loop: LoopCore, wait: _Wait) -> None:
        Watcher.__init__(self, child.pidfd)
        self._child = child
        self._loop = loop
        self.wait = wait

    def end(self) -> None:
        if self.events:
            self._loop._poller.watch(self, 0)

    def on_readable(self) -> None:
        returncode = self._child.status_at_end()
        if returncode is not None:
            self._child.close_pidfd()
            self.wait.on_end(returncode)

    def on_lost(self) -> None:
        """Wait in a thread instead: somebody closed the pidfd, and its number is another file's."""
        self._child.forget_pidfd()
        self._child.wait_in_thread(self.wait)

"""Child processes: notices the end of a child, reaps it, and sends signals to it.

Where the system has pidfds (Linux since 5.4), the loop watches the pidfd of the child like any
other descriptor. Elsewhere, and where that fails, a thread waits for the child, and wakes the loop.

To reap a child is to take its exit status, which can be done once. The loop's thread does it, also
if another thread has noticed the end: until then the system keeps the child as a zombie, so that
its pid cannot be given to another process, which would get signals by mistake. A loop waits for its
own children only, one by one: those of ``subprocess``, ``multiprocessing`` and other loops are left
alone. SIGCHLD is not used, so that a loop with children can run in any thread.
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
from runtime.kernel.watcher import READ, Watcher

STATUS_TAKEN: Final = 255
"""The return code that is reported for a child that was reaped by other code of the program."""

_logger: Final = logging.getLogger("asyncio")


@functools.cache
def pidfds_work() -> bool:
    """Return whether the system has pidfds that can be waited for, and lets this process use them.

    It may be too old, or filter system calls, as some containers do.
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
        return True  # The call works: the system answers that this process is not its own child.
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return False


_PEEK: Final = getattr(os, "WEXITED", 0) | getattr(os, "WNOWAIT", 0) | os.WNOHANG
"""Options of ``waitid`` that ask whether a child has ended, without reaping it."""


def _is_stop(info: os.waitid_result | None) -> bool:
    """Return whether ``waitid`` reports a stop, as macOS does although only ends were asked for."""
    return info is not None and info.si_code in (os.CLD_STOPPED, os.CLD_CONTINUED, os.CLD_TRAPPED)


class Child:
    """A process that was started with ``subprocess.Popen``, until it is reaped.

    The code that reaps it, here or in ``Popen``, notes the exit status in ``popen.returncode``.
    """

    __slots__ = ("_lock", "_thread_waits", "_watcher", "pidfd", "popen")

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.pidfd = -1
        self._watcher: _EndWatcher | None = None
        # Whether a thread waits, and will reap the child if the loop does not.
        self._thread_waits = False
        # A child can be reaped once, and a thread that comes second must find the status noted. The
        # lock is Popen's own, which a thread in ``Popen.wait()`` holds for as long as it waits.
        self._lock: threading.Lock = getattr(popen, "_waitpid_lock", None) or threading.Lock()

    # -- Noticing the end --------------------------------------------------------------------------

    def watch(self, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        """Have ``on_end(returncode)`` called, in the loop, when the child has ended.

        Until then the loop refers to ``on_end``; if a thread waits, it does so through
        ``_external_work``. The thread itself has a weak reference only: otherwise it would keep the
        transport alive after its loop was dropped.
        """
        wait = _Wait(self, loop, on_end)
        if pidfds_work():
            try:
                self.pidfd = os.pidfd_open(self.popen.pid)
                watcher = _EndWatcher(self, loop, wait)
                loop._poller.watch(watcher, READ)
            except Exception:
                # There are no descriptors left, the selector cannot watch it, or refuses to, or the
                # child was reaped by other code. The thread finds out.
                self.close_pidfd()
            else:
                self._watcher = watcher
                return
        self.wait_in_thread(wait)

    def wait_in_thread(self, wait: _Wait | None) -> None:
        """Start a thread that waits for the child, and notifies ``wait`` or reaps it itself.

        Raises RuntimeError if the system refuses the thread; nothing waits for the child then.
        """
        self._thread_waits = True
        if wait is not None:
            wait.hold()
        reference = weakref.ref(wait) if wait is not None else None

        def wait_for_end() -> None:
            self._block_until_end()
            wait = reference() if reference is not None else None
            # If the loop is closed, this thread has to reap the child.
            if wait is None or not wait.notify():
                self.status_at_end()

        # A daemon thread, which is not joined at exit: the child may outlive this process.
        name = f"runtime waits for process {self.popen.pid}"
        thread = threading.Thread(target=wait_for_end, name=name, daemon=True)
        try:
            thread.start()
        except Exception:
            self._thread_waits = False
            if wait is not None:
                wait.let_go()
            raise

    def reap_in_background(self) -> None:
        """Reap a child that is about to end, and that no loop watches any more, in a thread."""
        self.close_pidfd()
        # A thread that is started while the interpreter ends would never run.
        if self.poll_status() is None and not self._thread_waits and not sys.is_finalizing():
            with contextlib.suppress(RuntimeError):
                self.wait_in_thread(None)

    def _block_until_end(self) -> None:
        # Other code may have reaped the child: ``_take_status`` will find that out.
        with contextlib.suppress(ChildProcessError):
            if hasattr(os, "waitid"):
                pid = self.popen.pid
                while _is_stop(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)):
                    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
                return
            with self._lock:  # Without waitid, the wait itself reaps the child.
                if self.popen.returncode is None:
                    _, status = os.waitpid(self.popen.pid, 0)
                    self.popen.returncode = os.waitstatus_to_exitcode(status)

    # -- The exit status ---------------------------------------------------------------------------

    def poll_status(self) -> int | None:
        """Return the return code, negative for a signal; None while the child runs.

        It is also None when another thread is waiting for the child, and about to reap it.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._take_status()
        finally:
            self._lock.release()

    def status_at_end(self) -> int | None:
        """Return the return code of a child that has ended; None if it has not ended after all.

        Another thread that waits in ``Popen.wait()`` reaps the child first.
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
                    "The exit status of process %d was taken by other code, so returncode %d "
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
        """Send a signal to the child; do nothing if it has ended.

        The signal never reaches another process that was given the same pid meanwhile. Raises
        PermissionError when the child runs as another user, and OSError for a number that is not a
        signal.
        """
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self._is_unreaped():
                os.kill(self.popen.pid, number)

    def _is_unreaped(self) -> bool:
        """Return whether the pid is still that of the child, and the child runs.

        Other code may have reaped the child, so that another process can have the pid by now.
        """
        if self.popen.returncode is not None:
            return False
        try:
            if hasattr(os, "waitid"):
                return os.waitid(os.P_PID, self.popen.pid, _PEEK) is None
            # A thread that waits may hold the lock. If the child is reaped here, the thread finds
            # the noted status.
            pid, status = os.waitpid(self.popen.pid, os.WNOHANG)
            if pid:
                self.popen.returncode = os.waitstatus_to_exitcode(status)
            return pid == 0
        except ChildProcessError:
            return False

    # -- Ending ------------------------------------------------------------------------------------

    def forget_pidfd(self) -> None:
        """Take note that other code has closed the pidfd, and that it is not watched any more."""
        self._watcher = None
        self.pidfd = -1

    def close_pidfd(self) -> None:
        """Stop watching the pidfd, and close it, if there is one."""
        watcher = self._watcher
        if watcher is not None:
            self._watcher = None
            watcher.end()
        pidfd = self.pidfd
        if pidfd >= 0:
            self.pidfd = -1
            os.close(pidfd)


class _Wait(ExternalWork):
    """A loop's wait for the end of a child, which a thread may have to notify."""

    __slots__ = ("__weakref__", "_child", "_loop", "context", "on_end")

    def __init__(self, child: Child, loop: LoopCore, on_end: Callable[[int], object]) -> None:
        super().__init__()
        # The context in which the process was started.
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
        """The descriptor by which the loop notices the end; -1 when a thread waits."""
        return self._child.pidfd

    def hold(self) -> None:
        """Make the loop hold a reference to this until the child has ended, or the loop closes."""
        self._loop._external_work.add(self)

    def let_go(self) -> None:
        """Undo ``hold``."""
        self._loop._external_work.discard(self)

    def notify(self) -> bool:
        """Have the loop reap the child, from any thread; return False if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            return False
        return True

    def _end(self) -> None:
        self.let_go()
        returncode = self._child.status_at_end()
        assert returncode is not None
        self.on_end(returncode)


class _EndWatcher(Watcher):
    """Watches a pidfd, which becomes readable when its process has ended."""

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
        """Wait in a thread instead: other code has closed the pidfd, and may have reused it."""
        self._child.forget_pidfd()
        self._child.wait_in_thread(self.wait)

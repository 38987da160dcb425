"""Subprocess transport: a child process, its pipes, and the calls of its protocol.

The protocol is called in this order::

    connection_made                      in the turn after the process was started
        |
        +-- pipe_data_received, pipe_connection_lost       for each pipe, in this order
        +-- process_exited                                 once, before or after any of these
        |
    connection_lost                      once, when the process has exited and all pipes are closed

A process that has ended writes and reads no more. When its end is noticed, the pipes are therefore
read until they are empty, and the rest of the output is delivered before ``process_exited``. If a
pipe is still open after that, another process has inherited it, or the protocol has paused reading.

Source: "Subprocess Transports" and "Subprocess Protocols" in the standard library's documentation
of asyncio.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import warnings
from contextvars import copy_context
from typing import Any, Final

from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Future
from runtime.system.child import Child
from runtime.system.pipes import ReadPipeTransport, WritePipeTransport
from runtime.system.read_end import ReadEnd
from runtime.system.write_end import WriteEnd

_NAMES: Final = ("stdin", "stdout", "stderr")

_logger: Final = logging.getLogger("asyncio")


class _ProcessPipe(asyncio.Protocol):
    """The protocol of one pipe: it passes the events on to the protocol of the process.

    ``fd`` is the number of the descriptor in the process: 0, 1 or 2.
    """

    __slots__ = ("_process", "end", "fd", "transport")

    def __init__(self, loop: LoopCore, process: SubprocessTransport, fd: int, pipe: Any) -> None:
        os.set_blocking(pipe.fileno(), False)
        self.fd = fd
        self._process: SubprocessTransport | None = process
        self.end: ReadEnd | WriteEnd
        self.transport: ReadPipeTransport | WritePipeTransport
        if fd == 0:
            self.end = WriteEnd(loop, pipe, self, True)
            self.transport = WritePipeTransport(self.end)
        else:
            self.end = ReadEnd(loop, pipe, self)
            self.transport = ReadPipeTransport(self.end)

    def is_lost(self) -> bool:
        return self._process is None

    def protocol_of_process(self) -> Any:
        assert self._process is not None
        return self._process.get_protocol()

    def data_received(self, data: bytes) -> None:
        self.protocol_of_process().pipe_data_received(self.fd, data)

    def pause_writing(self) -> None:
        self.protocol_of_process().pause_writing()

    def resume_writing(self) -> None:
        self.protocol_of_process().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        process = self._process
        assert process is not None
        self._process = None
        try:
            protocol: Any = process.get_protocol()
            protocol.pipe_connection_lost(self.fd, exc)
        finally:
            process.finish_if_over()


class SubprocessTransport(Uncopyable, asyncio.SubprocessTransport):
    """The transport of a process, made by ``subprocess_exec`` and ``subprocess_shell``.

    ``get_extra_info("subprocess")`` returns the ``subprocess.Popen`` object.
    """

    def __init__(
        self,
        loop: LoopCore,
        protocol: Any,
        popen: subprocess.Popen[bytes],
    ) -> None:
        super().__init__({"subprocess": popen})
        self._loop = loop
        self._protocol = protocol
        self._child = Child(popen)
        self._pid = popen.pid
        self._returncode: int | None = None
        self._closed = False
        self._finished = False
        self._context = copy_context()
        # A dictionary without values, from which any waiter is removed without a search.
        self._exit_waiters: dict[Future[int], None] = {}
        self._pipes: dict[int, _ProcessPipe] = {}
        for fd, pipe in enumerate((popen.stdin, popen.stdout, popen.stderr)):
            if pipe is not None:
                self._pipes[fd] = _ProcessPipe(loop, self, fd, pipe)

    def schedule_connection_made(self) -> Future[None]:
        """Schedule ``connection_made``; return a future that is done after that call.

        The code that awaits the future must call ``watch_pipes`` and ``watch_end`` then: the
        protocol is not called again before.
        """
        waiter: Future[None] = self._loop.create_future()
        self._loop.call_soon(self._connection_made, waiter, context=self._context)
        return waiter

    def _connection_made(self, waiter: Future[None]) -> None:
        try:
            self._protocol.connection_made(self)
        finally:  # The loop reports an exception of the protocol, and the process continues.
            if not waiter.done():
                waiter.set_result(None)

    def watch_pipes(self) -> None:
        """Begin to read and to write. Raises the exceptions of a custom selector."""
        for pipe in list(self._pipes.values()):
            pipe.end.begin(pipe.transport)

    def watch_end(self) -> None:
        """Watch for the end of the process from now on."""
        self._child.watch(self._loop, self._on_exit)

    # -- State -------------------------------------------------------------------------------------

    def get_pid(self) -> int:
        """Return the process id."""
        return self._pid

    def get_returncode(self) -> int | None:
        """Return the exit status, or the negative number of the signal; None while it runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """Return the transport of stdin (0), stdout (1) or stderr (2), or None if not a pipe."""
        pipe = self._pipes.get(fd)
        return None if pipe is None else pipe.transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol called from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol; None after ``connection_lost``."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    # -- Signals -----------------------------------------------------------------------------------

    def send_signal(self, signal: int) -> None:
        """Send a signal. Raises ProcessLookupError when the end of the process was noticed."""
        if self._returncode is not None:
            raise ProcessLookupError(
                f"process {self._pid} has ended with return code {self._returncode}: "
                "it gets no more signals"
            )
        for pipe in self._pipes.values():
            if isinstance(pipe.end, WriteEnd):
                # The process can read then what was written before the signal.
                pipe.end.send_joined()
        self._child.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM, which asks the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, which ends the process."""
        self.send_signal(signal.SIGKILL)

    # -- The end of the process --------------------------------------------------------------------

    def _on_exit(self, returncode: int) -> None:
        self._returncode = returncode
        if self._loop._debug:
            _logger.info("%r exited with return code %r", self, returncode)
        for pipe in list(self._pipes.values()):
            pipe.end.on_process_exit()
        self._loop.call_soon(self._protocol.process_exited, context=self._context)
        if not all(pipe.end.ended for pipe in self._pipes.values()):
            # A pipe is still open: another process holds it, or it is not read to the end yet.
            # wait() does not wait for that.
            self._wake_waiters()
        self.finish_if_over()

    async def wait_exited(self) -> int:
        """Wait until the process has exited; return its return code. Cancellation safe.

        On return its pipes are closed as well, except for those that another process holds open,
        and those whose reading is paused.
        """
        if self._returncode is not None:
            return self._returncode
        waiter: Future[int] = self._loop.create_future()
        self._exit_waiters[waiter] = None
        try:
            return await waiter
        finally:
            self._exit_waiters.pop(waiter, None)

    async def _wait(self) -> int:
        """Call ``wait_exited``: ``asyncio.subprocess.Process`` uses this name."""
        return await self.wait_exited()

    def _wake_waiters(self) -> None:
        waiters, self._exit_waiters = self._exit_waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._returncode or 0)

    def finish_if_over(self) -> None:
        """Schedule ``connection_lost`` when the process has exited and every pipe is closed."""
        if self._finished or self._returncode is None:
            return
        if all(pipe.is_lost() for pipe in self._pipes.values()):
            self._finished = True
            self._loop.call_soon(self._lose_connection, context=self._context)

    def _lose_connection(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._closed = True
            self._protocol = None
            self._wake_waiters()

    # -- Closing -----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Return whether the transport is closed, by ``close()`` or after ``connection_lost``."""
        return self._closed

    def close(self) -> None:
        """Close the pipes, and kill the process if it is still running.

        Data that was written to the process before is sent as long as the pipe has a reader. Then
        ``process_exited`` and ``connection_lost`` are called.
        """
        if self._closed:
            return
        self._closed = True
        for pipe in list(self._pipes.values()):
            pipe.end.close()
        self._kill_if_running(reporting=self._loop._debug)

    def abandon(self) -> None:
        """Kill a process whose end could not be watched; a thread reaps it, if there can be one."""
        self.close()
        self._child.reap_in_background()

    def _kill_if_running(self, *, reporting: bool) -> None:
        child = self._child
        if self._returncode is not None or child.poll_status() is not None:
            return
        if reporting:
            _logger.warning("Close running child process: kill %r", self)
        try:
            child.send_signal(signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # It runs as another user: it can only notice that its pipes were closed.

    def __del__(self) -> None:
        if self._finished:
            return
        if not self._closed:
            self._closed = True
            warnings.warn(
                f"unclosed transport {self!r}: close it, or wait for the process to end",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        # The loop is closed, since a running loop refers to this object: clean up without it.
        for pipe in self._pipes.values():
            pipe.end.release()
        self._kill_if_running(reporting=False)  # The warning above is enough.
        self._child.reap_in_background()

    def __repr__(self) -> str:
        words = [type(self).__name__]
        if self._closed:
            words.append("closed")
        words.append(f"pid={self._pid}")
        code = self._returncode
        words.append("running" if code is None else f"returncode={code}")
        words += [f"{_NAMES[fd]}={pipe.transport!r}" for fd, pipe in self._pipes.items()]
        return f"<{' '.join(words)}>"

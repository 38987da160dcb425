"""Methods of the loop for the operating system: pipes, processes, signals.

Each method calls the function of the same name in the module for its subject, which is imported at
the first use, so that a program without pipes, processes and signal handlers starts faster.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.kernel.core import LoopCore

P = TypeVar("P", bound=asyncio.BaseProtocol)


class SystemLoop(LoopCore):
    """A loop with the operating system's pipes, processes and signals."""

    _remove_signal_handlers: Callable[[LoopCore], None] | None = None
    """``signals.remove_all``, once that module is needed. A loop may be closed at the end of the
    interpreter, when nothing can be imported any more."""

    def close(self) -> None:
        """Close the loop: release its resources, and drop all scheduled callbacks.

        Signal handlers are removed. It can be called more than once. Raises RuntimeError when the
        loop is running.
        """
        super().close()
        if self._signal_handlers and self._remove_signal_handlers is not None:
            self._remove_signal_handlers(self)

    # -- Pipes -------------------------------------------------------------------------------------

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, P]:
        """Read from ``pipe`` and pass the data to the protocol that the factory makes.

        ``pipe`` is a file object or a socket: a pipe, a FIFO, a socket or a character device. It is
        made non-blocking, and is closed with the transport; for other users of the same open file
        the former mode is then restored. Returns the transport and the protocol. Raises ValueError
        for any other kind of file. Cancellation safe: the pipe is closed if the task is cancelled
        here.
        """
        from runtime.system import pipes

        return await pipes.connect_read_pipe(self, protocol_factory, pipe)

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, P]:
        """Write to ``pipe`` through a transport, with the flow control of the protocol.

        ``pipe`` is a file object or a socket: a pipe, a FIFO, a socket or a character device. It is
        made non-blocking, and is closed with the transport, or when its reader is gone; for other
        users of the same open file the former mode is then restored. Until then the pipe does not
        block for them either, so that a part of a large ``print`` to the same terminal or pipe may
        be lost. Where that matters, pass ``open("/dev/stdout", "wb", buffering=0)`` instead of
        ``sys.stdout``: on Linux that is a separate open file.

        Returns the transport and the protocol. Raises ValueError for any other kind of file.
        Cancellation safe: the pipe is closed if the task is cancelled here.
        """
        from runtime.system import pipes

        return await pipes.connect_write_pipe(self, protocol_factory, pipe)

    # -- Processes ---------------------------------------------------------------------------------

    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], P],
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        """Run ``program`` with ``args``, each a str, bytes or path-like object, as a process.

        ``stdin``, ``stdout`` and ``stderr`` are each ``subprocess.PIPE``, ``subprocess.DEVNULL``,
        an open file or descriptor, or None to inherit that of this process; ``stderr`` may also be
        ``subprocess.STDOUT``. ``kwargs`` are the keyword arguments of ``subprocess.Popen``, except
        for those about text and buffering.

        Returns the transport and the protocol, after the call of ``connection_made``. Raises
        OSError when the program cannot be run, and ValueError or TypeError for bad arguments. If
        the task is cancelled here, the process is killed, and its end is waited for.
        """
        from runtime.system import subprocesses

        options = {"stdin": stdin, "stdout": stdout, "stderr": stderr, **kwargs}
        return await subprocesses.subprocess_exec(self, protocol_factory, program, args, options)

    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], P],
        cmd: str | bytes,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        """Run a command line in the system's shell; otherwise like ``subprocess_exec``.

        Quote all parts of the command line that the program did not write itself with
        ``shlex.quote``, or use ``subprocess_exec``.
        """
        from runtime.system import subprocesses

        options = {"stdin": stdin, "stdout": stdout, "stderr": stderr, **kwargs}
        return await subprocesses.subprocess_shell(self, protocol_factory, cmd, options)

    # -- Signals -----------------------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback(*args)`` in the next turn of the loop when signal ``sig`` has arrived.

        It replaces an earlier handler, and runs in a copy of the context of this call. Signals with
        the same number that arrive while the interpreter is busy count as one. It must be called in
        the main thread; the loop may run in any thread. Closing the loop removes the handler.

        Raises TypeError for a callback that is not callable, or is a coroutine or a coroutine
        function; ValueError when there is no such signal; RuntimeError when the signal cannot be
        caught, when this is not the main thread, and when the loop is closed.
        """
        from runtime.system import signals

        self._remove_signal_handlers = signals.remove_all
        signals.add(self, sig, callback, args)

    def _signals_arrived(self, numbers: bytes) -> None:
        """Call the loop's handlers of signals for which the program has installed another one."""
        if self._signal_handlers:
            from runtime.system import signals

            signals.deliver_overridden(self, numbers)

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore the default handling of ``sig``; return whether the loop handled it.

        A handler that was installed since with ``signal.signal`` stays. Raises TypeError,
        ValueError and RuntimeError for the same reasons as ``add_signal_handler``.
        """
        from runtime.system import signals

        return signals.remove(self, sig)

"""The methods of the loop that are about the operating system: pipes, processes, signals.

They are thin: each hands over to the module that has the subject. Those of pipes and processes are
imported when they are first asked for: a program without them starts the sooner.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.kernel.core import LoopCore
from runtime.system import signals

P = TypeVar("P", bound=asyncio.BaseProtocol)


class SystemLoop(LoopCore):
    """A loop with the operating system's pipes, processes and signals."""

    def close(self) -> None:
        """Give back what the loop holds; what is still scheduled will not run.

        Handlers of signals are removed. Closing twice is fine. Raises RuntimeError when the loop is
        running.
        """
        super().close()
        signals.remove_all(self)

    # -- Pipes -------------------------------------------------------------------------------------

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, P]:
        """Read from ``pipe`` and give what arrives to the protocol that the factory makes.

        ``pipe`` is an open file or socket: a pipe, a FIFO, a socket or a character device. It is
        made non-blocking, and is closed with the transport; others that have the same open file
        find it then as it was before. Returns the transport and the protocol. Raises ValueError for
        any other kind of file. Cancellation safe: the pipe is then closed.
        """
        from runtime.system import pipes

        return await pipes.connect_read_pipe(self, protocol_factory, pipe)

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, P]:
        """Write to ``pipe`` through a transport, with the flow control of the protocol.

        ``pipe`` is an open file or socket: a pipe, a FIFO, a socket or a character device. It is
        made non-blocking, and is closed with the transport, or when its reader is gone; others that
        have the same open file find it then as it was before. Until then it does not block for them
        either: of a large ``print`` to the same terminal or pipe a part may be lost. Where that
        matters, give ``open("/dev/stdout", "wb", buffering=0)``, which on Linux is an open file of
        its own, instead of ``sys.stdout``. Returns the transport and the protocol. Raises
        ValueError for any other kind of file. Cancellation safe: the pipe is then closed.
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

        ``stdin``, ``stdout`` and ``stderr`` are ``subprocess.PIPE``, ``subprocess.DEVNULL``, a
        file or descriptor, or None to inherit; ``stderr`` may be ``subprocess.STDOUT``. ``kwargs``
        are those of ``subprocess.Popen`` but for the ones that are about text and buffers.

        Returns the transport and the protocol, once that was told ``connection_made``. Raises
        OSError when the program cannot be run, and ValueError or TypeError for bad arguments.
        Cancelled, it kills the process, and waits for its end.
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
        """Run ``cmd``, a command line for the system's shell; otherwise as ``subprocess_exec``.

        Quote what comes from elsewhere with ``shlex.quote``, or use ``subprocess_exec``.
        """
        from runtime.system import subprocesses

        options = {"stdin": stdin, "stdout": stdout, "stderr": stderr, **kwargs}
        return await subprocesses.subprocess_shell(self, protocol_factory, cmd, options)

    # -- Signals -----------------------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback(*args)`` in the next turn of the loop when signal ``sig`` has arrived.

        It takes the place of an earlier handler, and runs in the context of this call. Signals of
        one number that arrive while the interpreter is busy count as one. To be called in the main
        thread, wherever the loop runs. Closing the loop removes the handler.

        Raises TypeError for what cannot be called, and for coroutines and coroutine functions,
        ValueError when there is no such signal, RuntimeError when it cannot be caught, when this is
        not the main thread, and when the loop is closed.
        """
        signals.add(self, sig, callback, args)

    def _signals_arrived(self, numbers: bytes) -> None:
        """Call what handles signals of which the interpreter calls another handler by now."""
        signals.deliver_overridden(self, numbers)

    def remove_signal_handler(self, sig: int) -> bool:
        """Put the default handling of ``sig`` back; return whether there was a handler.

        A handler that was installed since with ``signal.signal`` stays. Raises as
        ``add_signal_handler`` does.
        """
        return signals.remove(self, sig)

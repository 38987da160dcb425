"""Processes: run a program, talk to it through streams, and wait for its end.

``PIPE``, ``STDOUT`` and ``DEVNULL`` are those of the standard library's ``subprocess``.

Source: "Subprocesses" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from subprocess import DEVNULL, PIPE, STDOUT
from typing import IO, Any

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.sizes import Size
from runtime.loop import Loop, get_running_loop
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.streams import DEFAULT_LIMIT, StreamReader, StreamWriter, stream_limit
from runtime.net.connection.transport_lower import TransportLower
from runtime.sync.gather import gather
from runtime.system.subprocess_transport import SubprocessTransport

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Process",
    "create_subprocess_exec",
    "create_subprocess_shell",
]

Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Redirection = int | IO[Any] | None


class _StreamPipe:
    """One pipe of a process, as the streams see it."""

    __slots__ = ("_failure", "adapter", "lower")

    def __init__(self, loop: Loop, transport: asyncio.BaseTransport, limit: int, fd: int) -> None:
        reader, writer = (None, transport) if fd == 0 else (transport, None)
        self.adapter = StreamAdapter(loop, limit)
        self.lower = TransportLower(reader, writer)
        self.adapter.set_lower(self.lower)
        self._failure: Exception | None = None

    def received(self, data: bytes) -> None:
        try:
            self.adapter.received(data)
        except Exception as error:
            # What came is lost: a reader must not go on as if it were not.
            self._failure = error
            self.lower.fail(error)
            raise

    def lose(self, error: BaseException | None) -> None:
        self.lower.is_over = True
        self.adapter.lost(error or self._failure)


class _StreamProtocol(asyncio.SubprocessProtocol):
    """Hands what happens to the pipes of a process to the ends of its streams."""

    def __init__(self, loop: Loop, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._transport: SubprocessTransport | None = None
        self._pipes: dict[int, _StreamPipe] = {}
        self.stdin: StreamWriter | None = None
        self.stdout: StreamReader | None = None
        self.stderr: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SubprocessTransport)
        self._transport = transport
        if (stdin := self._connect(transport, 0)) is not None:
            self.stdin = StreamWriter(self._loop, stdin, None)
        if (stdout := self._connect(transport, 1)) is not None:
            self.stdout = StreamReader(stdout, None, self._limit)
        if (stderr := self._connect(transport, 2)) is not None:
            self.stderr = StreamReader(stderr, None, self._limit)

    def _connect(self, transport: SubprocessTransport, fd: int) -> StreamAdapter | None:
        pipe_transport = transport.get_pipe_transport(fd)
        if pipe_transport is None:
            return None
        pipe = self._pipes[fd] = _StreamPipe(self._loop, pipe_transport, self._limit, fd)
        return pipe.adapter

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._pipes[fd].received(data)

    def pause_writing(self) -> None:
        self._pipes[0].adapter.pause_writing()

    def resume_writing(self) -> None:
        self._pipes[0].adapter.resume_writing()

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._pipes.pop(fd).lose(exc)
        self._close_if_over()

    def process_exited(self) -> None:
        self._close_if_over()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None

    def _close_if_over(self) -> None:
        """Close what was written to a process that has exited, once its output was read.

        Another process that inherited stdin may hold that open.
        """
        transport = self._transport
        if transport is None or transport.get_returncode() is None:
            return
        if not self._pipes.keys() & {1, 2}:
            transport.close()


class Process:
    """A process that is running, or has ended.

    ``stdin`` is a ``StreamWriter``, ``stdout`` and ``stderr`` are each a ``StreamReader``; what was
    not made a ``PIPE`` is None. Made by ``create_subprocess_exec`` and ``create_subprocess_shell``.

    A process that nobody holds goes on, and the loop takes its exit status when it ends. One that
    is still running when its loop is closed is killed, with a ResourceWarning, once nobody holds
    it.
    """

    __slots__ = ("__weakref__", "_transport", "pid", "stderr", "stdin", "stdout")

    def __init__(self, transport: SubprocessTransport, protocol: _StreamProtocol) -> None:
        self._transport = transport
        self.pid = transport.get_pid()
        self.stdin = protocol.stdin
        self.stdout = protocol.stdout
        self.stderr = protocol.stderr

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None before.

        It is 255 when somebody else took the exit status, which is logged as a warning.
        """
        return self._transport.get_returncode()

    async def wait(self) -> int:
        """Wait until the process has ended; return its return code. Any number of tasks may.

        With a pipe for its output that nobody reads, a process may wait for room in that for ever:
        use ``communicate()``. Processes of its own that it leaves behind are not waited for.
        Cancellation safe.
        """
        return await self._transport.wait_exited()

    async def communicate(self, input: Buffer | None = None) -> tuple[bytes | None, bytes | None]:
        """Write ``input``, close stdin, read all output and wait for the end of the process.

        Returns what came through stdout and stderr; None for what is no pipe. All of it is kept in
        memory. That the process does not read its input to the end is no error. The output ends
        when every process that has inherited the pipe has ended, or closed it. Raises ValueError
        for an input when stdin is no pipe.

        Cancellation safe: the process goes on, no output is lost, and the input is not either; call
        it again, then without ``input``.
        """
        stdin, stdout, stderr = self.stdin, self.stdout, self.stderr
        if input is not None and stdin is None:
            raise ValueError("There is an input, but stdin is no pipe: start it with stdin=PIPE.")
        if stdin is not None and input is not None:
            stdin.write(input)
        _, out, err = await gather(
            _finish(stdin),
            _read_all(stdout),
            _read_all(stderr),
        )
        await self.wait()
        return out, err

    def send_signal(self, signal: int) -> None:
        """Send a signal to the process. Raises ProcessLookupError when it is known to have ended.

        None is sent to another process that has the same pid by now.
        """
        self._transport.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM, which asks the process to end; otherwise as ``send_signal``."""
        self._transport.terminate()

    def kill(self) -> None:
        """Send SIGKILL, which ends the process; otherwise as ``send_signal``."""
        self._transport.kill()

    def __repr__(self) -> str:
        code = self.returncode
        state = "running" if code is None else f"returncode={code}"
        return f"<{type(self).__name__} pid={self.pid} {state}>"


async def _finish(stdin: StreamWriter | None) -> None:
    """Close stdin once everything written was sent. A process that does not read it all may."""
    if stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await stdin.drain()
        stdin.close()


async def _read_all(stream: StreamReader | None) -> bytes | None:
    return None if stream is None else await stream.read()


async def create_subprocess_exec(
    program: Argument,
    *args: Argument,
    stdin: Redirection = None,
    stdout: Redirection = None,
    stderr: Redirection = None,
    limit: Size = DEFAULT_LIMIT,
    **kwds: Any,
) -> Process:
    r"""Run ``program`` with ``args`` as a process.

    ``stdin``, ``stdout`` and ``stderr`` are ``PIPE`` for a stream of the process returned,
    ``DEVNULL``, an open file or descriptor, or None for what this process has; ``stderr`` may be
    ``STDOUT``. ``limit`` is that of the streams, in bytes: see ``open_connection``. ``kwds`` are
    those of ``subprocess.Popen``, such as ``cwd`` and ``env``, but for the ones about text and
    buffers: pipes carry bytes.

    The loop waits while the system starts the program, about a millisecond. Raises OSError when it
    cannot be run, and ValueError or TypeError for bad arguments. Cancellation safe: the process is
    then killed.

    >>> import runtime
    >>> async def main():
    ...     process = await create_subprocess_exec("echo", "hello", stdout=PIPE)
    ...     return await process.communicate()
    >>> runtime.run(main())
    (b'hello\n', None)
    """
    loop, protocol = _prepare(limit)
    transport, _ = await loop.subprocess_exec(
        lambda: protocol, program, *args, stdin=stdin, stdout=stdout, stderr=stderr, **kwds
    )
    assert isinstance(transport, SubprocessTransport)
    return Process(transport, protocol)


async def create_subprocess_shell(
    cmd: str | bytes,
    stdin: Redirection = None,
    stdout: Redirection = None,
    stderr: Redirection = None,
    limit: Size = DEFAULT_LIMIT,
    **kwds: Any,
) -> Process:
    """Run ``cmd``, a command line for the system's shell; otherwise as ``create_subprocess_exec``.

    Quote what comes from elsewhere with ``shlex.quote``, or use ``create_subprocess_exec``.
    """
    loop, protocol = _prepare(limit)
    transport, _ = await loop.subprocess_shell(
        lambda: protocol, cmd, stdin=stdin, stdout=stdout, stderr=stderr, **kwds
    )
    assert isinstance(transport, SubprocessTransport)
    return Process(transport, protocol)


def _prepare(limit: Size) -> tuple[Loop, _StreamProtocol]:
    most = stream_limit(limit)
    loop = get_running_loop()
    return loop, _StreamProtocol(loop, most)

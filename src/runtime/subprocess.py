"""Subprocesses with streams: run a program, talk to it through streams, and wait for its end.

``PIPE``, ``STDOUT`` and ``DEVNULL`` are the constants of the standard library's ``subprocess``.

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
from runtime.net.connection.transport_pair import TransportPair
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
    """One pipe of a process, with the adapter that the stream for the pipe uses."""

    __slots__ = ("_failure", "adapter", "lower")

    def __init__(self, loop: Loop, transport: asyncio.BaseTransport, limit: int, fd: int) -> None:
        reader, writer = (None, transport) if fd == 0 else (transport, None)
        self.adapter = StreamAdapter(loop, limit)
        self.lower = TransportPair(reader, writer)
        self.adapter.set_lower(self.lower)
        self._failure: Exception | None = None

    def received(self, data: bytes) -> None:
        try:
            self.adapter.received(data)
        except Exception as error:
            # The data is lost: a reader must get an error, and not a stream with a gap.
            self._failure = error
            self.lower.fail(error)
            raise

    def lose(self, error: BaseException | None) -> None:
        self.lower.is_over = True
        self.adapter.lost(error or self._failure)


class _StreamProtocol(asyncio.SubprocessProtocol):
    """The protocol of a process with streams: it passes the events of the pipes to the streams."""

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
        """Close stdin of a process that has exited, once all of its output was read.

        The end of the process alone does not close the pipe: another process that inherited stdin
        may hold it open.
        """
        transport = self._transport
        if transport is None or transport.get_returncode() is None:
            return
        if not self._pipes.keys() & {1, 2}:
            transport.close()


class Process:
    """A process that is running, or has ended.

    ``stdin`` is a ``StreamWriter``, and ``stdout`` and ``stderr`` are each a ``StreamReader``; each
    of them is None unless it was made a ``PIPE``. ``pid`` is the process identifier. Objects of
    this class are made by ``create_subprocess_exec`` and ``create_subprocess_shell``.

    A process continues when the last reference to this object is dropped, and the loop reaps it
    when it ends. A process that is still running when its loop is closed is killed, with a
    ResourceWarning, as soon as there is no reference to this object any more.
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
        """The exit status, the negative number of the signal that ended the process, or None.

        It is None while the process runs. It is 255 when other code in this program reaped the
        process, so that its exit status is lost; a warning is logged then.
        """
        return self._transport.get_returncode()

    async def wait(self) -> int:
        """Wait until the process has ended, and return ``returncode``.

        Any number of tasks may wait at the same time. A process whose output goes to a pipe blocks
        when the pipe is full, and never ends if the output is not read: use ``communicate()``. The
        child processes that it leaves behind are not waited for. Cancellation safe.
        """
        return await self._transport.wait_exited()

    async def communicate(self, input: Buffer | None = None) -> tuple[bytes | None, bytes | None]:
        """Write ``input``, close stdin, read all output and wait for the end of the process.

        Returns the output of stdout and of stderr, in bytes, each of them None unless it is a
        ``PIPE``. All output is kept in memory. It is not an error if the process does not read its
        input to the end. The output ends when every process that has inherited the pipe has closed
        it or has ended. Raises ValueError if ``input`` is given but stdin is not a pipe.

        Cancellation safe: the process continues, and neither output nor input is lost. To continue
        after a cancellation, call it again without ``input``.
        """
        stdin, stdout, stderr = self.stdin, self.stdout, self.stderr
        if input is not None and stdin is None:
            raise ValueError(
                "input was given, but stdin is not a pipe: start the process with stdin=PIPE"
            )
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

        The signal never reaches another process that was given the same pid meanwhile.
        """
        self._transport.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM, which asks the process to end; otherwise like ``send_signal``."""
        self._transport.terminate()

    def kill(self) -> None:
        """Send SIGKILL, which ends the process; otherwise like ``send_signal``."""
        self._transport.kill()

    def __repr__(self) -> str:
        code = self.returncode
        state = "running" if code is None else f"returncode={code}"
        return f"<{type(self).__name__} pid={self.pid} {state}>"


async def _finish(stdin: StreamWriter | None) -> None:
    """Close stdin once everything written was sent, or the process has closed its end."""
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

    ``stdin``, ``stdout`` and ``stderr`` are each ``PIPE`` for a stream of the returned ``Process``,
    ``DEVNULL``, an open file or descriptor, or None to inherit that of this process; ``stderr`` may
    also be ``STDOUT``, for the same destination as ``stdout``. ``limit`` is the limit of the
    streams, in bytes: see ``open_connection``. ``kwds`` are the keyword arguments of
    ``subprocess.Popen``, such as ``cwd`` and ``env``, except for those about text and buffering:
    the pipes carry bytes.

    The loop is blocked while the system starts the program, for about a millisecond. Raises OSError
    when the program cannot be run, and ValueError or TypeError for bad arguments. Cancellation
    safe: the process is killed if the task is cancelled here.

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
    """Run a command line in the system's shell; otherwise like ``create_subprocess_exec``.

    Quote all parts of the command line that the program did not write itself with
    ``shlex.quote``, or use ``create_subprocess_exec``.
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

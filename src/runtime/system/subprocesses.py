"""``subprocess_exec`` and ``subprocess_shell``: start a process with a transport and a protocol.

``subprocess.Popen`` starts the process, and blocks the loop until the new process runs the program,
or has failed to. That takes about a millisecond, because the standard library uses ``vfork`` or
``posix_spawn`` where it can, neither of which copies the memory of this process. A ``preexec_fn``
forces a ``fork``, which copies it.

Source: "Running Subprocesses" in the standard library's documentation of asyncio's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable
from typing import Any, Final, TypeVar

from runtime.kernel.arguments.callables import make_protocol
from runtime.kernel.core import LoopCore
from runtime.system.subprocess_transport import SubprocessTransport

P = TypeVar("P", bound=asyncio.BaseProtocol)

_logger: Final = logging.getLogger("asyncio")


async def subprocess_exec(
    loop: LoopCore,
    protocol_factory: Callable[[], P],
    program: Any,
    args: tuple[Any, ...],
    options: dict[str, Any],
) -> tuple[SubprocessTransport, P]:
    """Run a program: see ``Loop.subprocess_exec``."""
    if options.pop("shell", False):
        raise ValueError("shell must be False: use subprocess_shell() to run a shell command")
    _check_options(options)
    for word in (program, *args):
        if not isinstance(word, str | bytes | os.PathLike):
            raise TypeError(
                "a program and its arguments must be str, bytes or path-like objects, "
                f"got {word!r}: convert it"
            )
    return await _start(loop, protocol_factory, (program, *args), False, options)


async def subprocess_shell(
    loop: LoopCore,
    protocol_factory: Callable[[], P],
    cmd: Any,
    options: dict[str, Any],
) -> tuple[SubprocessTransport, P]:
    """Run a command line in the shell: see ``Loop.subprocess_shell``."""
    if not isinstance(cmd, str | bytes):
        raise ValueError(f"cmd must be a string, got {cmd!r}: it is one line for the shell")
    if not options.pop("shell", True):
        raise ValueError("shell must be True: subprocess_exec() runs a program without a shell")
    _check_options(options)
    return await _start(loop, protocol_factory, cmd, True, options)


def _check_options(options: dict[str, Any]) -> None:
    """Remove the options of ``Popen`` about text and buffers; raise ValueError if one is set."""
    for name in ("universal_newlines", "text"):
        if options.pop(name, False):
            raise ValueError(f"{name} must be False: pipes carry bytes, which you decode")
    for name in ("encoding", "errors"):
        if (given := options.pop(name, None)) is not None:
            raise ValueError(f"{name} must be None, got {given!r}: pipes carry bytes")
    if (size := options.pop("bufsize", 0)) != 0:
        raise ValueError(f"bufsize must be 0, got {size!r}: the loop has buffers of its own")


async def _start(
    loop: LoopCore,
    protocol_factory: Callable[[], P],
    command: Any,
    shell: bool,
    options: dict[str, Any],
) -> tuple[SubprocessTransport, P]:
    if os.name != "posix":
        raise NotImplementedError("subprocesses in the event loop need a POSIX system")
    protocol = make_protocol(protocol_factory)
    popen = subprocess.Popen(command, shell=shell, bufsize=0, **options)
    if loop._debug:
        program = command if shell else command[0]  # Arguments may be long, and secret.
        _logger.debug("process %r created: pid %s", program, popen.pid)
    transport = SubprocessTransport(loop, protocol, popen)
    is_watched = False
    try:
        try:
            await transport.schedule_connection_made()
            transport.watch_pipes()
        finally:
            transport.watch_end()
            is_watched = True
    except BaseException:
        if is_watched:
            transport.close()
            await transport.wait_exited()
        else:
            transport.abandon()
        raise
    return transport, protocol

"""OpenSSL's own client and server as TLS peers that can request new keys and renegotiate.

A line that begins with certain letters is a command to the program; ``command()`` sends one. The
program must read the command in one piece, so that a test that sends text before it has to wait
until the text has arrived.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.certificates import NAME, Certificates
from tests.support.proxy import PATIENCE

Address = tuple[str, int]

RENEGOTIATE = "R"
"""Letter for renegotiation: for the client, under TLS 1.2."""

UPDATE_KEYS = "K"
"""Letter for new keys, for either end, under TLS 1.3; it also requests new keys of the peer."""

UPDATE_OWN_KEYS = "k"


@functools.cache
def version() -> tuple[int, ...]:
    """Return OpenSSL's version; an empty tuple if it is missing or a fork of another name."""
    program = shutil.which("openssl")
    if program is None:
        return ()
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=False)
    match = re.match(r"OpenSSL (\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else ()


def required() -> None:
    """Skip the test unless there is an OpenSSL that supports TLS 1.3 and these commands."""
    if version() < (1, 1, 1):
        pytest.skip("the openssl program is missing or too old")


class OpenSsl:
    """A running OpenSSL program. ``address`` is that of the server."""

    def __init__(self, process: subprocess.Popen[bytes], address: Address) -> None:
        self.address = address
        self.process = process
        self._printed = b""

    def say(self, text: bytes) -> None:
        """Have the program send text."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def command(self, letter: str) -> None:
        """Send the program a command."""
        self.say(letter.encode() + b"\n")

    def wait_for(self, text: bytes) -> bytes:
        """Wait until the program has printed ``text``; discard the output up to its end.

        Returns the output before ``text``. Raises TimeoutError, or EOFError if the program ends.
        """
        deadline = time.monotonic() + PATIENCE
        while text not in self._printed:
            self._read(deadline, text)
        before, _, self._printed = self._printed.partition(text)
        return before

    def _read(self, deadline: float, text: bytes) -> None:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise TimeoutError(f"openssl did not print {text!r}, but {self._printed!r}.")
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            raise EOFError(f"openssl ended before it printed {text!r}: {self._printed!r}")
        self._printed += data


@contextlib.contextmanager
def _running(*arguments: str) -> Iterator[OpenSsl]:
    required()
    with subprocess.Popen(
        ["openssl", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield OpenSsl(process, ("", 0))
        finally:
            process.kill()


@contextlib.contextmanager
def s_client(address: Address, certificates: Certificates, *options: str) -> Iterator[OpenSsl]:
    """Run the client, connected when this returns. It prints the data that it receives."""
    host, port = address
    arguments = ("-connect", f"{host}:{port}", "-servername", NAME, "-verify_return_error")
    trust = ("-CAfile", str(certificates.authority))
    with _running("s_client", "-brief", *arguments, *trust, *options) as program:
        yield program


@contextlib.contextmanager
def s_server(certificates: Certificates, *options: str) -> Iterator[OpenSsl]:
    """Run the server, listening when this returns. It prints the data that it receives."""
    certificate = ("-cert", str(certificates.server), "-key", str(certificates.server))
    with _running("s_server", "-accept", "127.0.0.1:0", *certificate, *options) as program:
        program.wait_for(b"ACCEPT 127.0.0.1:")
        program.address = ("127.0.0.1", int(program.wait_for(b"\n")))
        yield program

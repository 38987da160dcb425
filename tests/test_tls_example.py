"""The example with an echo server over TLS and its client, run as a user runs them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.certificates import Certificates, client_context
from tests.support.programs import ROOT, TIMEOUT, interrupted, started_program

EXAMPLE = ROOT / "docs" / "examples" / "tls_echo.py"


class _Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.host, port = process.stdout.readline().split()[-1].split(":")
        self.port = int(port)

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit status and the output on stderr."""
        status, _, err = interrupted(self.process)
        return status, err


@contextlib.contextmanager
def _server(certificate: Path) -> Iterator[_Server]:
    with started_program(EXAMPLE, "serve", "--certificate", certificate) as process:
        yield _Server(process)


def _talk(
    server: _Server, certificates: Certificates, message: bytes, name: str = "localhost"
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [
            *(sys.executable, str(EXAMPLE), "talk", "--trust", str(certificates.authority)),
            *("--name", name, server.host, str(server.port)),
        ],
        input=message,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_every_byte_comes_back(certificates: Certificates) -> None:
    message = bytes(range(256)) * 20_000
    with _server(certificates.server) as server:
        done = _talk(server, certificates, message)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == message
        assert server.end() == (0, "")


def test_another_client_of_the_server(certificates: Certificates) -> None:
    with _server(certificates.server) as server:
        plain = socket.create_connection((server.host, server.port), timeout=TIMEOUT)
        context = client_context(certificates)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            with contextlib.suppress(ssl.SSLError):
                client.unwrap()
        assert server.end() == (0, "")


def test_a_server_that_is_not_trusted_is_not_talked_to(certificates: Certificates) -> None:
    with _server(certificates.stranger) as server:
        done = _talk(server, certificates, b"secret")
        assert done.returncode == 1
        assert done.stdout == b""
        assert b"certificate verify failed" in done.stderr
        assert server.end() == (0, "")


def test_nor_is_one_with_another_name(certificates: Certificates) -> None:
    with _server(certificates.server) as server:
        done = _talk(server, certificates, b"secret", "somebody.example")
        assert done.returncode == 1
        assert b"certificate verify failed" in done.stderr
        assert b"somebody.example" in done.stderr

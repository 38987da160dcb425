"""Real servers for the tests: PostgreSQL, Redis or Valkey, and Python programs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.postgresql import lesser_user
from tests.support.certificates import Certificates
from tests.support.programs import ROOT

PATIENCE = 60.0
"""Seconds that a server may take to start, or to stop."""


class ServerDiedError(Exception):
    """A server ended while the test waited for it."""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Program:
    """A running process, whose output goes to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Return the output so far."""
        return self.log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready()`` is true. Raises ServerDiedError if the process ends before."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if self.process.poll() is not None:
                raise ServerDiedError(f"{self.process.args!r} ended:\n{self.output()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.process.args!r} is not ready:\n{self.output()}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, and return the exit status; kill a process that hangs."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def program(
    *command: str | Path,
    log: Path,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    stop_signal: int = signal.SIGTERM,
) -> Iterator[Program]:
    """Run a command, as ``user`` if one is named, and stop it at the end of the block."""
    entry = pwd.getpwnam(user) if user else None
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent if user else ROOT,
            env={**os.environ, **(environment or {})},
            user=user,
            group=entry.pw_gid if entry else None,
            extra_groups=[] if entry else None,
        )
    running = Program(process, log)
    try:
        yield running
    finally:
        running.stop(stop_signal)


@contextmanager
def python_program(
    *arguments: str | Path, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run ``python arguments...``; the tests' modules and the build under test are importable."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in paths),
        "PYTHONUNBUFFERED": "1",
        **(environment or {}),
    }
    with program(sys.executable, *arguments, log=log, environment=variables) as running:
        yield running


def accepts(address: str | tuple[str, int]) -> bool:
    """Return whether a server accepts connections at ``address``."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def find_redis() -> Path | None:
    """Return the path of Redis's or Valkey's server, or None."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


@dataclass(frozen=True)
class Redis:
    """A running Redis or Valkey."""

    port: int
    unix_socket: Path


@dataclass(frozen=True)
class PostgreSQL:
    """A running PostgreSQL, which accepts any client without a password."""

    port: int
    folder: str
    """Folder of its Unix socket."""
    user: str = "tester"
    database: str = "postgres"


@contextmanager
def running_redis(server: Path) -> Iterator[Redis]:
    """Run Redis or Valkey without saving anything to disk."""
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        unix_socket = folder / "redis.sock"

        def start(port: int) -> AbstractContextManager[Program]:
            options = ("--bind", "127.0.0.1", "--unixsocket", unix_socket, "--save", "")
            log = folder / "redis.log"
            return program(server, "--port", str(port), "--dir", folder, *options, log=log)

        port = _started(stack, start, lambda port: accepts(str(unix_socket)))
        yield Redis(port, unix_socket)


@contextmanager
def running_postgresql(programs: Path, certificates: Certificates) -> Iterator[PostgreSQL]:
    """Run a new PostgreSQL with TLS; root runs it as another user, because it refuses root."""
    user = lesser_user()
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder(user))
        data, log = folder / "data", folder / "postgresql.log"
        key = folder / "server.pem"
        key.write_bytes(certificates.server.read_bytes())
        key.chmod(0o600)
        if user:
            shutil.chown(key, user, pwd.getpwnam(user).pw_gid)
        options = ("--username=tester", "--auth=trust", "--no-sync", "--encoding=UTF8")
        initdb = (programs / "initdb", "--pgdata", data, *options)
        with program(*initdb, log=folder / "initdb.log", user=user) as making:
            if making.wait():
                raise ServerDiedError(making.output())
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": key,
            "ssl_key_file": key,
        }

        def start(port: int) -> AbstractContextManager[Program]:
            command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port)]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for the clients to go.
            return program(*command, log=log, user=user, stop_signal=signal.SIGINT)

        def is_ready(port: int) -> bool:
            command: list[str | Path] = [
                programs / "pg_isready",
                "-q",
                "-h",
                folder,
                "-p",
                str(port),
            ]
            return subprocess.run(command, check=False).returncode == 0

        port = _started(stack, start, is_ready)
        yield PostgreSQL(port, str(folder))


def _started(
    stack: ExitStack,
    start: Callable[[int], AbstractContextManager[Program]],
    ready: Callable[[int], bool],
    attempts: int = 5,
) -> int:
    """Start a server on a free port, and on another port if that was taken in between."""
    port = free_port()
    with ExitStack() as attempt:
        running = attempt.enter_context(start(port))
        try:
            running.wait_until(lambda: ready(port))
        except ServerDiedError:
            if attempts == 1:
                raise
        else:
            stack.push(attempt.pop_all())
            return port
    return _started(stack, start, ready, attempts - 1)


@contextmanager
def _temporary_folder(user: str | None = None) -> Iterator[Path]:
    """Create a folder that ``user`` may write to, with a path short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="runtime-"))
    try:
        if user:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

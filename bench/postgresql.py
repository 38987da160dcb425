"""Temporary PostgreSQL server of the suite, reachable through a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench import machine

USER = "bench"
DATABASE = "postgres"
FOLDERS = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")
"""Folders in which distributions install the programs, with a subfolder for each version."""

PATIENCE = 60.0
"""Seconds allowed for the start of the server."""


def programs() -> Path | None:
    """Return the folder with the programs of the newest installed version, or None."""
    found = [
        path.parent
        for root in FOLDERS
        for path in Path(root).glob("*/bin/initdb")
        if (path.parent / "postgres").exists()
    ]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=_version, default=None)


def _version(folder: Path) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, folder.parent.name))
    return int(digits or 0), str(folder)


def why_not() -> str:
    """Return the reason why no server can be started, or an empty string."""
    return "" if programs() is not None else "PostgreSQL's initdb is not installed"


class PostgreSQL:
    """A running server on the core of the load; a context manager that ends it."""

    def __init__(self) -> None:
        found = programs()
        if found is None:
            raise FileNotFoundError(why_not())
        self._user = lesser_user()
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        try:
            if self._user is not None:
                shutil.chown(self.folder, self._user)
            data = self.folder / "data"
            options = ["--no-sync", "--auth=trust", "--encoding=UTF8", f"--username={USER}"]
            self._run([found / "initdb", "--pgdata", data, *options]).wait(PATIENCE)
            settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off"]
            options = [f"--{setting}" for setting in settings]
            self._process = self._run([found / "postgres", "-D", data, *options])
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        try:
            self._await_start(found / "pg_isready")
        except BaseException:
            self.close()
            raise

    def _run(self, command: list[str | Path]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                # A library that is preloaded into this process, such as a sanitizer, must not be
                # loaded into the server.
                env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
            )
        machine.pin(process.pid, to_load_core=True)
        return process

    def _await_start(self, pg_isready: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while subprocess.run([pg_isready, "-q", "-h", self.folder], check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log}")
            time.sleep(0.02)

    def close(self) -> None:
        """End the server, even if clients are connected, and remove its files."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PostgreSQL:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def lesser_user() -> str | None:
    """Return the user that the server runs as if this process is root; None otherwise.

    PostgreSQL refuses to run as root.
    """
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)

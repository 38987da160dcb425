"""Several processes on one port, as described in docs/howto/multi-core.md."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import ROOT

PATIENCE = 60.0
"""Seconds that servers may take to start, to answer, or to end."""

WORKERS = 3
CLIENTS = 8
BLOCK = re.compile(r"^```py\n(# gunicorn\.conf\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)
APP = "tests.ecosystem.programs.workers:app"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m command...``; at the end kill the process and its remaining children."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", *command],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(port: int) -> tuple[int, str]:
    """Return the answering process and its loop's package. Raises OSError without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        pid, package = connection.getresponse().read().decode().split()
        return int(pid), package
    finally:
        connection.close()


def load(port: int, deadline: float, number: int) -> dict[int, str]:
    """Send requests from several threads at once, until ``number`` processes have answered."""
    found: dict[int, str] = {}
    failures: list[BaseException] = []

    def client() -> None:
        try:
            while len(found) < number and time.monotonic() < deadline:
                pid, package = ask(port)
                found[pid] = package
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return found


def wait_until_answered(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            ask(port)
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def serve_and_stop(log: Path, port: int, *command: str) -> None:
    """Start a supervisor, check that several workers answer, and end all with one SIGTERM."""
    with started(log, *command) as supervisor:
        wait_until_answered(port, supervisor, log)
        found = load(port, time.monotonic() + PATIENCE, 2)
        assert len(found) >= 2, log.read_text()
        assert set(found.values()) == {"runtime"}
        assert supervisor.pid not in found
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(PATIENCE) == 0, log.read_text()
        # A supervisor waits for its workers.
        assert not any(map(alive, found)), log.read_text()
        with pytest.raises(ConnectionRefusedError):
            ask(port)
    assert "Traceback" not in log.read_text(), log.read_text()


def test_uvicorn_s_supervisor(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    port = free_port()
    command = ["uvicorn", APP, "--port", str(port), "--workers", str(WORKERS)]
    serve_and_stop(tmp_path / "log", port, *command, "--loop", "runtime:new_event_loop")


GUNICORN = ["gunicorn", APP, "--workers", str(WORKERS), "--reuse-port", "--bind"]


def gunicorn_conf(folder: Path, kind: str) -> str:
    """Write the settings of the page that contain ``kind``; return the file's path."""
    page = (ROOT / "docs" / "howto" / "multi-core.md").read_text()
    blocks = [block for block in BLOCK.findall(page) if kind in block]
    assert len(blocks) == 1
    config = folder / "gunicorn.conf.py"
    config.write_text(blocks[0])
    return str(config)


def test_gunicorn_s_supervisor_with_uvicorn_s_workers(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn_worker")
    port = free_port()
    config = gunicorn_conf(tmp_path, "uvicorn_worker")
    serve_and_stop(tmp_path / "log", port, *GUNICORN, f"127.0.0.1:{port}", "--config", config)


def test_gunicorn_s_supervisor_with_its_own_workers(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn.workers.gasgi", reason="this gunicorn does not serve ASGI")
    port = free_port()
    config = gunicorn_conf(tmp_path, "runtime.install()")
    serve_and_stop(tmp_path / "log", port, *GUNICORN, f"127.0.0.1:{port}", "--config", config)


def test_a_program_that_is_started_several_times(tmp_path: Path) -> None:
    port = free_port()
    program = "tests.ecosystem.programs.workers"
    with contextlib.ExitStack() as stack:
        logs = [tmp_path / str(number) for number in range(WORKERS)]
        processes = [stack.enter_context(started(log, program, str(port))) for log in logs]
        deadline = time.monotonic() + PATIENCE
        while not all(b"ready" in log.read_bytes() for log in logs):
            assert time.monotonic() < deadline, [log.read_text() for log in logs]
            time.sleep(0.05)
        found = load(port, time.monotonic() + PATIENCE, WORKERS)
        assert found == {process.pid: "runtime" for process in processes}
        # One worker ends, as in a rolling restart; the others keep serving.
        processes[0].send_signal(signal.SIGTERM)
        assert processes[0].wait(PATIENCE) == 0, logs[0].read_text()
        assert load(port, time.monotonic() + PATIENCE, WORKERS - 1).keys() == {
            process.pid for process in processes[1:]
        }
        for process in processes[1:]:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(PATIENCE) for process in processes] == [0] * WORKERS
    assert [log.read_text() for log in logs] == ["ready\n"] * WORKERS

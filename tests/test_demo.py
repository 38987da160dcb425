"""The demonstration of ``make run``, run as a user runs it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from runtime.__main__ import describe_build
from tests.support.programs import ROOT, TIMEOUT, interrupted, run_program, started_program

DEMO = ROOT / "docs" / "examples" / "echo_demo.py"
SERVER = DEMO.with_name("echo_server.py")


@contextlib.contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """Run a server that answers received data with ``answer`` of it; yield HOST:PORT."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while not over.is_set():
                client, _ = listener.accept()
                with client, contextlib.suppress(ConnectionError):
                    while reply := answer(client.recv(65536)):
                        client.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            host, port = listener.getsockname()
            yield f"{host}:{port}"
        finally:
            over.set()
            socket.create_connection((host, port)).close()  # this makes accept() return once more
            thread.join()


def test_every_request_of_every_connection_comes_back_right() -> None:
    done = run_program(DEMO, "--connections", "7", "--requests", "30", "--size", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == describe_build()
    assert "requests   210 of 100 bytes, every byte compared" in lines
    assert "errors     0" in lines
    assert re.search(r"^rate +[\d,]+ requests/s$", done.stdout, re.MULTILINE)
    assert re.search(r"^latency +p50 [\d.]+ ms, p99 [\d.]+ ms$", done.stdout, re.MULTILINE)
    assert done.stderr == ""


def test_a_message_larger_than_any_buffer() -> None:
    done = run_program(DEMO, "--connections", "2", "--requests", "3", "--size", "3000000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requests   6 of 3,000,000 bytes" in done.stdout


def test_a_wrong_byte_is_an_error() -> None:
    with answering(lambda data: data and data[:-1] + b"?") as address:
        done = run_program(
            DEMO, "--connect", address, "--connections", "1", "--requests", "5", "--size", "50"
        )
    assert done.returncode == 1
    assert "connection 0: request 1 came back changed" in done.stdout


def test_a_server_that_hangs_up_is_an_error() -> None:
    with answering(lambda data: b"") as address:
        done = run_program(DEMO, "--connect", address, "--connections", "1", "--requests", "5")
    assert done.returncode == 1
    assert "connection 0: " in done.stdout


def test_connection_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = run_program(DEMO, "--connect", f"127.0.0.1:{port}", "--connections", "2")
    assert done.returncode == 1
    assert "errors     2" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--connections", "0"], ["--size", "-1"], ["--connect", "nowhere"]]
)
def test_bad_arguments_are_named(arguments: list[str]) -> None:
    done = run_program(DEMO, *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_ctrl_c_ends_it_with_a_summary() -> None:
    with started_program(DEMO, "--connections", "3", "--seconds", "1000") as process:
        assert process.stdout is not None
        while " connections  " not in process.stdout.readline():
            assert process.poll() is None
        status, out, err = interrupted(process)
    assert status == 130
    assert "interrupted\n" in out
    assert "errors     0" in out
    assert err == ""


def test_on_a_terminal_one_line_shows_the_progress() -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, str(DEMO), "--connections", "2", "--requests", "10"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # on Linux, the other end is closed
            while data := os.read(ours, 65536):
                shown += data
    os.close(ours)
    assert process.returncode == 0
    assert re.search(rb"\r +[\d.]+ s  \d connections  \d+ requests  [\d,]+/s  0 errors", shown)
    assert b"requests   20 of 1,024 bytes" in shown


def test_the_server_alone_ends_on_ctrl_c() -> None:
    with started_program(SERVER) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()[-1].split(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        assert interrupted(process) == (0, "", "")

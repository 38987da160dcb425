"""Tests of the example with many requests."""

from __future__ import annotations

import re
import socket
import subprocess

from tests.support.programs import ROOT, run_program

PROGRAM = ROOT / "docs" / "examples" / "many_requests.py"
QUICK = ("--quickest", "0.2", "--slowest", "0.4")


def without_ticks(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line != "tick"]


def figures(lines: list[str]) -> tuple[float, float, float]:
    """Return the total time, the slowest request, and the sum of all requests."""
    found = re.fullmatch(r"took ([\d.]+) s; the slowest ([\d.]+) s, the sum ([\d.]+) s", lines[-1])
    assert found is not None
    took, slowest, total = map(float, found.groups())
    return took, slowest, total


def test_all_at_once() -> None:
    done = run_program(PROGRAM, *QUICK, "--tick", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    lines = without_ticks(done)
    for number in range(1, 11):
        assert lines[number - 1].startswith(f"{number}: answer to question {number} (")
    assert lines[10] == "at most 10 at once"
    took, _, total = figures(lines)
    assert took < total
    assert "tick" in done.stdout


def test_one_by_one() -> None:
    done = run_program(PROGRAM, *QUICK, "--requests", "3", "--one-by-one")
    assert done.returncode == 0
    lines = without_ticks(done)
    assert lines[3] == "at most 1 at once"
    took, slowest, _ = figures(lines)
    assert took > slowest


def test_a_server_that_hangs_up_is_one_request_s_error() -> None:
    done = run_program(PROGRAM, *QUICK, "--requests", "4", "--hang-up", "2")
    assert (done.returncode, done.stderr) == (1, "")
    lines = without_ticks(done)[:4]
    assert sum("the server hung up without an answer" in line for line in lines) == 2
    assert sum("answer to question" in line for line in lines) == 2


def test_a_server_that_takes_too_long() -> None:
    done = run_program(
        *(PROGRAM, "--requests", "2", "--patience", "0.05"),
        *("--quickest", "3600", "--slowest", "3600"),
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert without_ticks(done)[0].startswith("1: no answer within 0.05 s")
    assert without_ticks(done)[1].startswith("2: no answer within 0.05 s")


def test_connection_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run_program(PROGRAM, "--requests", "2", "--port", str(unused.getsockname()[1]))
    assert (done.returncode, done.stderr) == (1, "")
    assert without_ticks(done)[0].startswith("1: no connection: ")


def test_bad_arguments() -> None:
    done = run_program(PROGRAM, "--requests", "0")
    assert done.returncode == 2
    assert "--requests" in done.stderr

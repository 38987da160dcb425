"""The suite on several Pythons, and the installation of the peers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import peers, pythons
from bench.contenders import LOOPS
from bench.peers import NO_WHEEL, PEERS, install
from tests.support.programs import run_program

pytestmark = pytest.mark.once


class Commands:
    """Commands that would have been run, and the results that they are given."""

    def __init__(self, *results: subprocess.CompletedProcess[str]) -> None:
        self.run_so_far: list[list[str]] = []
        self.results = list(results)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.run_so_far.append(list(command))
        return self.results.pop(0) if self.results else ended(0)


def ended(status: int, errors: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], status, "", errors)


def test_every_loop_has_a_version_to_install() -> None:
    assert set(PEERS) == set(LOOPS)


def test_peers_are_installed_from_wheels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands.run)
    assert install("zloop", "0.0.1") == ""
    (command,) = commands.run_so_far
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert command[-1] == "zloop==0.0.1"


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (f"ERROR: ...\nERROR: {NO_WHEEL} for zloop==0.0.1", "no wheel for CPython"),
        ("WARNING: retry\nERROR: no network\n", "ERROR: no network"),
        ("", "pip ended with status 1"),
    ],
)
def test_a_peer_that_cannot_be_installed_has_a_reason(
    errors: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Commands(ended(1, errors)).run)
    assert install("zloop", "0.0.1").startswith(reason)


def test_a_peer_without_a_wheel_does_not_keep_the_others_from_being_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subprocess, "run", Commands(ended(1, NO_WHEEL)).run)
    assert peers.main([]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert "left out: no wheel" in first
    assert len(others) == len(PEERS) - 1
    assert all(line.endswith("installed") for line in others)


def test_a_python_of_this_machine_is_used_and_another_is_looked_for_in_the_debian_system() -> None:
    install_here, measure_here = pythons.commands("3.11", "/usr/bin/python3.11", ["switch"])
    assert install_here[:2] == ["make", "PYTHON=/usr/bin/python3.11"]
    assert measure_here[-4:] == ["bench", "switch", "--json", "build/bench-pythons/3.11.json"]
    install_there, measure_there = pythons.commands("3.15", None, [])
    assert install_there[:3] == [pythons.SID, "make", "PYTHON=python3.15"]
    assert measure_there[0] == pythons.SID


def test_the_reports_that_were_written_are_shown_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands()

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        done = commands.run(command, **options)
        if "--json" in command:
            report = tmp_path / command[command.index("--json") + 1]
            if "3.14" in report.name:
                return ended(1)
            report.write_text("{}")
        return done

    monkeypatch.setattr(pythons, "ROOT", tmp_path)
    monkeypatch.setattr(pythons, "find", lambda version: None)
    monkeypatch.setattr(subprocess, "run", run)
    outputs = ["--markdown", "one.md", "--markdown", "other.md", "--pictures", "drawn"]
    assert pythons.main(["--quick", *outputs]) == 1
    last = commands.run_so_far[-1]
    shown = [word for word in last if word.endswith(".json")]
    assert shown == ["build/bench-pythons/3.11.json", "build/bench-pythons/3.15.json"]
    assert last[last.index("--html") :] == ["--html", "build/bench-pythons/index.html", *outputs]
    assert not any("one.md" in command for command in commands.run_so_far[:-1])
    assert "failed on CPython 3.14" in capsys.readouterr().err
    measured = [command for command in commands.run_so_far if "--json" in command]
    assert len(measured) == 3
    assert all("--quick" in command for command in measured)


@pytest.mark.parametrize("wrong", [("no_such_case",), ("--contenders", "no_such_contender")])
def test_wrong_arguments_are_refused_before_anything_is_installed(
    wrong: Sequence[str],
) -> None:
    run = run_program("-m", "bench", "pythons", *wrong)
    assert run.returncode == 2
    assert "no_such" in run.stderr
    assert "CPython" not in run.stdout


def test_help_starts_nothing() -> None:
    for command in ("peers", "pythons"):
        run = run_program("-m", "bench", command, "--help")
        assert run.returncode == 0, run.stderr
        assert f"python -m bench {command}" in run.stdout

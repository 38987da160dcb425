"""Type checkers on ``runtime``: a library and a program like those of other projects.

``project`` is checked strictly, as such a project would be, and uses only public names. The
inferred types are asserted in ``inference.py``; the mistakes to be rejected are in ``mistakes.py``,
with the codes expected on each line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import ROOT, TIMEOUT, run_program

pytestmark = pytest.mark.once

PROJECT = Path(__file__).parent / "project"
MARK = re.compile(r"# -> (?P<codes>[\w, -]+)$")
Reports = set[tuple[str, int, str]]
"""Reports of a checker: files, lines, codes."""


def expected(*, pyright: bool) -> Reports:
    """Return the expected reports of a checker, from the marks in the sources."""
    found: Reports = set()
    for path in sorted(PROJECT.rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := MARK.search(line):
                for code in match["codes"].split(", "):
                    if code.startswith("report") is pyright:
                        found.add((path.name, number, code))
    return found


def check(*command: str) -> str:
    """Run a checker; return its output."""
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([str(ROOT / "src"), str(PROJECT)])}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


def test_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    output = check(
        *("mypy", "--strict", "--config-file=", "--explicit-package-bases"),
        *("--follow-imports=silent", "--output=json", "--cache-dir", str(tmp_path), "."),
    )
    reports: Reports = set()
    for line in output.splitlines():
        report = json.loads(line)
        if report["severity"] == "error":
            reports.add((Path(report["file"]).name, report["line"], report["code"]))
    assert reports == expected(pyright=False)


def test_pyright() -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed: the extra `dev` has it")
    output = check("pyright", "--outputjson", "--project", str(PROJECT))
    reports: Reports = set()
    for report in json.loads(output)["generalDiagnostics"]:
        line = report["range"]["start"]["line"] + 1
        reports.add((Path(report["file"]).name, line, report.get("rule", report["message"])))
    assert reports == expected(pyright=True)


def test_there_are_marks() -> None:
    assert len(expected(pyright=False)) >= 40
    assert len(expected(pyright=True)) >= 40


def test_the_application_runs() -> None:
    done = run_program(PROJECT / "application.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[1, 2, 3]",
        "early",
        "PAGE",
        "0.5 1.0",
        "['Good', 'Morning']",
        "from a process",
    ]

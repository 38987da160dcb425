"""The reports on docs/howto/debugging.md, compared with those that the programs there print.

A program on the page begins with a comment that names its file. A block of commands that runs one
of these files is followed by a block with its report, where a line ``...`` stands for any number of
lines. Addresses of objects differ from run to run, and folders are left out.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.support.programs import ROOT, run_program

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "howto" / "debugging.md").read_text()
PROGRAM = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REPORT = re.compile(r"^```sh\n([^\n]*)\n```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {name: f"# {name}\n{code}" for name, code in PROGRAM.findall(PAGE)}
REPORTS = [
    (command, report) for command, report in REPORT.findall(PAGE) if command.split()[-1] in PROGRAMS
]


def as_on_the_page(printed: str, folder: Path) -> str:
    """Return output without the folder of the program and the addresses of objects."""
    return re.sub(r"0x[0-9a-f]+", "0x0", printed.replace(f"{folder}{os.sep}", ""))


def pattern_of(report: str) -> str:
    """Return a regular expression for a report, in which ``...`` stands for any lines."""
    lines = re.sub(r"0x[0-9a-f]+", "0x0", report).splitlines()
    return "".join(r"(?:.*\n)*?" if line == "..." else f"{re.escape(line)}\n" for line in lines)


def test_there_are_reports_of_every_program() -> None:
    run = {command.split()[-1] for command, _ in REPORTS}
    # Another test compares the program that prints nothing but its own output.
    assert run == PROGRAMS.keys() - {"leak.py"}


@pytest.mark.parametrize(("command", "report"), REPORTS, ids=[each for each, _ in REPORTS])
def test_the_report_is_what_the_program_prints(command: str, report: str, tmp_path: Path) -> None:
    *assignments, python, name = shlex.split(command)
    assert python == "python"
    (tmp_path / name).write_text(PROGRAMS[name])
    environment = {**os.environ, "PYTHON_COLORS": "0"}
    environment |= dict(each.split("=", 1) for each in assignments)
    done = run_program(tmp_path / name, environment=environment)
    assert done.returncode == 0, done.stderr
    printed = as_on_the_page(done.stdout + done.stderr, tmp_path)
    assert re.fullmatch(pattern_of(report), printed), printed

"""The reports on docs/howto/debugging.md, compared with the output of the programs there.

A program on the page begins with a comment that names its file. A block with the command that runs
such a file is followed by a block with its report, where a line ``...`` stands for any number of
lines. Folders are left out, and addresses and durations are ignored. On a busy machine, debug mode
may report other slow steps before or after the expected report.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
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


def without_variable_parts(text: str) -> str:
    """Return a report with all addresses and durations made equal.

    Lines that only some versions of Python print are left out: marks below a line of code, and the
    hint at tracemalloc.
    """
    text = re.sub(r"^ *[~^]+\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^RuntimeWarning: Enable tracemalloc .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"[0-9.]+ s ago", "0 s ago", re.sub(r"0x[0-9a-f]+", "0x0", text))
    return re.sub(r"took [0-9.]+ seconds", "took 0 seconds", text)


def pattern_of(report: str) -> str:
    """Return a regular expression for a report, in which ``...`` stands for any lines."""
    lines = without_variable_parts(report).splitlines()
    return "^" + "".join(
        r"(?:.*\n)*?" if line == "..." else f"{re.escape(line)}\n" for line in lines
    )


def test_there_are_reports_of_every_program() -> None:
    run = {command.split()[-1] for command, _ in REPORTS}
    # Another test compares the program that prints nothing but its own output.
    assert run == PROGRAMS.keys() - {"leak.py"}


def test_no_report_names_a_line_of_the_package() -> None:
    """Such a number would be wrong after the next change of that file."""
    assert re.findall(r"runtime/[\w/]+\.py(?:\W+line )?[ :\"',]*\d+", PAGE) == []
    assert re.search(r"runtime/sync/sleep\.py', line \.\.\.,", PAGE)


@pytest.mark.parametrize(("command", "report"), REPORTS, ids=[each for each, _ in REPORTS])
def test_the_page_shows_the_output_of_the_program(
    command: str, report: str, tmp_path: Path
) -> None:
    *assignments, python, name = shlex.split(command)
    assert python == "python"
    if name == "lost.py" and sys.version_info >= (3, 14):
        pytest.skip("the page shows the interpreter's own warning as earlier versions print it")
    (tmp_path / name).write_text(PROGRAMS[name])
    environment = {**os.environ, "PYTHON_COLORS": "0"}
    environment |= dict(each.split("=", 1) for each in assignments)
    done = run_program(tmp_path / name, environment=environment)
    assert done.returncode == 0, done.stderr
    printed = (done.stdout + done.stderr).replace(f"{tmp_path}{os.sep}", "")
    assert re.search(pattern_of(report), without_variable_parts(printed), re.MULTILINE), printed

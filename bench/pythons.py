"""The suite on several Pythons: ``python -m bench pythons ARGUMENT...``.

For each Python, the package and the peers are installed into a virtual environment in
``build/bench-pythons``, the suite runs there with the given arguments, and writes its report. A
Python that is not on this machine is looked for in the Debian system of
``tests/in_debian_sid.sh``. At the end, a page shows the reports together: a table for each Python,
with the first contender of each case; other pages and pictures are written if they are asked for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.outputs import outputs
from bench.process import ROOT
from tests.pythons import find

VERSIONS = ("3.11", "3.14", "3.15")
FOLDER = Path("build") / "bench-pythons"
"""Folder of the environments and the reports, relative to the root of the project."""

SID = "tests/in_debian_sid.sh"


def report_of(version: str) -> Path:
    """Return the path of the report of one Python, relative to the root of the project."""
    return FOLDER / f"{version}.json"


def commands(version: str, python: str | None, arguments: Sequence[str]) -> list[list[str]]:
    """Return the commands that measure on one Python.

    ``python`` is the interpreter on this machine; without one, the commands run in the Debian
    system, where the interpreter has its usual name.
    """
    system = [] if python else [SID]
    environment = FOLDER / version
    make = ["make", f"PYTHON={python or f'python{version}'}", f"VENV={environment}"]
    measured = [str(environment / "bin" / "python"), "-m", "bench", *arguments]
    return [
        [*system, *make, "bench-peers"],
        [*system, *measured, "--json", str(report_of(version))],
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on every Python, and show the reports together; return the exit status."""
    usage = argparse.ArgumentParser(
        prog="python -m bench pythons",
        parents=[outputs()],
        description="Run the suite on CPython 3.11, 3.14 and 3.15, and show the reports together.",
        epilog="All other arguments are those of python -m bench.",
    )
    options, arguments = usage.parse_known_args(arguments)
    listed = [sys.executable, "-m", "bench", *arguments, "--list"]
    checked = subprocess.run(listed, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    if checked.returncode:
        return checked.returncode
    (ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
    failed = []
    for version in VERSIONS:
        (ROOT / report_of(version)).unlink(missing_ok=True)
        print(f"\nCPython {version}", flush=True)
        for command in commands(version, find(version), arguments):
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(version)
                break
    written = [path for path in map(report_of, VERSIONS) if (ROOT / path).is_file()]
    if failed:
        print(f"\nfailed on CPython {', '.join(failed)}", file=sys.stderr)
    if not written:
        print("No report was written.", file=sys.stderr)
        return 1
    show = [sys.executable, "-m", "bench", "show", *map(str, written)]
    show += ["--html", str(options.html or FOLDER / "index.html")]
    show += [word for path in options.markdown for word in ("--markdown", str(path))]
    show += ["--pictures", str(options.pictures)] if options.pictures else []
    shown = subprocess.run(show, cwd=ROOT, check=False).returncode
    return 1 if failed else shown

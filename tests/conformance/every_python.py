"""The standard library's tests on every CPython of this machine: ``make conformance``.

Each Python tests the sources, interpreted. In addition, the package installed beside the running
Python is tested, compiled if it could be. Arguments are passed to each run, except for
``--reference``, which only goes to the last one: uvloop is installed there, the comparison takes
time, and all runs have the same expectations.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.matrix import ROOT
from tests.pythons import VERSIONS, find

SOURCES = {"PYTHONPATH": str(ROOT / "src"), "RUNTIME_NO_ACCELERATOR": "1"}


def runs() -> list[tuple[str, str, dict[str, str]]]:
    """Return each run: its name, the interpreter, and additions to the environment."""
    own = "{}.{}".format(*sys.version_info[:2])
    found = []
    for version in VERSIONS:
        python = sys.executable if version == own else find(version)
        if python is None:
            print(f"{version}: it is not installed here: left out.")
            continue
        found.append((f"{version}, interpreted", python, SOURCES))
    found.append((f"{own}, as installed", sys.executable, {"PYTHONPATH": ""}))
    return found


def main() -> int:
    """Run them all; return the exit status."""
    failed = []
    every = runs()
    for name, python, extra in every:
        print(f"\n##### {name}", flush=True)
        command = [python, "-m", "tests.conformance", *sys.argv[1:]]
        if name != every[-1][0]:
            command = [word for word in command if word != "--reference"]
        if subprocess.run(command, cwd=ROOT, env={**os.environ, **extra}, check=False).returncode:
            failed.append(name)
    print(f"\nFAILED: {'; '.join(failed)}" if failed else "\nevery run is as expected")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

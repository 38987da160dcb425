"""The test suite on every supported CPython of this machine: ``make test-all-pythons``.

For each Python other than the running one, the package is installed as a user would install it
(compiled if possible) into a virtual environment in ``build/pythons``. Two passes run over the
tests, interpreted and as installed, with the selection of the shorter passes of ``make test``.
Parts of them run side by side, and beside the installation for the next Python. With ``--all`` the
running Python is tested as well.

``make test-newest-pythons`` does the same for 3.14 and 3.15 in a Debian system of their own:
``tests/in_debian_sid.sh``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.matrix import (
    COMPILER,
    PARTS,
    ROOT,
    SHORT,
    Build,
    Part,
    Pass,
    Result,
    in_sequence,
    parts_of,
    report,
    run_command,
    run_parts,
    side_by_side,
)

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
FOLDER = ROOT / "build" / "pythons"


def answers(python: str, version: str) -> bool:
    """Return whether ``python`` runs and is a CPython of ``version``; it may be a mere shim."""
    question = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.split() == ["cpython", version]


def find(version: str) -> str | None:
    """Return an interpreter of ``version``, from the search path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [shutil.which(f"python{version}")]
    candidates += map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True))
    return next((each for each in candidates if each and answers(each, version)), None)


def installed(version: str) -> str:
    """Return the interpreter that has the package and its test tools."""
    return str(FOLDER / version / "bin" / "python")


def install(python: str, version: str, at_once: bool) -> Result:
    """Install the package and its test tools for ``python``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-m", "venv", "--clear", str(FOLDER / version)], check=True)
    command = (installed(version), "-m", "pip", "install", "--quiet", f"{ROOT}[test]")
    # The path is absolute and the working folder another one, so that the sources are not imported.
    return run_command(name_of(version), command, os.environ, at_once, FOLDER)


def name_of(version: str) -> str:
    """Return the name of the installation for one version."""
    return f"{version}, installation"


def parts_on(version: str, arguments: list[str]) -> list[Part]:
    """Return the parts of the passes on one version."""
    interpreted = Pass(
        f"{version}, interpreted", compiled=False, accelerator="0", marks=SHORT, parts=PARTS
    )
    compiled = Pass(
        f"{version}, compiled", compiled=True, accelerator="1", marks=SHORT, parts=PARTS
    )
    chosen = (interpreted, compiled) if shutil.which(COMPILER) else (interpreted,)
    needs = (name_of(version),)
    return [part for one in chosen for part in parts_of(one, arguments, needs, installed(version))]


def main() -> int:
    """Test every requested version; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the test suite on other CPythons.")
    parser.add_argument("--all", action="store_true", help="test the Python that runs this as well")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    own = "{}.{}".format(*sys.version_info[:2])
    missing: list[Result] = []
    builds: list[Build] = []
    parts: list[Part] = []
    for version in VERSIONS:
        if version == own and not options.all:
            continue
        if python := find(version):
            builds.append(Build(name_of(version), partial(install, python, version)))
            parts += parts_on(version, options.pytest)
        else:
            missing.append(Result(version, 0, "left out: it is not installed here"))
    return report(missing + run_parts(in_sequence(builds), parts, side_by_side()))


if __name__ == "__main__":
    sys.exit(main())

"""The test suite on every supported CPython of this machine: ``make test-all-pythons``.

For each Python other than the running one, the package is installed as a user would install it
(compiled if possible) into a virtual environment in ``build/pythons``. Two passes run over the
tests, interpreted and as installed, with the selection of the shorter passes of ``make test``.
Several passes run side by side. With ``--all`` the running Python is tested as well.

``make test-newest-pythons`` does the same for 3.14 and 3.15 in a Debian system of their own:
``tests/in_debian_sid.sh``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.matrix import COMPILER, ROOT, SHORT, Pass, Result, report, run, side_by_side

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


def install(python: str, version: str) -> str:
    """Install the package and its test tools for ``python``; return the new interpreter."""
    environment = FOLDER / version
    installed = str(environment / "bin" / "python")
    subprocess.run([python, "-m", "venv", "--clear", str(environment)], check=True)
    # The path is absolute and the working folder another one, so that the sources are not imported.
    subprocess.run(
        [installed, "-m", "pip", "install", "--quiet", f"{ROOT}[test]"], cwd=FOLDER, check=True
    )
    return installed


def passes_on(version: str) -> list[tuple[Pass, str]]:
    """Install the package on one version; return the passes to run, with the interpreter of each.

    The list is empty if the version is not installed.
    """
    python = find(version)
    if python is None:
        return []
    FOLDER.mkdir(parents=True, exist_ok=True)
    installed = install(python, version)
    interpreted = Pass(f"{version}, interpreted", compiled=False, accelerator="0", arguments=SHORT)
    compiled = Pass(f"{version}, compiled", compiled=True, accelerator="1", arguments=SHORT)
    chosen = (interpreted, compiled) if shutil.which(COMPILER) else (interpreted,)
    return [(one, installed) for one in chosen]


def main() -> int:
    """Test every requested version; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the test suite on other CPythons.")
    parser.add_argument("--all", action="store_true", help="test the Python that runs this as well")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    own = "{}.{}".format(*sys.version_info[:2])
    results: list[Result] = []
    chosen: list[tuple[Pass, str]] = []
    for version in VERSIONS:
        if version != own or options.all:
            found = passes_on(version)
            chosen += found
            if not found:
                results.append(Result(version, 0, "left out: it is not installed here"))
    jobs = side_by_side()
    with ThreadPoolExecutor(jobs) as pool:
        results += pool.map(
            lambda each: run(each[0], options.pytest, each[1], at_once=jobs == 1), chosen
        )
    return report(results)


if __name__ == "__main__":
    sys.exit(main())

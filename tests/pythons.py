"""``make test-all-pythons``: the suite on every supported CPython that this machine has.

For each, beside the one that runs this: a virtual environment in ``build/pythons``, into which the
package is installed as a user would (compiled, if that can be), and two passes over the tests,
interpreted and as installed, both as the shorter passes of ``make test`` are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.matrix import COMPILER, ROOT, SHORT, Pass, Result, report, run

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
FOLDER = ROOT / "build" / "pythons"


def answers(python: str, version: str) -> bool:
    """Return whether ``python`` is a CPython of ``version``: what is found may be a mere shim."""
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
    # By an absolute path, and from another folder: the sources must not be what is imported.
    subprocess.run(
        [installed, "-m", "pip", "install", "--quiet", f"{ROOT}[test]"], cwd=FOLDER, check=True
    )
    return installed


def test(version: str) -> list[Result]:
    """Run both passes on one version."""
    python = find(version)
    if python is None:
        return [Result(version, 0, "left out: it is not installed here")]
    FOLDER.mkdir(parents=True, exist_ok=True)
    installed = install(python, version)
    compiled = shutil.which(COMPILER) is not None
    passes = [Pass(f"{version}, interpreted", compiled=False, leaf="0", arguments=SHORT)]
    if compiled:
        passes.append(Pass(f"{version}, compiled", compiled=True, leaf="1", arguments=SHORT))
    return [run(one, sys.argv[1:], installed) for one in passes]


def main() -> int:
    """Test every version but the running one; return the exit status."""
    own = "{}.{}".format(*sys.version_info[:2])
    return report([result for version in VERSIONS if version != own for result in test(version)])


if __name__ == "__main__":
    sys.exit(main())

"""The guards of this test suite, shown to fail when they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import build
from tests.support.programs import ROOT

LEAKS = {
    "a descriptor": (
        "import os\ndef test_it():\n    os.pipe()\n",
        "left behind by the test: descriptor",
    ),
    "a thread": (
        "import threading\n"
        "def test_it():\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "left behind by the test: <Thread",
    ),
    "an exception in a finalizer": (
        "class Bad:\n"
        "    def __del__(self):\n"
        "        raise ValueError('in a finalizer')\n"
        "def test_it():\n"
        "    bad = Bad()\n"
        "    bad.itself = bad\n",
        "ValueError: in a finalizer",
    ),
    "a socket that nobody closed": (
        "import socket\ndef test_it():\n    socket.socket()\n",
        "ResourceWarning: unclosed <socket",
    ),
    "an exception in a thread": (
        "import threading\n"
        "def test_it():\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start()\n"
        "    thread.join()\n",
        "ZeroDivisionError",
    ),
}


def run_pytest(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run a test file under this project's settings and leak guard."""
    test = folder / "test_leaking.py"
    test.write_text(source)
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    program = (
        "import sys, pytest, tests.support.leaks as leaks\n"
        "leaks.PATIENCE = 0.1\n"
        "sys.exit(pytest.main(sys.argv[1:], plugins=[leaks]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *settings, str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("what", LEAKS)
def test_a_test_that_leaks_fails(what: str, tmp_path: Path) -> None:
    source, message = LEAKS[what]
    done = run_pytest(tmp_path, source)
    assert done.returncode == 1, done.stdout
    assert message in done.stdout


def test_a_test_that_tidies_up_passes(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        "import os, threading\n"
        "def test_it():\n"
        "    for fd in os.pipe():\n"
        "        os.close(fd)\n"
        "    threading.Thread(target=int).start()\n",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("variable", ["RUNTIME_EXPECT_COMPILED", "RUNTIME_EXPECT_LEAF"])
def test_another_build_than_the_one_meant_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = {
        "RUNTIME_EXPECT_COMPILED": str(int(build.is_compiled())),
        "RUNTIME_EXPECT_LEAF": build.leaf_kind(),
    }
    for name, value in actual.items():
        monkeypatch.setenv(name, value)
    assert build.wrong_build() == ""
    monkeypatch.setenv(variable, "1" if actual[variable] == "0" else "0")
    assert variable in build.wrong_build()

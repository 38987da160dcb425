"""The guards of this test suite, tested: they fail when they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import build
from tests.support.programs import NAMED_PLUGINS, ROOT, run_code, run_program

pytestmark = pytest.mark.once

LEAKS = {
    "left behind by the test: descriptor": """
import os
def test_it():
    os.pipe()
""",
    "left behind by the test: <Thread": """
import threading
def test_it():
    threading.Thread(target=threading.Event().wait, daemon=True).start()
""",
    "left behind by the test: asyncio's running loop": """
import asyncio
def test_it():
    asyncio._set_running_loop(object())
""",
    "left behind by the test: the running loop": """
import threading
from runtime.kernel.compat.registry import running_loops
def test_it():
    running_loops[threading.get_ident()] = object()
""",
    "left behind by the test: asyncgen_hooks": """
import sys
def test_it():
    sys.set_asyncgen_hooks(print)
""",
    "ValueError: in a finalizer": """
class Bad:
    def __del__(self):
        raise ValueError("in a finalizer")
def test_it():
    bad = Bad()
    bad.itself = bad
""",
    "ResourceWarning: unclosed <socket": """
import socket
def test_it():
    socket.socket()
""",
    "ZeroDivisionError": """
import threading
def test_it():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
""",
}
TIDY = """
import os, threading
def test_it():
    for fd in os.pipe():
        os.close(fd)
    threading.Thread(target=int).start()
"""


def run_pytest(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run a test file under this project's settings and leak guard."""
    test = folder / "test_leaking.py"
    test.write_text(source)
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "timeout"]
    # The installed package is a plugin, and is imported before pytest can rewrite it.
    settings += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    program = (
        "import sys, pytest, tests.support.leaks as leaks\n"
        "leaks.PATIENCE = 0.1\n"
        "sys.exit(pytest.main(sys.argv[1:], plugins=[leaks]))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *settings, str(test)],
        cwd=ROOT,
        env=os.environ | NAMED_PLUGINS,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("complaint", LEAKS)
def test_a_test_that_leaks_fails(complaint: str, tmp_path: Path) -> None:
    done = run_pytest(tmp_path, LEAKS[complaint])
    assert done.returncode == 1, done.stdout
    assert complaint in done.stdout


def test_an_asynchronous_test_that_leaves_a_task_fails() -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "timeout")
    environment = os.environ | NAMED_PLUGINS
    done = run_program(
        *("-m", "pytest", *options, "tests/support/leaves_a_task.py"), environment=environment
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "left behind:\ntask left-behind" in done.stdout


def test_a_test_that_tidies_up_passes(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, TIDY)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("variable", ["RUNTIME_EXPECT_COMPILED", "RUNTIME_EXPECT_ACCELERATOR"])
def test_another_build_than_the_one_meant_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = {
        "RUNTIME_EXPECT_COMPILED": str(int(build.is_compiled())),
        "RUNTIME_EXPECT_ACCELERATOR": build.accelerator_kind(),
    }
    for name, value in actual.items():
        monkeypatch.setenv(name, value)
    assert build.wrong_build() == ""
    monkeypatch.setenv(variable, "1" if actual[variable] == "0" else "0")
    assert variable in build.wrong_build()


def test_programs_are_interruptible_though_this_process_is_not() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run_code("import signal; print(signal.getsignal(signal.SIGINT).__name__)")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.stdout == "default_int_handler\n"

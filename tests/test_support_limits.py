"""Time limits of tests: a test that hangs fails, and shows all thread and task stacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.programs import NAMED_PLUGINS, ROOT, run_program

pytestmark = pytest.mark.once

CONFTEST = "from tests.support.limits import pytest_configure  # noqa: F401\n"
HANGING = """
import threading
import runtime

async def waits_for_ever():
    await runtime.get_running_loop().create_future()

async def main():
    runtime.create_task(waits_for_ever(), name="the culprit")
    await runtime.sleep(3600)

def in_a_thread(ended):
    ended.wait()

def test_hangs():
    ended = threading.Event()
    thread = threading.Thread(target=in_a_thread, args=(ended,), name="a bystander")
    thread.start()
    try:
        runtime.run(main())
    finally:
        ended.set()
        thread.join()

def test_goes_on():
    pass
"""
STUCK = """
import ctypes

def test_cannot_be_interrupted():
    ctypes.PyDLL(None).sleep(3600)  # It holds the interpreter's lock: no signal handler runs.
"""


def run_tests(folder: Path, code: str, **options: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(code)
    settings = [f"--override-ini={name}={value}" for name, value in options.items()]
    plugins = ("no:cacheprovider", "timeout")
    done = run_program(
        *("-m", "pytest", f"--rootdir={folder}", f"--confcutdir={folder}", f"-c{folder}/none.ini"),
        *(word for plugin in plugins for word in ("-p", plugin)),
        *settings,
        str(folder / "test_it.py"),
        cwd=ROOT,
        environment=os.environ | NAMED_PLUGINS,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_stacks_of_threads_and_tasks_are_shown(tmp_path: Path) -> None:
    (tmp_path / "none.ini").write_text("[pytest]\n")
    status, output = run_tests(tmp_path, HANGING, timeout="1")
    assert status == 1
    assert "1 failed, 1 passed" in output
    for shown in ("a bystander", "in_a_thread", "the culprit", "waits_for_ever", "in main"):
        assert shown in output


def test_a_test_that_cannot_be_interrupted_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "none.ini").write_text("[pytest]\n")
    limits = {"faulthandler_timeout": "2", "faulthandler_exit_on_timeout": "true"}
    status, output = run_tests(tmp_path, STUCK, timeout="1", **limits)
    assert status == 1
    assert "Timeout" in output
    assert "test_cannot_be_interrupted" in output

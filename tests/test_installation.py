"""Interpreters that do not fit the installed package, each of which gets a clear message."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.programs import ROOT, run_code, run_program

pytestmark = pytest.mark.once

RUN = """
import runtime
async def main():
    return 42
print(runtime.run(main()), runtime.compiled)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with a pure copy of the package."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src" / "runtime", tmp_path / "runtime", ignore=ignored)
    return tmp_path


def run_from(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("RUNTIME_NO_ACCELERATOR", None)
    return run_program("-c", RUN, cwd=folder, environment=environment)


def test_a_pure_package_says_nothing(package: Path) -> None:
    done = run_from(package)
    assert (done.stdout, done.stderr) == ("42 False\n", "")


@pytest.mark.parametrize(
    "name",
    [
        "_compiled__mypyc.cpython-310-x86_64-linux-gnu.so",
        "kernel/native/_accelerator.cpython-399-x86_64-linux-gnu.so",
    ],
)
def test_modules_compiled_for_another_interpreter(package: Path, name: str) -> None:
    (package / "runtime" / name).write_bytes(b"")
    done = run_from(package)
    assert done.stdout == "42 False\n"
    assert "RuntimeWarning: runtime in " in done.stderr
    assert f"was compiled for another interpreter ({Path(name).name})" in done.stderr
    assert f"runs interpreted on CPython {sys.version.split()[0]}" in done.stderr
    assert "pip install --force-reinstall" in done.stderr


def test_an_accelerator_that_cannot_be_loaded(package: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (package / "runtime" / "kernel" / "native" / f"_accelerator{suffix}").write_bytes(b"no library")
    done = run_from(package)
    assert done.stdout == "42 False\n"
    assert "RuntimeWarning: runtime continues without its accelerator: " in done.stderr
    assert "pip install --force-reinstall" in done.stderr


def test_an_asyncio_with_other_internals() -> None:
    name = "_current_tasks" if sys.version_info < (3, 14) else "_swap_current_task"
    done = run_code(f"import asyncio.tasks\ndel asyncio.tasks.{name}\nimport runtime")
    assert done.returncode == 1
    assert f"runtime does not know the asyncio of Python {sys.version.split()[0]}" in done.stderr
    assert f"it has no asyncio.tasks.{name}; install a version of runtime that" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="needs setuptools")
@pytest.mark.parametrize(
    ("version", "message"),
    [
        ((3, 10), "runtime needs Python 3.11 or newer; this is 3.10."),
        ((3, 16), "This version of runtime was tested up to Python 3.15; this is 3.16."),
    ],
)
def test_an_interpreter_that_is_too_old_or_unknown(version: tuple[int, int], message: str) -> None:
    code = f"""
import setuptools.command.bdist_wheel, setuptools.command.build_ext
import setuptools.command.build_py, sys
sys.version_info = ({version[0]}, {version[1]}, 0, "final", 0)
sys.argv = ["setup.py", "--name"]
exec(compile(open("setup.py").read(), "setup.py", "exec"), {{"__name__": "__main__"}})
"""
    done = run_program("-c", code)
    assert done.returncode == 1
    assert message in done.stderr
    if version > sys.version_info[:2]:
        environment = {**os.environ, "RUNTIME_UNKNOWN_PYTHON": "1", "RUNTIME_PURE": "1"}
        assert run_program("-c", code, environment=environment).returncode == 0

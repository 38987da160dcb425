"""anyio's own tests, from its source distribution: what passes on asyncio passes on runtime."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.programs import ROOT, run_program

PARTS = {
    "tasks": (
        "test_concurrency_utils.py",
        "test_contextmanagers.py",
        "test_debugging.py",
        "test_eventloop.py",
        "test_functools.py",
        "test_futures.py",
        "test_itertools.py",
        "test_lowlevel.py",
        "test_signals.py",
        "test_synchronization.py",
        "test_taskgroups.py",
    ),
    "sockets": ("test_sockets.py",),
    "streams": ("streams",),
    "threads": (
        "test_fileio.py",
        "test_from_thread.py",
        "test_subprocesses.py",
        "test_tempfile.py",
        "test_to_interpreter.py",
        "test_to_process.py",
        "test_to_thread.py",
    ),
}
"""The files whose tests use a loop, without those of anyio's plugin of pytest, which has its own.

Each part runs in one process: the start of a process takes longer than the tests of most files.
"""

WITH_EAGER_TASKS = ("streams/test_memory.py", "test_synchronization.py", "test_taskgroups.py")
"""The files that are also run with asyncio's factory of eager tasks."""

SDISTS = ROOT / "build" / "sdists"

# The plugins of this package are for other tests.
OPTIONS = ("-p", "anyio_loop", "-p", "no:runtime", "-p", "no:runtime_simulation", "-q")


@pytest.fixture(scope="session")
def suite() -> Path:
    """Return the folder of anyio's source distribution, in the version that is installed."""
    number = version("anyio")
    folder = SDISTS / f"anyio-{number}"
    if not folder.exists():
        SDISTS.mkdir(parents=True, exist_ok=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        chosen = ["--no-binary", "anyio", "--dest", str(SDISTS), f"anyio=={number}"]
        done = subprocess.run([*download, *chosen], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"anyio's source distribution cannot be downloaded: {done.stderr[-500:]}")
        with tarfile.open(SDISTS / f"anyio-{number}.tar.gz") as archive:
            archive.extractall(SDISTS, filter="data")
    return folder


def resolves_over_ipv6() -> bool:
    """Return whether "localhost" has an IPv6 address: many of anyio's tests of sockets need one."""
    try:
        socket.getaddrinfo("localhost", None, family=socket.AF_INET6)
    except OSError:
        return False
    return True


def run_suite(suite: Path, cache: Path, eager: bool, *arguments: str) -> tuple[int, set[str]]:
    """Run tests of anyio; return the number of those that passed, and the ids of the others."""
    paths = [str(Path(__file__).with_name("programs")), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in paths if path),
        "EAGER_TASKS": "1" if eager else "",
    }
    environment.pop("PYTEST_ADDOPTS", None)  # Its options are for the tests of this package.
    command = ("-m", "pytest", *OPTIONS, "-o", f"cache_dir={cache}", *arguments)
    done = run_program(*command, cwd=suite, environment=environment)
    passed = re.search(r"^(?:.*\D)?(\d+) passed", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    if done.returncode == 0:
        return int(passed[1]) if passed else 0, set()
    failed = json.loads((cache / "v" / "cache" / "lastfailed").read_text())
    assert failed, done.stdout + done.stderr
    print(done.stdout)
    return int(passed[1]) if passed else 0, set(failed)


def check(suite: Path, folder: Path, files: tuple[str, ...], eager: bool = False) -> None:
    """Run tests on runtime's loop; require that those that fail do so on asyncio's as well.

    A test that fails is run again first: some count threads that an earlier test has left behind.
    """
    present = [f"tests/{file}" for file in files if (suite / "tests" / file).exists()]
    chosen = "asyncio+uvloop" + ("" if resolves_over_ipv6() else " and not ipv6")
    passed, failed = run_suite(suite, folder / "all", eager, *present, "-k", chosen)
    assert passed > 0
    if failed:
        _, failed = run_suite(suite, folder / "again", eager, *failed)
    if failed:
        name = "asyncio+eager" if eager else "asyncio"
        same = {each: each.replace("asyncio+uvloop", name) for each in failed}
        _, excused = run_suite(suite, folder / "asyncio", False, *same.values())
        assert {each for each in failed if same[each] not in excused} == set()


@pytest.mark.parametrize("part", PARTS)
def test_the_tests_of_a_part_pass(suite: Path, tmp_path: Path, part: str) -> None:
    check(suite, tmp_path, PARTS[part])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from Python 3.12 on")
def test_the_tests_of_tasks_pass_with_eager_tasks(suite: Path, tmp_path: Path) -> None:
    check(suite, tmp_path, WITH_EAGER_TASKS, eager=True)

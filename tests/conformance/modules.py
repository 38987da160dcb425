"""Runner of one module of asyncio's tests in a process of its own, which may hang or crash.

A test that hangs, or that crashes the process, has failed; another process then runs the remaining
tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.child import WHOLE_MODULE
from tests.conformance.subjects import TESTS
from tests.matrix import ROOT

PATIENCE = 60.0
"""Seconds without a report after which a test counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a test: passed, failed, skipped, or aside (passed without the loop under test)."""

    test: str
    kind: str
    details: str = ""


def find_modules() -> list[str]:
    """Return the names of the test modules that came with this interpreter."""
    try:
        spec = importlib.util.find_spec(TESTS)
    except ModuleNotFoundError:
        return []
    if spec is None or not spec.submodule_search_locations:
        return []
    (folder,) = spec.submodule_search_locations
    return sorted(path.stem for path in Path(folder).glob("test_*.py"))


def run_module(
    loop: str, module: str, patience: float = PATIENCE, hanging: Iterable[str] = ()
) -> dict[str, Outcome]:
    """Run a module's tests on a loop, without those known to hang; return each outcome."""
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        while True:
            before = len(outcomes)
            finished = _run_child(loop, module, folder, outcomes, patience, hanging)
            if finished:
                return outcomes
            if len(outcomes) == before:
                raise AssertionError(f"the process for {module} ended without running a test")


def _run_child(
    loop: str,
    module: str,
    folder: Path,
    outcomes: dict[str, Outcome],
    patience: float,
    hanging: Iterable[str],
) -> bool:
    """Run the tests that have no outcome yet; return whether all of them ended."""
    results, left_out, said = folder / "results", folder / "left_out", folder / "said"
    results.write_text("")
    left_out.write_text("\n".join([*outcomes, *hanging]))
    command = [sys.executable, "-m", "tests.conformance.child", loop, module]
    environment = dict(os.environ)
    paths = [*environment.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in paths if path)
    with said.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(results), str(left_out)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        hung = not _watched(process, results, patience)
    begun = ""
    for event in map(json.loads, results.read_text().splitlines()):
        if "begun" in event:
            begun = event["begun"]
        elif "ended" in event:
            begun = ""
            ended = event["ended"]
            outcomes[ended] = Outcome(ended, event["outcome"], event["details"])
        else:
            return True
    if not begun and (hung or not outcomes):
        begun = f"{module}.{WHOLE_MODULE}"
    if begun:
        how = "hung" if hung else f"took the process down (exit status {process.returncode})"
        words = said.read_text(errors="replace")[-6000:]
        outcomes[begun] = Outcome(begun, "failed", f"{how}:\n{words}")
    return begun.endswith(WHOLE_MODULE)


def _watched(process: subprocess.Popen[bytes], results: Path, patience: float) -> bool:
    """Wait for a process to end; return False if it was ended for lack of reports."""
    size = 0
    news = time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        if results.stat().st_size != size:
            size = results.stat().st_size
            news = time.monotonic()
        elif time.monotonic() - news > patience:
            process.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                pass
            _end_group(process)
            return False
    _end_group(process)
    return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and the processes it has left running."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()

"""dask.distributed: a cluster in the loop, and a cluster of worker processes.

Threads and descriptors stay until the end of the process, so that each test has a process of its
own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import python_program

SCENARIOS = {
    "futures": "4950 [0, 1, 4, 9, 16]",
    "collections": "328350",
    "errors": "ZeroDivisionError 7",
    "cancellation": "CancelledError TimeoutError 7",
    "events": "['first', 'second'] 42",
    "scaling": "1 3 15",
    "lost-worker": "10",
    "processes": "4950 True",
    "command-line": "4950 2",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario(runner: LoopRunner, tmp_path: Path, scenario: str) -> None:
    program = ("-m", "tests.ecosystem.programs.dask_scenarios", runner.name, scenario)
    environment = {"DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    with python_program(*program, log=tmp_path / "log", environment=environment) as running:
        status = running.wait()
        output = running.output()
    assert (status, output.strip().rpartition("\n")[2]) == (0, SCENARIOS[scenario]), output

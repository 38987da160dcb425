"""A service under every fault at once: its runs are the same in every process."""

from __future__ import annotations

import os

import pytest

from tests.support.programs import run_program


def digests(hash_seed: int, runs: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    module = ("-m", "tests.simulation.network.rough_service", str(runs))
    done = run_program(*module, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("runs", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_runs_do_not_depend_on_the_process_and_its_hash_seed(runs: int) -> None:
    first = digests(1, runs)
    assert first == digests(2, runs)
    assert len(set(first.splitlines())) == runs

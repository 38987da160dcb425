"""Interrupts while a run begins and ends, in processes of their own."""

from __future__ import annotations

import pytest

from tests.support.programs import run_program


def test_interrupts_at_every_moment() -> None:
    done = run_program("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/runner_interrupts.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout


@pytest.mark.slow
def test_a_storm_of_interrupts() -> None:
    # It reports a run that hangs by itself; a busy machine may take minutes for all.
    done = run_program("-m", "tests.support.storm", "300", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 runs" in done.stdout

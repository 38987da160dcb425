"""Interrupts while a run begins and ends, in processes of their own."""

from __future__ import annotations

import os

import pytest

from tests.support.programs import NAMED_PLUGINS, run_program


# The moments are those of interpreted code: two passes show the same as five.
@pytest.mark.variation
def test_interrupts_at_every_moment() -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "timeout")
    environment = os.environ | NAMED_PLUGINS
    done = run_program(
        *("-m", "pytest", *options, "tests/runner_interrupts.py"), environment=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout


@pytest.mark.slow
def test_a_storm_of_interrupts() -> None:
    # It reports a run that hangs by itself; a busy machine may take minutes for all.
    done = run_program("-m", "tests.support.storm", "120", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "120 runs" in done.stdout

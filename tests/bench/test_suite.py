"""The benchmark suite: its arithmetic, and one very small run of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import native
from bench.catalogue import CASES
from bench.statistics import is_noisy, ratios, spread
from bench.targets import TARGETS
from tests.support.programs import run_program


def test_medians_and_quartiles() -> None:
    middle = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (middle.low, middle.median, middle.high) == (2.0, 3.0, 4.0)
    assert middle.relative == pytest.approx(2 / 3)
    assert spread([7.0]).median == 7.0
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([1.0, 2.0], [2.0, 8.0]) == [2.0, 4.0]
    with pytest.raises(ValueError, match="match"):
        ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="positive"):
        ratios([0.0], [1.0])


def test_noise() -> None:
    assert not is_noisy([1.0])
    assert not is_noisy([1.0, 1.01, 1.02, 1.0])
    assert is_noisy([1.0, 2.0, 1.0, 2.0])


def test_every_target_has_its_case() -> None:
    assert {target.case for target in TARGETS} <= set(CASES)


def test_a_small_run(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = run_program(
        *("-m", "bench", "call_soon", "--contenders", "asyncio", "--rounds", "2"),
        *("--seconds", "0.01", "--json", report),
    )
    assert result.returncode == 0, result.stderr
    assert "call_soon" in result.stdout
    assert "asyncio" in json.dumps(json.loads(report.read_text()))
    unknown = run_program("-m", "bench", "no_such_case")
    assert unknown.returncode != 0
    assert "no_such_case" in unknown.stderr


@pytest.mark.skipif(bool(native.why_not()), reason="the programs in C cannot be built here")
def test_the_programs_in_c_check_every_byte() -> None:
    result = run_program(
        *("-m", "bench", "echo_1k_x10", "--contenders", "asyncio,C", "--rounds", "1"),
        *("--seconds", "0.05"),
    )
    assert result.returncode == 0, result.stderr
    assert "asyncio" in result.stdout
    assert "echo_1k_x10" in result.stdout

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.counted import LONGER, OURS, WORKLOADS
from bench.instructions import (
    BASELINE,
    judge,
    judge_recording,
    judge_watching,
    per_operation,
    relative,
    totals,
)

pytestmark = pytest.mark.once


def test_an_operation_costs_the_difference_of_two_runs() -> None:
    operations = WORKLOADS["switch"][1] * (LONGER - 1)
    counted = [10**9, 5000, 70, 5000 + 100 * operations]
    assert per_operation(["switch"], counted) == {"switch": 100.0}


def test_counts_that_do_not_fit_the_workloads_are_refused() -> None:
    with pytest.raises(ValueError, match="3 counts for 1 workloads"):
        per_operation(["switch"], [1, 2, 3])


def test_counts_are_read_in_the_order_of_the_marks(tmp_path: Path) -> None:
    for number, count in ((10, 3), (2, 2), (1, 1)):
        (tmp_path / f"out.{number}").write_text(f"version: 1\ntotals: {count}\n")
    # The file written at the end of the program has no number, and belongs to no workload.
    (tmp_path / "out").write_text("totals: 4\n")
    assert totals(tmp_path) == [1, 2, 3]


def test_more_instructions_than_the_baseline_s_and_a_little_are_worse() -> None:
    same, worse, better, unknown = judge(
        {"switch": 0.21, "spawn": 0.3, "queue": 0.1, "echo": 0.2},
        {"switch": 0.2, "spawn": 0.2, "queue": 0.2},
    )
    assert not same.is_worse
    assert worse.is_worse
    assert "WORSE" in worse.text
    assert not better.is_worse
    assert "--update" in better.text
    assert unknown.is_worse


def test_watching_must_cost_next_to_nothing() -> None:
    assert not judge_watching({"echo": 1000.0, "echo_watched": 1029.0}).is_worse
    assert judge_watching({"echo": 1000.0, "echo_watched": 1031.0}).is_worse


def test_the_flight_recorder_must_cost_little() -> None:
    assert not judge_recording({"echo": 1000.0, "echo_recorded": 1049.0}).is_worse
    assert judge_recording({"echo": 1000.0, "echo_recorded": 1051.0}).is_worse


def test_only_workloads_counted_for_both_are_compared() -> None:
    assert relative({"echo": 1.0, "echo_watched": 1.0}, {"echo": 4.0}) == {"echo": 0.25}


def test_the_baseline_has_every_workload_that_asyncio_has() -> None:
    for version, baseline in json.loads(BASELINE.read_text()).items():
        assert version.startswith("3.")
        assert baseline.keys() == WORKLOADS.keys() - OURS
        assert all(0 < value < 1 for value in baseline.values())

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import pytest

from bench.compare import changes, comparison, lost
from bench.record import read, record_of
from tests.bench.made_up import report
from tests.support.programs import run_program

pytestmark = pytest.mark.once

Costs: TypeAlias = tuple[float, ...]
PEER: Costs = (2.0, 2.0, 2.0)


def compared(before: Costs, after: Costs, peer: Costs = PEER) -> str:
    old = record_of(report({"switch": {"uvloop": PEER, "runtime-compiled": before}}))
    new = record_of(report({"switch": {"uvloop": peer, "runtime-compiled": after}}))
    return comparison(changes(old, new)).split()[0]


def test_an_increase_beyond_the_spread_is_a_regression() -> None:
    assert compared((1.0, 1.0, 1.1), (1.5, 1.5, 1.6)) == "REGRESSION"
    assert compared((1.5, 1.5, 1.6), (1.0, 1.0, 1.1)) == "gain"


def test_an_increase_within_the_spread_is_no_regression() -> None:
    assert compared((1.0, 1.2, 1.6), (1.1, 1.5, 1.6)) == "1"


def test_a_small_change_is_none_though_the_runs_were_steady() -> None:
    assert compared((1.0, 1.0, 1.0), (1.04, 1.04, 1.04)) == "1"


def test_a_machine_that_slows_all_of_them_down_is_no_regression() -> None:
    assert compared((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), peer=(4.0, 4.0, 4.0)) == "1"


def test_changes_of_peers_are_ignored() -> None:
    old = record_of(report({"switch": {"asyncio": (1.0, 1.0)}}))
    new = record_of(report({"switch": {"asyncio": (9.0, 9.0)}}))
    assert list(changes(old, new)) == []


def test_a_case_that_cannot_be_done_any_more_is_lost() -> None:
    old = record_of(report({"switch": {"uvloop": PEER, "runtime-compiled": PEER}}))
    reason = {"runtime-compiled": "sleep() is not implemented"}
    new = record_of(report({"switch": {"uvloop": PEER}}, left_out=reason))
    assert list(lost(old, new)) == ["switch: runtime-compiled: sleep() is not implemented"]
    assert "LOST" in comparison([], lost(old, new))


@pytest.mark.parametrize(("cost", "status"), [(1.0, 0), (3.0, 1)])
def test_the_command_ends_with_1_for_a_regression(tmp_path: Path, cost: float, status: int) -> None:
    for name, ours in (("a.json", 1.0), ("b.json", cost)):
        data = report({"switch": {"uvloop": PEER, "runtime-pure": (ours, ours, ours)}})
        (tmp_path / name).write_text(json.dumps(data))
    run = run_program("-m", "bench", "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert run.returncode == status, run.stderr
    assert ("REGRESSION" in run.stdout) is bool(status)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 3}'])
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="a.json"):
        read(tmp_path / "a.json")
    with pytest.raises(ValueError, match="b.json cannot be read"):
        read(tmp_path / "b.json")

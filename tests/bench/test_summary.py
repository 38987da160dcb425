"""Closing summary of a run, and the ranking that it is made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.ranking import first, is_noisy, noise, standing
from bench.record import Record, record_of
from bench.summary import firsts, summary
from bench.titles import title
from tests.bench.made_up import report
from tests.support.programs import run_program

pytestmark = pytest.mark.once
OURS, PURE = "runtime-compiled", "runtime-pure"


def record(
    costs: dict[str, dict[str, tuple[float, ...]]], left_out: dict[str, str] | None = None
) -> Record:
    return record_of(report(costs, left_out=left_out))


def steady(**costs: float) -> dict[str, tuple[float, ...]]:
    return {name.replace("_", "-"): (cost, cost, cost) for name, cost in costs.items()}


def test_the_standing_is_that_against_the_best_peer() -> None:
    made = record({"switch": steady(asyncio=4.0, uvloop=2.0, runtime_compiled=1.0, C=0.5)})
    found = standing(made.cases["switch"], OURS)
    assert found is not None
    assert (found.peer, found.factor.median) == ("uvloop", 2.0)
    assert not found.is_behind
    assert standing(made.cases["switch"], "runtime-asyncio") is None


def test_the_standing_is_taken_round_by_round() -> None:
    rounds: dict[str, tuple[float, ...]] = {"uvloop": (1.0, 3.0, 9.0), OURS: (2.0, 2.0, 10.0)}
    found = standing(record({"switch": rounds}).cases["switch"], OURS)
    assert found is not None
    assert found.factor.median == 0.9
    assert found.is_behind
    assert found.is_within_noise


@pytest.mark.parametrize(
    ("costs", "name"),
    [
        (steady(uvloop=2.0, rloop=1.0, runtime_compiled=3.0), "rloop"),
        (steady(uvloop=2.0, runtime_compiled=1.0, runtime_asyncio=0.9), "runtime-asyncio"),
        (steady(uvloop=2.0, runtime_compiled=3.0, C=1.0), "uvloop"),
        (steady(uvloop=2.0, rloop=3.0), "uvloop"),
        (steady(runtime_pure=2.0), "runtime-pure"),
        (steady(C=1.0), ""),
    ],
)
def test_the_first_of_a_case(costs: dict[str, tuple[float, ...]], name: str) -> None:
    assert first(record({"switch": costs}).cases["switch"]) == name


def test_noise_is_that_of_the_contenders_that_are_compared() -> None:
    rounds: dict[str, tuple[float, ...]] = {
        "uvloop": (1.0, 1.0, 1.0),
        "trio": (10.0, 20.0, 90.0),
        OURS: (0.9, 1.0, 1.1),
    }
    case = record({"switch": rounds}).cases["switch"]
    assert noise(case) == pytest.approx(0.1)
    assert not is_noisy(case)
    wide = {**rounds, OURS: (0.5, 1.0, 2.0)}
    assert is_noisy(record({"switch": wide}).cases["switch"])


def test_the_summary_says_who_is_first_and_where_runtime_is_behind() -> None:
    made = record(
        {
            "switch": steady(asyncio=4.0, uvloop=2.0, runtime_compiled=1.0, runtime_pure=3.0),
            "spawn": steady(asyncio=4.0, uvloop=2.0, runtime_compiled=1.0, runtime_pure=5.0),
            "queue": steady(asyncio=4.0, uvloop=1.5, runtime_compiled=2.0, runtime_pure=3.0),
            "lock": {"uvloop": (1.0, 1.0, 4.0), OURS: (1.2, 1.2, 1.2)},
        }
    )
    assert firsts(made) == {OURS: 2, "uvloop": 2}
    text = summary(made)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == f"Summary of 4 cases, {made.python}, medians of 2 rounds"
    assert f"first in {OURS} 2, uvloop 2" in lines
    assert f"{OURS} is ahead of every other loop in 2 of 4 cases, and behind in 2:" in lines
    worst = lines.index(f"{title('queue')} 0.75x uvloop (0.75 to 0.75)")
    assert lines[worst + 1] == f"{title('lock')} 0.83x uvloop (0.83 to 2.08), within the noise"
    assert f"{PURE} is ahead of asyncio in 2 of 3 cases, and behind in 1:" in lines
    assert f"{title('spawn')} 0.80x asyncio (0.80 to 0.80)" in lines
    assert any(line.startswith("noise ") and "1 noisy" in line for line in lines)


def test_the_summary_names_contenders_that_were_left_out() -> None:
    made = record(
        {"switch": steady(uvloop=2.0, runtime_compiled=1.0)}, left_out={"zloop": "it failed"}
    )
    assert "zloop from 1" in summary(made)
    assert "and behind" not in summary(made)


def test_a_run_without_runtime_or_without_cases_has_a_summary() -> None:
    text = summary(record({"switch": steady(asyncio=2.0, uvloop=1.0)}))
    assert "uvloop 1" in text
    assert "is ahead" not in text
    assert summary(record({})) == "Summary: no case was measured"


def test_a_run_ends_with_the_summary_and_the_path_of_its_page(tmp_path: Path) -> None:
    page = tmp_path / "made" / "page.html"
    options = ("--contenders", "asyncio,runtime-pure", "--rounds", "2", "--seconds", "0.01")
    run = run_program("-m", "bench", "call_soon", *options, "--html", page)
    assert run.returncode == 0, run.stderr
    *_, last = run.stdout.splitlines()
    assert last == f"page: {page}"
    assert "\nSummary of 1 case, " in run.stdout
    assert "first in" in run.stdout.partition("\nSummary of")[2]
    assert page.is_file()


def test_the_reports_of_several_pythons_are_shown_together(tmp_path: Path) -> None:
    files = []
    for python in ("CPython 3.98.1", "CPython 3.99.1"):
        made = report({"switch": steady(uvloop=2.0, runtime_compiled=1.0)})
        made["machine"] = {**made["machine"], "python": python}
        files.append(tmp_path / f"{python}.json")
        files[-1].write_text(json.dumps(made))
    page = tmp_path / "page.html"
    run = run_program("-m", "bench", "show", *files, "--html", page)
    assert run.returncode == 0, run.stderr
    assert run.stdout.index("CPython 3.98.1") < run.stdout.index("CPython 3.99.1")
    text = page.read_text()
    assert "<h2>CPython 3.98.1</h2>" in text
    assert "<h2>CPython 3.99.1</h2>" in text

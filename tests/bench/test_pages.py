"""Outputs of a report: the tables of the documentation, the page with plots, the pictures."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import html, markdown, svg
from bench.catalogue import EVERY
from bench.progress import bar
from bench.record import Record, record_of
from tests.bench.made_up import report
from tests.support.programs import ROOT, run_program

pytestmark = pytest.mark.once


@pytest.fixture
def made() -> dict[str, Any]:
    ours, theirs = "runtime-compiled", "uvloop"
    return report(
        {
            "switch": {theirs: (2e-6, 2e-6), ours: (1e-6, 1e-6), "runtime-pure": (3e-6, 3e-6)},
            "switch_1k": {theirs: (2e-6, 2e-6), ours: (3e-6, 3e-6)},
            "switch_100k": {theirs: (2e-6, 2e-6), ours: (1e-6, 1e-6)},
            "latency_10k": {theirs: (4e-5, 4e-5), ours: (4e-5, 4e-5)},
            "memory_task": {theirs: (900.0, 900.0), ours: (700.0, 700.0)},
        },
        left_out={"curio": "it has no <such> thing"},
    )


@pytest.fixture
def record(made: dict[str, Any]) -> Record:
    return record_of(made)


def test_the_tables_name_the_date_the_versions_and_every_case(record: Record) -> None:
    text = markdown.figures(record)
    assert record.day in text
    assert "| uvloop | 1.0 |" in text
    assert record.machine["python"] in text
    for case in record.cases:
        assert f"| `{case}` |" in text
    assert "| `switch` | 2,000 ns | 1,000 ns | 3,000 ns | 2.00x |  |" in text


def test_the_tables_contain_losses_and_left_out_contenders(record: Record) -> None:
    losses = list(markdown.losses(record))
    assert losses == ["- `switch_1k`, runtime-compiled: 0.67x uvloop"]
    assert losses[0] in markdown.figures(record)
    assert "without curio" in markdown.figures(record)


def test_ratios_are_taken_within_a_round() -> None:
    rounds: dict[str, tuple[float, ...]] = {
        "uvloop": (2.0, 4.0, 8.0),
        "runtime-compiled": (1.0, 8.0, 4.0),
    }
    assert "| 2.00x |" in markdown.figures(record_of(report({"switch": rounds})))
    behind: dict[str, tuple[float, ...]] = {
        "uvloop": (2.0, 4.0, 8.0),
        "runtime-compiled": (4.0, 8.0, 1.0),
    }
    losses = list(markdown.losses(record_of(report({"switch": behind}))))
    assert losses == ["- `switch`, runtime-compiled: 0.50x uvloop, within the spread"]


def test_a_reason_is_told_once(record: Record) -> None:
    text = markdown.figures(record)
    assert text.count("without curio") == 1
    assert ", ".join(f"`{case}`" for case in record.cases) + ": without curio" in text


def test_no_losses_are_told_too() -> None:
    won = record_of(report({"switch": {"uvloop": (2.0,), "runtime-compiled": (1.0,)}}))
    assert "- none" in markdown.figures(won)


def test_only_the_figures_of_a_page_are_replaced(record: Record, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n")
    markdown.write(page, record)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    markdown.write(page, record)
    assert page.read_text() == text


def test_a_report_on_the_grid_changes_the_grid_only(record: Record) -> None:
    costs: dict[str, tuple[float, ...]] = {"runtime-compiled": (2.0, 2.0), "uvloop": (3.0, 3.0)}
    on_grid = record_of(report({"echo_1k_x10": costs, "buffered_1k_x100": costs}))
    before = markdown.replaced(markdown.MARKS, record)
    page = markdown.replaced(before, on_grid)
    assert page.partition(markdown.GRID_BEGIN)[0] == before.partition(markdown.GRID_BEGIN)[0]
    assert "| server | bytes | 1 | 10 | 100 | 1,000 | 10,000 |" in page
    assert "| streams | 1,024 |  | 1.50x |  |  |  |" in page
    assert "| buffered | 1,024 |  |  | 1.50x |  |  |" in page
    assert "runtime-pure to asyncio, by the number" not in page
    assert markdown.replaced(page, record) == page


def test_missing_figures_of_a_page_are_named(record: Record) -> None:
    every = report(
        {
            name: dict.fromkeys(("asyncio", "uvloop", "runtime-pure", "runtime-compiled"), (1.0,))
            for name in EVERY
        }
    )
    whole = markdown.replaced(markdown.MARKS, record_of(every))
    assert markdown.lacks(whole) == []
    gridless = whole.replace("runtime-pure to asyncio, by", "")
    assert markdown.lacks(gridless) == ["the grid, runtime-pure to asyncio"]
    assert markdown.lacks(whole.replace("| `switch` |", "")) == ["the case switch"]
    assert markdown.lacks(whole.replace("### Losses", "")) == ["the losses"]
    assert markdown.lacks(whole.replace("| uvloop | 1.0", "")) == ["the version of uvloop"]
    dateless = whole.replace(record.day, "one day")
    assert markdown.lacks(dateless) == ["the command, the date and the rounds"]
    assert "the marks" in markdown.lacks("a page")


def test_the_page_in_the_documentation_lacks_nothing() -> None:
    assert markdown.lacks((ROOT / "docs" / "performance.md").read_text()) == []


def test_a_python_with_marks_of_its_own_gets_a_summary(record: Record) -> None:
    before = markdown.replaced(markdown.MARKS, record)
    machine = {**record.machine, "python": "CPython 3.13.1"}
    record = dataclasses.replace(record, machine=machine)
    page = f"{before}<!-- CPython 3.13: begin -->\nold\n<!-- CPython 3.13: end -->\nafter\n"
    text = markdown.replaced(page, record)
    assert text.startswith(before)
    assert text.endswith("\n<!-- CPython 3.13: end -->\nafter\n")
    assert "old" not in text
    new = text.removeprefix(before)
    assert "- `switch_1k`, runtime-compiled: 0.67x uvloop" in new
    assert all(f"| `{case}` |" in new for case in record.cases)


def test_a_page_without_marks_is_refused(record: Record) -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        markdown.replaced("a page", record)


def test_the_page_with_plots_is_whole_and_fetches_nothing(record: Record) -> None:
    text = html.page(record)
    for case in record.cases:
        assert f'id="{case}"' in text
    assert "&lt;such&gt;" in text
    assert not re.search(r"<(script|link|img)|@import|url\(", text)
    drawn = re.findall(r"<svg.*?</svg>", text)
    # Each case has a plot of bars and a plot of latencies, and there is one plot of growth.
    assert len(drawn) == 2 * len(record.cases) + 1
    for drawing in drawn:
        ET.fromstring(drawing)


def test_bars_are_as_long_as_their_values() -> None:
    rows = [svg.Bar("a", 1.0, 1.0, 1.0, "one"), svg.Bar("b", 2.0, 2.0, 2.0, "two <")]
    root = ET.fromstring(svg.bars("bars & more", rows))
    one, two = (float(rect.get("width", "0")) for rect in root.findall(".//{*}rect"))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert {text.text for text in root.findall(".//{*}text")} == {"a", "b", "one", "two <"}


def test_nothing_cannot_be_drawn_as_curves() -> None:
    with pytest.raises(ValueError, match="nothing to draw: empty"):
        svg.curves("empty", [svg.Curve("a", ())], str, str)


def test_a_curve_may_be_flat_or_a_point() -> None:
    for points in (((1.0, 2.0), (10.0, 2.0)), ((3.0, 4.0),)):
        ET.fromstring(svg.curves("flat", [svg.Curve("a", points)], str, str))


def test_pictures_are_files_of_their_own(made: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(made))
    # A process of its own, because matplotlib starts threads.
    folder = tmp_path / "pictures"
    run = run_program("-m", "bench", "show", tmp_path / "report.json", "--pictures", folder)
    assert run.returncode == 0, run.stderr
    written = {path.name for path in folder.iterdir()}
    assert {"overview.svg", "latency_10k.svg", "growth-of-tasks-that-take-turns.svg"} <= written
    for path in folder.iterdir():
        assert path.stat().st_size > 0
        if path.suffix == ".svg":
            assert "currentColor" not in path.read_text()


@pytest.mark.parametrize(
    ("done", "drawn"), [(0, f"[{'.' * 24}] 0/4"), (2, f"[{'#' * 12}{'.' * 12}] 2/4, 1:30 left")]
)
def test_the_bar_shows_the_finished_share(done: int, drawn: str) -> None:
    assert bar(done, 4, 90) == drawn

"""Outputs of a report: the tables of the documentation, the page with plots, the pictures."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import html, markdown, pictures, svg
from bench.catalogue import EVERY
from bench.contenders import CONTENDERS
from bench.progress import bar
from bench.record import Record, record_of
from bench.titles import title
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
    assert "| `switch` | 2,000 ns | 1,000 ns | 3,000 ns | 2.00x |  | runtime-compiled |" in text
    assert "| `switch_1k` | 2,000 ns | 3,000 ns |  | 0.67x |  | uvloop |" in text


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
    text = html.page([record])
    for case in record.cases:
        assert f'id="{case}-' in text
        assert f">{title(case)}</h4>" in text
    assert "uvloop</td></tr>" in text  # the first of one case
    assert "&lt;such&gt;" in text
    assert not re.search(r"<(script|link|img)|@import|url\(", text)
    drawn = re.findall(r"<svg.*?</svg>", text)
    # Each case has a plot of bars and a plot of latencies, and there is one plot of growth.
    assert len(drawn) == 2 * len(record.cases) + 1
    for drawing in drawn:
        ET.fromstring(drawing)


def test_a_page_has_a_table_for_each_python(record: Record) -> None:
    machine = {**record.machine, "python": "CPython 3.99.1"}
    text = html.page([record, dataclasses.replace(record, machine=machine)])
    for python in (record.python, "CPython 3.99.1"):
        assert f"<h2>{python}</h2>" in text
    assert text.count('<div class="ranking">') == 2
    marks = re.findall(r'id="([^"]+)"', text)
    assert len(marks) == len(set(marks))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(marks)


def test_bars_are_as_long_as_their_values() -> None:
    rows = [svg.Bar("a", 1.0, 1.0, 1.0, "one"), svg.Bar("b", 2.0, 2.0, 2.0, "two <")]
    root = ET.fromstring(svg.bars("bars & more", rows))
    one, two = (float(rect.get("width", "0")) for rect in root.findall(".//{*}rect"))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert {text.text for text in root.findall(".//{*}text")} == {"a", "b", "one", "two <"}


def test_the_axis_of_bars_has_a_title_and_round_ticks() -> None:
    rows = [svg.Bar("a", 1.0, 1.0, 1.0, "one"), svg.Bar("b", 2.9, 3.0, 3.1, "two")]
    root = ET.fromstring(svg.bars("bars", rows, "seconds", lambda value: f"{value:g} s"))
    texts = [text.text for text in root.findall(".//{*}text")]
    assert "seconds" in texts
    assert [text for text in texts if text and text.endswith(" s")] == ["0 s", "1 s", "2 s", "3 s"]


@pytest.fixture
def uneven() -> Record:
    """Return a record with cases that are won, lost, noisy, and lost to another peer."""
    ours = "runtime-compiled"
    return record_of(
        report(
            {
                "switch": {"uvloop": (2.0, 2.0, 2.0), ours: (1.0, 1.0, 1.0)},
                "spawn": {"uvloop": (1.0, 1.0, 1.0), ours: (2.0, 2.0, 2.0)},
                "queue": {"uvloop": (2.0, 2.0, 2.0), ours: (1.0, 1.0, 1.0), "rloop": (0.8,) * 3},
                "lock": {"uvloop": (1.0, 2.0, 4.0), ours: (1.0, 1.0, 1.0)},
                "memory_task": {"uvloop": (800.0,) * 3, ours: (400.0,) * 3},
            }
        )
    )


def drawn_factors(record: Record, name: str) -> dict[str | None, ET.Element]:
    """Return the boxes of a picture's bars by the titles before them."""
    root = ET.fromstring(dict(pictures.drawings(record))[name])
    found: dict[str | None, ET.Element] = {}
    text = None
    for element in root:
        if element.tag.endswith("}text"):
            text = element.text
        elif element.tag.endswith("}rect"):
            found.setdefault(text, element)
    return found


def test_losers_and_noisy_cases_have_colours_of_their_own(uneven: Record) -> None:
    drawn = drawn_factors(uneven, "speed")
    ahead = svg.colour("runtime-compiled")
    assert drawn[title("switch")].get("fill") == ahead
    assert drawn[title("spawn")].get("fill") == svg.BEHIND
    assert drawn[title("queue")].get("fill") == svg.BEHIND  # ahead of uvloop, behind rloop
    assert drawn[title("lock")].get("fill") == svg.PALE[ahead]
    assert len({ahead, svg.BEHIND, *svg.PALE.values()}) == 4


def test_bars_of_factors_begin_at_one(uneven: Record) -> None:
    drawn = drawn_factors(uneven, "speed")
    won, lost = drawn[title("switch")], drawn[title("spawn")]
    left, width = float(lost.get("x", "0")), float(lost.get("width", "0"))
    assert left + width == pytest.approx(float(won.get("x", "0")), abs=0.2)
    # The scale is logarithmic: half as fast is as far from 1 as twice as fast.
    assert width == pytest.approx(float(won.get("width", "0")), abs=0.2)


def test_memory_has_a_picture_of_its_own(uneven: Record) -> None:
    drawn = dict(pictures.drawings(uneven))
    assert title("memory_task") in drawn["memory"]
    assert title("memory_task") not in drawn["speed"]
    assert title("switch") not in drawn["memory"]


def test_pictures_say_cases_in_words_and_name_their_axis(uneven: Record) -> None:
    for drawing in dict(pictures.drawings(uneven)).values():
        texts = [text.text or "" for text in ET.fromstring(drawing).findall(".//{*}text")]
        assert not any("_" in text for text in texts)
        assert any("logarithmic" in text for text in texts)


def test_the_best_other_contender_is_named_beside_a_bar(uneven: Record) -> None:
    drawing = dict(pictures.drawings(uneven))["speed"]
    texts = [text.text for text in ET.fromstring(drawing).findall(".//{*}text")]
    assert texts[texts.index(title("queue")) + 1 :][:2] == ["2.00x", "0.80x rloop"]


def test_whiskers_show_the_quartiles(uneven: Record) -> None:
    rows = pictures.factors(uneven, ("switch", "lock"))["The scheduler"]
    assert [(row.low, row.value, row.high) for row in rows] == [(2.0, 2.0, 2.0), (1.5, 2.0, 3.0)]
    bars = [svg.Bar("a", 1.0, 2.0, 3.0, ""), svg.Bar("b", 2.0, 2.0, 2.0, "")]
    whiskers = ET.fromstring(svg.bars("bars", bars)).findall(".//{*}path")
    assert len(whiskers) == 1


def test_every_case_has_a_title_in_words_of_its_own() -> None:
    titles = [title(name) for name in EVERY]
    assert not any("_" in text for text in titles)
    assert len(set(titles)) == len(titles)
    assert title("made_up") == "made_up"


def test_every_contender_has_a_colour_of_its_own() -> None:
    assert set(svg.COLOURS) == set(CONTENDERS)
    assert len({*svg.COLOURS.values(), svg.BEHIND}) == len(svg.COLOURS) + 1


def test_the_legend_of_curves_covers_no_curve() -> None:
    names = list(svg.COLOURS)
    lines = [svg.Curve(name, ((1.0, 1.0), (10.0, 5.0 + at))) for at, name in enumerate(names)]
    root = ET.fromstring(svg.curves("all", lines, str, str, heading="All"))
    entries = [text for text in root.findall(".//{*}text") if text.text in names]
    assert len(entries) == len(names)
    curves = [path for path in root.findall(".//{*}path") if "L" in path.get("d", "")]
    right = max(
        float(x) for path in curves for x in re.findall(r"[ML]([\d.]+) ", path.get("d", ""))
    )
    assert all(float(entry.get("x", "0")) > right for entry in entries)
    height = float(root.get("height", "0"))
    assert all(float(entry.get("y", "0")) < height for entry in entries)


def test_nothing_cannot_be_drawn_as_factors() -> None:
    with pytest.raises(ValueError, match="nothing to draw: empty"):
        svg.factors("empty", "", [("The scheduler", [])], "times")


def test_nothing_cannot_be_drawn_as_curves() -> None:
    with pytest.raises(ValueError, match="nothing to draw: empty"):
        svg.curves("empty", [svg.Curve("a", ())], str, str)


def test_a_curve_may_be_flat_or_a_point() -> None:
    for points in (((1.0, 2.0), (10.0, 2.0)), ((3.0, 4.0),)):
        ET.fromstring(svg.curves("flat", [svg.Curve("a", points)], str, str))


def test_pictures_are_files_of_their_own(made: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(made))
    folder = tmp_path / "pictures"
    run = run_program("-m", "bench", "show", tmp_path / "report.json", "--pictures", folder)
    assert run.returncode == 0, run.stderr
    written = {path.name for path in folder.iterdir()}
    assert written == {
        *("speed.svg", "memory.svg", "latency_10k.svg", "growth-of-tasks-that-take-turns.svg")
    }
    for path in folder.iterdir():
        text = path.read_text()
        root = ET.fromstring(text)
        # A picture stands on a page of any colour: it has a background and no inherited colour.
        assert "currentColor" not in text
        assert root.find("{*}rect") is not None
    assert f"pictures: {folder}" in run.stdout


@pytest.mark.parametrize(
    ("done", "drawn"), [(0, f"[{'.' * 24}] 0/4"), (2, f"[{'#' * 12}{'.' * 12}] 2/4, 1:30 left")]
)
def test_the_bar_shows_the_finished_share(done: int, drawn: str) -> None:
    assert bar(done, 4, 90) == drawn


def test_the_ticks_of_an_axis_of_times_have_whole_units() -> None:
    costs: dict[str, tuple[float, ...]] = {"uvloop": (7e-6, 7e-6), "runtime-compiled": (5e-5,) * 2}
    made = record_of(report({"switch": costs}))
    root = ET.fromstring(html.case_bars(made, made.cases["switch"]))
    texts = [text.text for text in root.findall(".//{*}text")]
    assert texts[:6] == ["0 us", "10 us", "20 us", "30 us", "40 us", "50 us"]

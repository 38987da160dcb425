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
from bench.overview import SELECTION
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


def page_of(record: Record, *parts: str) -> str:
    """Return a page with empty parts for the Python of a record."""
    marks = (line for part in parts for line in markdown.marks(part, record.version))
    return "\n".join(["before", *marks, "after"])


@pytest.fixture(scope="module")
def every() -> Record:
    """Return a record of every case."""
    names = ("asyncio", "uvloop", "runtime-pure", "runtime-compiled")
    return record_of(report({name: dict.fromkeys(names, (1.0,)) for name in EVERY}))


def test_only_the_figures_of_a_page_are_replaced(record: Record, tmp_path: Path) -> None:
    begin, end = markdown.marks("figures", record.version)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    markdown.write(page, [record])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    markdown.write(page, [record])
    assert page.read_text() == text


def test_a_new_page_gets_the_figures_of_its_python(record: Record, tmp_path: Path) -> None:
    markdown.write(tmp_path / "page.md", [record])
    text = (tmp_path / "page.md").read_text()
    assert markdown.figures(record) in text


def test_a_report_on_the_grid_changes_the_grid_only(record: Record) -> None:
    costs: dict[str, tuple[float, ...]] = {"runtime-compiled": (2.0, 2.0), "uvloop": (3.0, 3.0)}
    on_grid = record_of(report({"echo_1k_x10": costs, "buffered_1k_x100": costs}))
    begin, _ = markdown.marks("grid", record.version)
    before = markdown.replaced(markdown.empty_page(record.version), record)
    page = markdown.replaced(before, on_grid)
    assert page.partition(begin)[0] == before.partition(begin)[0]
    assert "| server | bytes | 1 | 10 | 100 | 1,000 | 10,000 |" in page
    assert "| streams | 1,024 |  | 1.50x |  |  |  |" in page
    assert "| buffered | 1,024 |  |  | 1.50x |  |  |" in page
    assert "runtime-pure to asyncio, by the number" not in page
    assert markdown.replaced(page, record) == page


@pytest.mark.parametrize("part", markdown.PARTS)
def test_a_part_that_was_measured_lacks_nothing(part: str, every: Record) -> None:
    empty = page_of(every, part)
    page = markdown.replaced(empty, every)
    assert markdown.lacks(page, part, every.version) == []
    assert len(markdown.lacks(empty, part, every.version)) >= 1
    assert markdown.lacks("a page", part, every.version) == ["the marks"]
    assert markdown.lacks(page, part, "3.99") == ["the marks"]


def test_missing_figures_of_a_page_are_named(every: Record) -> None:
    parts = ("figures", "grid", "overview", "latency")
    whole = markdown.replaced(page_of(every, *parts), every)

    def lacks(part: str, gone: str) -> list[str]:
        assert gone in whole
        return markdown.lacks(whole.replace(gone, ""), part, every.version)

    assert lacks("grid", "runtime-pure to asyncio, by") == ["runtime-pure to asyncio"]
    assert lacks("figures", "| `switch` |") == ["the case switch"]
    assert lacks("figures", markdown.AHEAD) == ["the losses"]
    assert lacks("figures", "| uvloop | 1.0") == ["the version of uvloop"]
    for part in parts:
        assert lacks(part, f" on {every.day}") == ["the command, the date and the rounds"]
    assert lacks("overview", title("spawn")) == ["the case spawn"]
    assert lacks("overview", "The compiled build is ahead") == ["the losses"]
    assert lacks("latency", "beside 10 slow readers") == ["the case latency_slow_readers"]


DOCS = ROOT / "docs"
DETAILS = DOCS / "performance-details.md"


@pytest.mark.parametrize(
    ("path", "part", "version"),
    [
        (ROOT / "README.md", "facts", "3.14"),
        (DOCS / "performance.md", "overview", "3.14"),
        (DOCS / "performance.md", "latency", "3.14"),
        (DETAILS, "figures", "3.14"),
        (DETAILS, "summary", "3.11"),
        (DETAILS, "summary", "3.15"),
        (DETAILS, "grid", "3.11"),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_the_pages_of_the_documentation_lack_nothing(path: Path, part: str, version: str) -> None:
    assert markdown.lacks(path.read_text(), part, version) == []


def test_a_part_shows_the_python_in_its_marks(record: Record) -> None:
    before = markdown.replaced(markdown.empty_page(record.version), record)
    machine = {**record.machine, "python": "CPython 3.99.1"}
    newer = dataclasses.replace(record, machine=machine)
    begin, end = markdown.marks("summary", "3.99")
    page = f"{before}{begin}\nold\n{end}\nafter\n"
    text = markdown.replaced(page, newer)
    assert text.startswith(before)
    assert text.endswith(f"\n{end}\nafter\n")
    assert "old" not in text
    new = text.removeprefix(before)
    assert "- `switch_1k`, runtime-compiled: 0.67x uvloop" in new
    assert all(f"| `{case}` |" in new for case in record.cases)


def test_a_page_without_marks_is_refused(record: Record, tmp_path: Path) -> None:
    begin, end = markdown.marks("summary", "3.99")
    for text in ("a page", f"{begin}\n{end}\n"):
        (tmp_path / "page.md").write_text(text)
        with pytest.raises(ValueError, match=r"lacks marks .*, CPython 3\.\d+: end"):
            markdown.write(tmp_path / "page.md", [record])
        assert (tmp_path / "page.md").read_text() == text


# -- The overview ----------------------------------------------------------------------------------


def test_the_overview_has_a_selection_in_words_and_all_losses(record: Record) -> None:
    text = markdown.replaced(page_of(record, "overview"), record)
    assert (
        f"| {title('switch')} | 2,000 ns | 3,000 ns | 1,000 ns | uvloop 2,000 ns | 2.00x |" in text
    )
    assert f"| {title('switch_1k')} | " not in text
    assert "The compiled build is ahead of every other loop in 4 of 5 cases, and behind in:" in text
    assert f"- {title('switch_1k')}: 0.67x uvloop\n" in text


def test_the_selection_of_the_overview_has_every_subject() -> None:
    selected = [name for names in SELECTION.values() for name in names]
    assert len(selected) == len(set(selected))
    assert set(selected) < EVERY.keys()
    assert {markdown.subject(name) for name in selected} == set(markdown.HEADINGS)


def test_latencies_are_shown_by_quantile_in_milliseconds(record: Record) -> None:
    text = markdown.replaced(page_of(record, "latency"), record)
    (line,) = (line for line in text.splitlines() if "10,000 times a second" in line)
    quantiles = "0.01 / 0.04 / 0.05"
    assert line.endswith(f"streams | {quantiles} |  | {quantiles} | uvloop {quantiles} |")


def test_the_facts_are_those_of_the_record() -> None:
    ours, theirs, pure = "runtime-compiled", "uvloop", "runtime-pure"
    costs: dict[str, dict[str, tuple[float, ...]]] = {
        "spawn": {"asyncio": (8e-6,), theirs: (4e-6,), ours: (1.25e-6,)},
        "echo_1k_x10": {"asyncio": (3.0,), theirs: (3.0,), ours: (2.0,), pure: (2.5,)},
        "echo_1k_x10000": {theirs: (5.0,), ours: (2.0,)},
        "memory_stream_server": {"asyncio": (5400.0,), theirs: (4700.0,), ours: (2740.0,)},
        "switch": {"asyncio": (2.0,), theirs: (2.0,), ours: (0.5,), pure: (1.0,)},
    }
    record = record_of(report(costs))
    text = " ".join(markdown.replaced(page_of(record, "facts"), record).split())
    assert "takes 1.2 µs (uvloop 4.0 µs, asyncio 8.0 µs)" in text
    assert "10 connections 1.5 times as fast as with uvloop" in text
    assert "10,000 connections 2.5 times as fast." in text
    assert "takes 2.7 KB (uvloop 4.7 KB, asyncio 5.4 KB)" in text
    assert "switches between tasks 2.0 times as fast as asyncio" in text
    assert "echoes 1 KiB 1.2 times as fast" in text
    assert f"{record.python} and uvloop 1.0 on {record.day}" in text
    del costs["spawn"]
    with pytest.raises(ValueError, match="a figure that is missing: 'spawn'"):
        markdown.replaced(page_of(record, "facts"), record_of(report(costs)))


# -- Plots -----------------------------------------------------------------------------------------


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

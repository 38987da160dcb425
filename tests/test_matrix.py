"""``make test``: the parts of its passes, and the report at its end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import matrix
from tests.matrix import (
    ABOVE_ACCELERATOR,
    ABOVE_DEBUG_MODE,
    ABOVE_FALLBACK,
    INSTALLED,
    PARTS,
    PASSES,
    ROOT,
    Build,
    Pass,
    Result,
    environment_of,
    merged,
    package_of,
    parts_of,
    report,
    run,
    run_parts,
    usual_passes,
)
from tests.support.durations import Duration, durations_of, longest
from tests.support.examples import SHORT_PASS, examples

pytestmark = pytest.mark.once

OUTPUT = """
============================= slowest 20 durations =============================
12.50s call     tests/a.py::test_one
3.00s setup    tests/b.py::test_two[a b]
2.25s call     tests/b.py::test_two[a b]

(4 durations < 1s hidden.  Use -vv to show these durations.)
1 passed in 15.75s
"""
TESTS = """
import pytest

@pytest.fixture
def prepared():
    pass

def test_quick(prepared):
    pass

def test_failing():
    assert False
"""


def test_the_phases_of_a_test_are_added_up() -> None:
    assert durations_of(OUTPUT.splitlines()) == [
        Duration(12.5, "tests/a.py::test_one"),
        Duration(5.25, "tests/b.py::test_two[a b]"),
    ]


def test_the_longest_durations_of_all_runs_come_first() -> None:
    durations = [
        ("interpreted", Duration(2.0, "a.py::test_a")),
        ("compiled", Duration(3.0, "b.py::test_b")),
        ("compiled", Duration(1.0, "a.py::test_a")),
    ]
    assert longest(durations, 2) == [
        "   3.0 s  b.py::test_b  (compiled)",
        "   2.0 s  a.py::test_a  (interpreted)",
    ]


def test_the_report_names_the_slowest_tests_and_the_failed_passes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = Duration(9.0, "a.py::test_a")
    status = report(
        [
            Result("first", 0, "1 passed", 10.0, (slow,)),
            Result("second", 1, "1 failed", 5.0),
            Result("third", 0, "left out: there is no C compiler (cc)"),
        ]
    )
    assert status == 1
    assert capsys.readouterr().out.splitlines() == [
        "",
        "=== the slowest tests",
        "   9.0 s  a.py::test_a  (first)",
        "",
        "=== every pass",
        "first (10 s, exit status 0)",
        "1 passed",
        "second (5 s, exit status 1)",
        "1 failed",
        "third (0 s, exit status 0)",
        "left out: there is no C compiler (cc)",
        "FAILED: second",
    ]


def test_hypothesis_tries_fewer_examples_in_the_shorter_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(SHORT_PASS, raising=False)
    numbers = {}
    for one in PASSES:
        if not one.build:
            monkeypatch.setattr(os, "environ", environment_of(one))
            numbers[one.name] = examples(100)
            monkeypatch.undo()
    assert numbers == {
        "interpreted": 100,
        "compiled": 100,
        "compiled-fallback": 20,
        "compiled-dev": 20,
    }


@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "at-its-end"])
def test_a_pass_returns_the_durations_that_pytest_lists(tmp_path: Path, at_once: bool) -> None:
    file = tmp_path / "test_sample.py"
    file.write_text(TESTS)
    sources = Pass("sources", compiled=False, accelerator="0")
    options = ["-p", "no:cacheprovider", "--durations-min=0", str(file)]
    result = run(sources, options, at_once=at_once)
    assert (result.name, result.status) == ("sources", 1)
    assert "1 failed, 1 passed" in result.summary
    names = {duration.test.rpartition("::")[2] for duration in result.slowest}
    assert names == {"test_quick", "test_failing"}


def test_the_parts_of_a_pass_have_each_of_its_tests_once(tmp_path: Path) -> None:
    """The parts select all folders: see the options that pytest gets for each of them."""
    one = Pass(
        *("some", False, "0"), marks="not slow", without=("d",), parts=(("a", "b"), ("c", "d"))
    )
    assert list(one.selections()) == [
        ("-m", "not slow", *folders("a", "b"), *ignored("d", "c", "d")),
        ("-m", "not slow", *folders("c"), *ignored("d", "a", "b")),
        ("-m", "not slow", *ignored("d", "a", "b", "c", "d")),
    ]


def folders(*names: str) -> list[str]:
    return [f"tests/{name}" for name in names]


def ignored(*names: str) -> list[str]:
    return [f"--ignore=tests/{name}" for name in names]


def test_a_pass_with_arguments_is_not_divided() -> None:
    one = Pass("some", compiled=False, accelerator="0", parts=PARTS[:1])
    assert [part.title for part in parts_of(one)] == ["some, part 1 of 2", "some, part 2 of 2"]
    (whole,) = parts_of(one, ["-k", "queue"])
    assert (whole.title, whole.arguments) == ("some", ("-k", "queue"))


def test_the_parts_that_test_the_installed_package_wait_for_its_build() -> None:
    sources = Pass("sources", compiled=False, accelerator="0", parts=(PARTS[0], ("bench",)))
    installed = Pass("installed", compiled=True, accelerator="0", parts=PARTS[:1])
    waiting = {
        part.title: part.needs
        for one in (sources, installed)
        for part in parts_of(one, needs=package_of(one))
    }
    assert [name for name, needs in waiting.items() if INSTALLED not in needs] == [
        "sources, part 1 of 3"
    ]


def test_the_outcomes_of_the_parts_of_a_pass_are_added_up() -> None:
    slow = [Duration(seconds, f"a.py::test_{seconds}") for seconds in (2.0, 1.0)]
    parts = [
        Result(
            "some, part 1 of 2", 0, "= 5 passed, 1 skipped, 9 deselected in 3.2s =", 3.5, (slow[0],)
        ),
        Result(
            "some, part 2 of 2", 1, "= 1 failed, 2 passed, 1 xfailed in 1.2s =", 1.5, (slow[1],)
        ),
    ]
    assert merged("some", parts) == Result(
        "some", 1, "7 passed, 1 skipped, 1 failed, 1 xfailed in 2 parts", 5.0, tuple(slow)
    )


def test_the_outcome_of_a_part_that_crashes_is_shown() -> None:
    parts = [Result("part 1", 0, "= 5 passed in 3.2s ="), Result("part 2", -6, "Aborted")]
    assert merged("some", parts) == Result("some", -6, "5 passed in 2 parts; Aborted")


def built(status: int) -> Build:
    return Build("built", lambda at_once: Result("built", status, "the compiler's last line", 1.0))


def test_a_build_that_fails_keeps_the_parts_that_need_it_from_running() -> None:
    one = Pass("some", compiled=False, accelerator="0")
    results = run_parts([built(2)], parts_of(one, needs=("built",)), 1)
    assert results == [
        Result("built", 2, "the compiler's last line", 1.0),
        Result("some", 1, "not run: a build has failed"),
    ]


def test_parts_run_after_the_build_that_they_need(capfd: pytest.CaptureFixture[str]) -> None:
    one = Pass("some", compiled=False, accelerator="0")
    results = run_parts([built(0)], parts_of(one, ["--version"], ("built", INSTALLED)), 2)
    assert [(result.name, result.status) for result in results] == [("built", 0), ("some", 0)]
    assert "=== some: " in capfd.readouterr().out


@pytest.mark.parametrize("library", [None, "/usr/lib/libasan.so"])
def test_a_build_that_is_sanitized_is_not_tested_again_without_sanitizers(
    monkeypatch: pytest.MonkeyPatch, library: str | None
) -> None:
    monkeypatch.setattr(matrix, "sanitizer_library", lambda: library)
    monkeypatch.setattr(matrix, "COMPILER", sys.executable)
    usual = [one.name for one in usual_passes()]
    assert ("interpreted-accelerator" in usual) is (library is None)
    assert len(usual) == len(PASSES) - (library is not None)


def test_the_folders_that_passes_name_are_there() -> None:
    named = {*ABOVE_ACCELERATOR, *ABOVE_DEBUG_MODE, *ABOVE_FALLBACK}
    named |= {folder for one in PASSES for part in one.parts for folder in part}
    assert all((ROOT / "tests" / folder).exists() for folder in named)

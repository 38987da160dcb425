"""The runner of asyncio's tests, tried on sample tests; ``make conformance`` runs asyncio's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance import expectations
from tests.conformance.expectations import Expectation, Malformed, parse
from tests.conformance.modules import Outcome, run_module
from tests.conformance.report import behind, judge, table
from tests.pythons import VERSIONS

LIST = """Everything before the first group is a comment.

= the first group
a reason: of
    two_lines

test_a.One:
    test_always
    test_old (3.11)
    test_new (3.12+)

test_a.Two:
    test_stuck (hangs, 3.11, 3.13)

= the second group
a reason

test_b.One:
    test_always
"""

SAMPLE = """
import asyncio
import os
import threading
import unittest
from asyncio import base_events, tasks

class Sample(unittest.TestCase):
    def test_passes(self):
        loop = asyncio.new_event_loop()
        self.assertEqual(loop.run_until_complete(asyncio.sleep(0, 7)), 7)
        loop.close()

    def test_takes_any_name(self):
        kinds = set()
        for make in (asyncio.SelectorEventLoop, base_events.BaseEventLoop,
                     asyncio.DefaultEventLoopPolicy().new_event_loop):
            loop = make()
            kinds.add(type(loop).__module__)
            loop.close()
        self.assertEqual(kinds, {"runtime.loop"})
        self.assertEqual(tasks._CTask.__module__, "runtime.kernel.public_types")

    def test_uses_no_loop(self):
        pass

    def test_fails(self):
        self.fail("on purpose")

    def test_fails_in_a_part(self):
        for number in range(3):
            with self.subTest(number):
                self.assertNotEqual(number, 1)

    def test_is_skipped(self):
        self.skipTest("on purpose")

    def test_crashes(self):
        os._exit(3)

    def test_hangs(self):
        threading.Event().wait()
"""


def test_expectations_depend_on_the_python() -> None:
    old = parse(LIST, (3, 11))
    assert set(old) == {
        "test_a.One.test_always",
        "test_a.One.test_old",
        "test_a.Two.test_stuck",
        "test_b.One.test_always",
    }
    assert old["test_a.Two.test_stuck"] == Expectation(
        "test_a.Two.test_stuck", "the first group", hangs=True
    )
    assert old["test_b.One.test_always"].group == "the second group"
    assert set(parse(LIST, (3, 12))) == {
        "test_a.One.test_always",
        "test_a.One.test_new",
        "test_b.One.test_always",
    }


def test_a_test_may_be_listed_for_one_build() -> None:
    text = "= a group\n\ntest_a.One:\n    test_it (compiled, 3.11)\n"
    assert not parse(text, (3, 11))
    assert not parse(text, (3, 12), "compiled")
    assert set(parse(text, (3, 11), "compiled")) == {"test_a.One.test_it"}


@pytest.mark.parametrize(
    "wrong",
    [
        "= a group\n\n    test_of_no_class\n",
        "= a group\n\ntest_a.One:\n  test_badly_indented\n",
        "= a group\n\ntest_a.One:\n    test_twice\n    test_twice\n",
    ],
)
def test_a_list_that_makes_no_sense_is_refused(wrong: str) -> None:
    with pytest.raises(Malformed):
        parse(wrong, (3, 11))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_list_can_be_read(version: str) -> None:
    major, minor = map(int, version.split("."))
    assert parse(expectations.FILE.read_text(), (major, minor))


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the tests of ``SAMPLE`` where asyncio's tests are looked for."""
    package = tmp_path / "test" / "test_asyncio"
    package.mkdir(parents=True)
    (tmp_path / "test" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "utils.py").write_text(
        "class TestCase:\n    @staticmethod\n    def close_loop(loop): loop.close()\n"
    )
    (package / "test_sample.py").write_text(SAMPLE)
    (package / "test_nothing.py").write_text("import unittest\nraise unittest.SkipTest('why')\n")
    (package / "test_broken.py").write_text("import os\nos._exit(1)\n")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def kinds(outcomes: dict[str, Outcome]) -> dict[str, str]:
    return {test.rpartition(".")[2]: outcome.kind for test, outcome in outcomes.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("sample")
def test_a_hang_and_a_crash_are_one_failure_each() -> None:
    outcomes = run_module("runtime", "test_sample", patience=3.0)
    assert kinds(outcomes) == {
        "test_passes": "passed",
        "test_takes_any_name": "passed",
        "test_uses_no_loop": "aside",
        "test_fails": "failed",
        "test_fails_in_a_part": "failed",
        "test_is_skipped": "skipped",
        "test_crashes": "failed",
        "test_hangs": "failed",
    }
    named = {test.rpartition(".")[2]: outcome.details for test, outcome in outcomes.items()}
    assert named["test_crashes"].startswith("took the process down (exit status 3)")
    assert named["test_hangs"].startswith("hung")
    assert "on purpose" in named["test_fails"]


@pytest.mark.usefixtures("sample")
def test_a_test_that_is_known_to_hang_is_not_run() -> None:
    known = [f"test_sample.Sample.{name}" for name in ("test_hangs", "test_crashes")]
    outcomes = run_module("runtime", "test_sample", hanging=known)
    assert len(outcomes) == 6


@pytest.mark.usefixtures("sample")
def test_a_module_may_be_skipped_or_break_as_a_whole() -> None:
    assert kinds(run_module("asyncio", "test_nothing")) == {"(the module)": "skipped"}
    assert kinds(run_module("asyncio", "test_broken")) == {"(the module)": "failed"}


def outcomes_of(**kinds: str) -> dict[str, Outcome]:
    tests = {f"test_a.One.{name}": kind for name, kind in kinds.items()}
    return {test: Outcome(test, kind, "details") for test, kind in tests.items()}


def test_failures_are_held_against_the_list() -> None:
    expected = parse(
        "= group\n\ntest_a.One:\n    test_bad\n    test_good\n    test_gone\n"
        "    test_hangs (hangs)\n    test_luck (sometimes)\ntest_b.One:\n    test_other\n",
        (3, 11),
    )
    outcomes = outcomes_of(
        test_bad="failed",
        test_good="passed",
        test_new="failed",
        test_fine="passed",
        test_luck="passed",
    )
    verdict = judge("test_a", outcomes, expected)
    assert (verdict.passed, verdict.listed, verdict.failed, verdict.skipped) == (3, 2, 1, 0)
    assert [failure.test for failure in verdict.failures] == ["test_a.One.test_new"]
    assert verdict.stale == ["test_a.One.test_good"]
    assert verdict.gone == ["test_a.One.test_gone"]


def test_fewer_passes_than_on_the_yardstick_are_named() -> None:
    ours = {"test_a": outcomes_of(test_one="passed", test_two="failed", test_three="aside")}
    theirs = {"test_a": outcomes_of(test_one="passed", test_two="passed", test_three="passed")}
    assert behind(ours, theirs) == ["test_a: 1 pass, 3 on uvloop: test_a.One.test_two"]
    assert not behind(theirs, ours)


def test_the_table_adds_up() -> None:
    verdicts = [
        judge(module, outcomes_of(test_one="passed", test_two="skipped"), {})
        for module in ("test_a", "test_b")
    ]
    *_, last = table(verdicts, {"test_a": 4, "test_b": 5}).splitlines()
    assert last.split() == ["all", "2", "0", "0", "2", "0", "9"]

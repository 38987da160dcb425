from __future__ import annotations

import json

import pytest

from bench.catalogue import CASES
from bench.contenders import CONTENDERS, Contender, Entry
from bench.lines import Usage
from bench.measure import MeasurementPlan, Result, Series, measure, rotated
from bench.probes import Probe, Sample
from bench.process import ProcessError, UnsupportedError
from bench.report import amount, as_json, table, verdict_lines, warnings
from bench.targets import Target, judge, lacking

pytestmark = pytest.mark.once


def series(name: str, *costs: float, user: float | None = None, faults: float = 0) -> Series:
    used = None if user is None else Usage(user, user, faults)
    return Series(name, [Sample(cost, used) for cost in costs])


def result(*several: Series, case: str = "switch", background_load: float = 0.0) -> Result:
    return Result(
        case, "what is done", "s", {one.contender: one for one in several}, background_load
    )


def entry(name: str) -> Entry:
    return Entry(Contender(name, "made up", "made-up"), "1.0", {})


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (270e-9, "s", "270 ns"),
        (9.99e-6, "s", "9,990 ns"),
        (28.23e-6, "s", "28.2 us"),
        (0.0118, "s", "11.8 ms"),
        (1234.4, "B", "1,234 B"),
        (0.0, "s", "0 ns"),
    ],
)
def test_amounts_have_a_unit_that_suits_them(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text


def test_the_table_compares_to_the_baseline() -> None:
    lines = table(result(series("uvloop", 2e-6, 4e-6), series("ours", 1e-6, 2e-6)), "uvloop")
    ours = next(line for line in lines.splitlines() if line.strip().startswith("ours"))
    assert "2.00x (2.00 to 2.00)" in ours
    assert "1,500 ns" in ours


def test_the_table_does_without_a_baseline() -> None:
    lines = table(result(series("ours", 1e-6)), "uvloop")
    assert "1,000 ns" in lines
    assert "x (" not in lines


def test_cpu_time_is_compared_where_it_is_known() -> None:
    known = result(series("uvloop", 2e-6, user=3e-6), series("ours", 1e-6, user=1e-6))
    assert "CPU  3.00x" in table(known, "uvloop")
    unknown = result(series("uvloop", 2e-6), series("ours", 1e-6))
    assert "CPU" not in table(unknown, "uvloop")


def test_page_faults_are_shown_where_an_operation_has_some() -> None:
    many = series("uvloop", 2e-3, user=1e-3, faults=1234.4)
    assert "page faults 1,234" in table(result(many), "uvloop")
    few = series("uvloop", 2e-6, user=1e-6, faults=0.01)
    assert "page faults" not in table(result(few), "uvloop")


def test_an_unsteady_baseline_is_warned_of() -> None:
    noisy = result(series("uvloop", 1.0, 2.0, 1.0, 2.0), series("ours", 1.0, 1.0, 1.0, 1.0))
    assert any("quartiles of uvloop" in warning for warning in warnings(noisy, "uvloop"))
    assert warnings(noisy, "ours") == []


def test_company_is_warned_of() -> None:
    (warning,) = warnings(result(series("uvloop", 1.0), background_load=0.5), "uvloop")
    assert "50% of a core" in warning


def test_a_target_is_reached_by_the_median_of_the_ratios() -> None:
    theirs = series("uvloop", 2.0, 2.0, 2.0)
    (slow,) = judge([result(theirs, series("runtime-compiled", 0.9, 1.1, 1.1))])
    assert not slow.reached
    assert not slow.is_certain
    (fast,) = judge([result(theirs, series("runtime-compiled", 0.9, 0.9, 1.5))])
    assert fast.reached
    assert verdict_lines([slow, fast]).splitlines()[-1] == "1 of 2 targets reached"


def test_targets_that_were_not_measured_are_not_judged() -> None:
    assert list(judge([result(series("asyncio", 1.0), series("uvloop", 1.0))])) == []
    assert "None of the targets" in verdict_lines([])


def test_targets_of_a_contender_that_was_left_out_are_not_reached() -> None:
    reason = "create_server() is not implemented"
    measured = Result(
        *("protocol_1k_x10", "", "s"),
        {"uvloop": series("uvloop", 1.0)},
        left_out={"runtime-compiled": reason, "asyncio": "nobody judges it"},
    )
    lacks = list(lacking([measured]))
    name = "runtime-compiled"
    targets = [lack.target for lack in lacks]
    assert Target("protocol_1k_x10", name, "uvloop", 1.05) in targets
    assert Target("protocol_1k_x10", name, "C", 0.85) in targets
    assert {target.contender for target in targets} == {name}
    first, *_, last = verdict_lines([], lacks).splitlines()
    assert first.startswith("CANNOT   protocol_1k_x10")
    assert reason in first
    assert last == f"0 of {len(lacks)} targets reached"


def test_the_json_holds_every_sample() -> None:
    measured = result(series("uvloop", 2.0), series("runtime-compiled", 1.0))
    report = as_json(
        [measured],
        [Entry(CONTENDERS["uvloop"], "9.9", {}, ("a note",))],
        "uvloop",
        MeasurementPlan(1, 0.1),
        judge([measured]),
    )
    read = json.loads(json.dumps(report))
    assert read["contenders"]["uvloop"] == {"version": "9.9", "notes": ["a note"]}
    (case,) = read["results"]
    assert case["series"]["runtime-compiled"]["ratio"]["median"] == 2.0
    assert case["series"]["uvloop"]["samples"][0]["cost"] == 2.0
    assert read["targets"][0]["reached"] is True


def test_rounds_are_interleaved_and_their_order_rotates() -> None:
    log: list[str] = []

    class Recorder(Probe):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def warm_up(self, seconds: float) -> None:
            log.append(f"warm {self.name}")

        def measure(self, seconds: float) -> Sample:
            assert seconds == 0.5
            log.append(self.name)
            return Sample(1.0)

    case = CASES["switch"]
    recording = type(case)("made_up", "", "s", lambda one: Recorder(one.name))
    done = measure(recording, [entry("a"), entry("b")], MeasurementPlan(3, 0.5), lambda text: None)
    assert log == ["warm a", "warm b", "a", "b", "b", "a", "a", "b"]
    assert {name: len(one.samples) for name, one in done.series.items()} == {"a": 3, "b": 3}


def test_a_contender_that_cannot_do_a_case_is_left_out_and_named() -> None:
    class Picky(Probe):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def warm_up(self, seconds: float) -> None:
            if self.name == "b":
                raise UnsupportedError("create_server() is not implemented")

        def measure(self, seconds: float) -> Sample:
            assert self.name == "a"
            return Sample(1.0)

    picky = type(CASES["switch"])("made_up", "", "s", lambda one: Picky(one.name))
    done = measure(picky, [entry("a"), entry("b")], MeasurementPlan(2, 0.1), lambda text: None)
    assert list(done.series) == ["a"]
    assert "without b: create_server() is not implemented" in table(done, "a")


@pytest.mark.parametrize("where", ["start", "warm_up", "second round"])
@pytest.mark.parametrize(
    "error", [ProcessError("b ended too early, with SIGSEGV."), ConnectionRefusedError("refused")]
)
def test_a_peer_that_fails_is_left_out_and_its_processes_end(where: str, error: Exception) -> None:
    log: list[str] = []

    class Failing(Probe):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.rounds = name, 0
            self.fail("start")

        def fail(self, at: str) -> None:
            if self.name == "b" and at == where:
                raise error

        def warm_up(self, seconds: float) -> None:
            self.fail("warm_up")

        def measure(self, seconds: float) -> Sample:
            self.rounds += 1
            self.fail("second round" if self.rounds == 2 else "")
            log.append(self.name)
            return Sample(1.0)

        def close(self) -> None:
            log.append(f"close {self.name}")

    failing = type(CASES["switch"])("made_up", "", "s", lambda one: Failing(one.name))
    peers = [entry("a"), entry("b")]
    done = measure(failing, peers, MeasurementPlan(3, 0.1), lambda text: None)
    assert list(done.series) == ["a"]
    assert len(done.series["a"].samples) == 3
    assert done.left_out["b"].startswith("it failed: ")
    assert str(error) in done.left_out["b"]
    if where != "start":
        # Nothing of the failed peer disturbs the later rounds of the others.
        assert log.index("close b") < len(log) - 1 - log[::-1].index("a")


def test_a_failure_of_runtime_ends_the_run() -> None:
    class Failing(Probe):
        def warm_up(self, seconds: float) -> None:
            raise ProcessError("runtime-pure ended too early")

        def measure(self, seconds: float) -> Sample:
            raise AssertionError

    failing = type(CASES["switch"])("made_up", "", "s", lambda one: Failing())
    ours = Entry(CONTENDERS["runtime-pure"], "1.0", {})
    with pytest.raises(ProcessError, match="ended too early"):
        measure(failing, [ours], MeasurementPlan(1, 0.1), lambda text: None)


def test_a_rotation_begins_further_on() -> None:
    entries = [entry("a"), entry("b"), entry("c")]
    assert [one.name for one in rotated(entries, 4)] == ["b", "c", "a"]
    assert rotated([], 1) == []


@pytest.mark.parametrize(("rounds", "seconds"), [(0, 1.0), (1, 0.0), (1, -1.0)])
def test_no_effort_is_refused(rounds: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="at least one round"):
        MeasurementPlan(rounds, seconds)

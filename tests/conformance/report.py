"""Report of the conformance tests: the table of results, and the unexpected outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.conformance.expectations import Expectation
from tests.conformance.modules import Outcome

Outcomes = Mapping[str, Outcome]

COLUMNS = ("passed", "listed", "failed", "skipped", "aside")


@dataclass
class Verdict:
    """Results of one module, compared with the expectations."""

    module: str
    passed: int = 0
    listed: int = 0
    """Number of tests that were expected not to pass, and did not pass."""

    skipped: int = 0
    aside: int = 0
    """Number of tests that passed without using the loop under test."""

    failures: list[Outcome] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    """Listed tests that passed all the same."""

    gone: list[str] = field(default_factory=list)
    """Listed tests that do not exist: tests come and go with patch releases."""

    @property
    def failed(self) -> int:
        """Return the number of tests that failed unexpectedly."""
        return len(self.failures)


def judge(module: str, outcomes: Outcomes, expected: Mapping[str, Expectation]) -> Verdict:
    """Compare the outcomes of a module with the expectations."""
    verdict = Verdict(module)
    for outcome in outcomes.values():
        if outcome.kind == "failed":
            if outcome.test in expected:
                verdict.listed += 1
            else:
                verdict.failures.append(outcome)
        else:
            setattr(verdict, outcome.kind, getattr(verdict, outcome.kind) + 1)
            listed = expected.get(outcome.test)
            if outcome.kind != "skipped" and listed is not None and not listed.sometimes:
                verdict.stale.append(outcome.test)
    for test, expectation in expected.items():
        if test.partition(".")[0] == module and test not in outcomes:
            if expectation.hangs:
                verdict.listed += 1
            else:
                verdict.gone.append(test)
    return verdict


def table(verdicts: Iterable[Verdict], reference: Mapping[str, int] | None = None) -> str:
    """Return the table; ``reference`` adds the number of tests that pass there, by module."""
    rows = [("module", *COLUMNS, *(("uvloop",) if reference is not None else ()))]
    sums = [0] * (len(rows[0]) - 1)
    for verdict in verdicts:
        counts = [getattr(verdict, column) for column in COLUMNS]
        if reference is not None:
            counts.append(reference.get(verdict.module, 0))
        sums = [total + count for total, count in zip(sums, counts, strict=True)]
        rows.append((verdict.module, *map(str, counts)))
    rows.append(("all", *map(str, sums)))
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells) for name, *cells in rows
    )


def passes(outcomes: Outcomes) -> int:
    """Return the number of tests that passed on the loop under test."""
    return sum(outcome.kind == "passed" for outcome in outcomes.values())


def behind(ours: Mapping[str, Outcomes], theirs: Mapping[str, Outcomes]) -> list[str]:
    """Return the modules with fewer passes than the reference, naming the tests that differ."""
    complaints = []
    for module, outcomes in ours.items():
        here, there = passes(outcomes), passes(theirs[module])
        if here < there:
            only = [
                test
                for test, outcome in theirs[module].items()
                if outcome.kind == "passed"
                and (test not in outcomes or outcomes[test].kind == "failed")
            ]
            complaints.append(f"{module}: {here} pass, {there} on uvloop: {', '.join(only)}")
    return complaints

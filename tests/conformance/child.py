"""Process that runs one module of asyncio's tests, and reports each test as it begins and ends.

``python -m tests.conformance.child LOOP MODULE RESULTS [NOT]`` writes the report to the file
RESULTS, a line of JSON for each event. The tests named in the file NOT are left out.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import signal
import sys
import traceback
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tests.conformance.subjects import TESTS, Involvement, put_under_test

ErrorInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

WHOLE_MODULE = "(the module)"
"""Stands for a test if the whole module was skipped, or failed before its first test."""


def short_name(test: object) -> str:
    """Return the name of a test as ``module.class.method``."""
    name = test.id() if isinstance(test, unittest.TestCase) else str(test)
    return name.removeprefix(f"{TESTS}.")


class Reporter(unittest.TestResult):
    """Test result that writes every outcome to a file at once."""

    def __init__(self, results: TextIO, involvement: Involvement) -> None:
        super().__init__()
        self._results = results
        self._involvement = involvement
        self._loops_before = 0
        self._details: list[str] = []
        self._outcome = ""

    def write(self, **event: Any) -> None:
        """Write one event."""
        self._results.write(json.dumps(event) + "\n")
        self._results.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._loops_before = self._involvement.loops
        self._outcome = "passed"
        self._details = []
        self.write(begun=short_name(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if self._outcome == "passed" and self._involvement.loops == self._loops_before:
            self._outcome = "aside"
        if self._outcome == "failed":
            # Objects left by a test must not cause warnings in a later test.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
        self.write(ended=short_name(test), outcome=self._outcome, details="\n".join(self._details))

    def _note(self, outcome: str, test: object, details: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._outcome = outcome
            self._details.append(details)
        else:  # a fixture of a class or a module failed
            self.write(ended=short_name(test), outcome=outcome, details=details)

    def addError(self, test: unittest.TestCase, err: ErrorInfo) -> None:
        self._note("failed", test, "".join(traceback.format_exception(err[1])))

    addFailure = addError

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: ErrorInfo | None
    ) -> None:
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if self._outcome != "failed":
            self._note("skipped", test, reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note("failed", test, "passed, although the test itself expects a failure")


def each_test(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield the tests of a suite one by one."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each_test(test)
        else:
            yield test


def main(loop: str, module: str, results: str, left_out: str = "") -> None:
    """Run the module's tests."""
    faulthandler.enable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so; tests of interrupts would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("default")
    excluded = set(Path(left_out).read_text().split("\n")) if left_out else set()
    involvement = put_under_test(loop, module)
    with Path(results).open("a") as file:
        reporter = Reporter(file, involvement)
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(f"{TESTS}.{module}")
        except unittest.SkipTest as skip:
            reporter.write(ended=f"{module}.{WHOLE_MODULE}", outcome="skipped", details=str(skip))
        else:
            chosen = [test for test in each_test(suite) if short_name(test) not in excluded]
            # The runner recognizes classes that share fixtures by the order of tests, which is
            # kept.
            unittest.TestSuite(chosen).run(reporter)
        reporter.write(finished=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Command line of the conformance tests: ``python -m tests.conformance``, for the running Python.

The exit status is 1 if a test failed that is not listed in ``expected.txt``, if a listed test
passed, or, with ``--reference``, if fewer tests passed in any module than on uvloop.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys

from tests.conformance import expectations
from tests.conformance.modules import PATIENCE, Outcome, find_modules, run_module
from tests.conformance.report import Verdict, behind, judge, passes, table
from tests.conformance.subjects import SUBJECTS


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as test_tasks; all by default")
    parser.add_argument("--loop", choices=sorted(SUBJECTS), default="runtime")
    parser.add_argument("--reference", action="store_true", help="hold it against uvloop")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for one test")
    parser.add_argument("--brief", action="store_true", help="no tracebacks")
    return parser.parse_args()


def build() -> str:
    """Return a description of the build under test."""
    import runtime  # not needed if another loop is tested

    return f"runtime {runtime.__version__}, {'compiled' if runtime.compiled else 'interpreted'}"


def show(verdict: Verdict, brief: bool) -> None:
    """Print the result of a module, and its unexpected outcomes."""
    print(f"{verdict.module}: {verdict.passed} passed, {verdict.failed} failed", flush=True)
    for outcome in verdict.failures:
        details = outcome.details.strip()
        if brief:
            details = details.rpartition("\n")[2]
        print(f"FAILED {outcome.test}\n    " + details.replace("\n", "\n    "))
    for test in verdict.stale:
        print(f"STALE {test} is listed, and passes")
    for test in verdict.gone:
        print(f"note: {test} is listed, and there is no such test on this Python")


def main() -> int:
    """Run the tests; return the exit status."""
    options = arguments()
    version = platform.python_version()
    found = find_modules()
    if not found:
        print(f"Python {version} came without the package 'test': nothing to run. Left out.")
        return 0
    if unknown := set(options.modules) - set(found):
        print(
            f"There is no {', '.join(sorted(unknown))} among Python {version}'s tests of asyncio."
        )
        return 2
    what = build() if options.loop == "runtime" else options.loop
    print(f"=== the standard library's tests of asyncio, Python {version}, on {what}", flush=True)
    expected = expectations.load() if options.loop == "runtime" else {}
    hanging = [each.test for each in expected.values() if each.hangs]
    results: dict[str, dict[str, Outcome]] = {}
    verdicts = []
    for module in options.modules or found:
        results[module] = run_module(options.loop, module, options.patience, hanging)
        verdicts.append(judge(module, results[module], expected))
        show(verdicts[-1], options.brief)
    theirs: dict[str, dict[str, Outcome]] | None = None
    if options.reference and importlib.util.find_spec("uvloop") is None:
        print("uvloop is not installed: there is no reference.")
    elif options.reference:
        print("the same on uvloop", flush=True)
        theirs = {module: run_module("uvloop", module, options.patience) for module in results}
    counts = None if theirs is None else {name: passes(of) for name, of in theirs.items()}
    print("\n" + table(verdicts, counts))
    complaints = behind(results, theirs) if theirs else []
    for complaint in complaints:
        print(f"FEWER {complaint}")
    wrong = any(verdict.failures or verdict.stale for verdict in verdicts)
    # Another loop than runtime's is run for information only: there are no expectations for it.
    return int(options.loop == "runtime" and (wrong or bool(complaints)))


if __name__ == "__main__":
    sys.exit(main())

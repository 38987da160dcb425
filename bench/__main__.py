"""Command line of the benchmark suite: ``python -m bench``."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from bench import idle_collection, instructions, machine, peers, pythons, snapshots
from bench.catalogue import CASES, GRID, Case, select
from bench.compare import changes, comparison, lost
from bench.contenders import (
    CONTENDERS,
    Contender,
    ContenderError,
    Entry,
    NotInstalledError,
    enter,
)
from bench.growth import growth_table
from bench.measure import MeasurementPlan, Result, measure
from bench.outputs import outputs, write_outputs
from bench.peers import PEERS
from bench.process import ProcessError
from bench.progress import Bar
from bench.record import read, record_of
from bench.report import as_json, fit_growth, heading, table, verdict_lines
from bench.summary import summary
from bench.targets import judge, lacking

THOROUGH = MeasurementPlan(rounds=7, seconds=0.3)
QUICK = MeasurementPlan(rounds=3, seconds=0.1)
PREFERRED_BASELINE = "uvloop"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        parents=[outputs()],
        description="Measure runtime against asyncio and uvloop.",
        epilog=f"Commands of their own: {', '.join(COMMANDS)}; each has its --help.",
    )
    made.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help="a name, a pattern such as 'echo_*', a group such as memory, quick, or grid; all but "
        "the grid by default",
    )
    made.add_argument("--list", action="store_true", help="list the cases and the contenders")
    made.add_argument("--rounds", type=int, help=f"of each case ({THOROUGH.rounds})")
    made.add_argument("--seconds", type=float, help=f"of one run ({THOROUGH.seconds:g})")
    made.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK.rounds} rounds of {QUICK.seconds:g} s",
    )
    made.add_argument("--contenders", metavar="A,B", help="those to compare")
    made.add_argument(
        "--baseline", metavar="A", help=f"the one to compare to ({PREFERRED_BASELINE})"
    )
    made.add_argument(
        "--compiled",
        type=Path,
        metavar="FOLDER",
        help="take the compiled package from there, and not from where it is installed",
    )
    made.add_argument("--targets", action="store_true", help="say which targets are reached")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    return made


def parse_contenders(names: str) -> list[Contender]:
    """Return the contenders of a comma-separated list. Raises ValueError for an unknown name."""
    for name in names.split(","):
        if name not in CONTENDERS:
            raise ValueError(
                f"There is no contender {name!r}; choose among {', '.join(CONTENDERS)}."
            )
    return [CONTENDERS[name] for name in dict.fromkeys(names.split(","))]


def check_contenders(names: str | None, compiled_in: Path | None) -> list[Entry]:
    """Return the checked contenders.

    A contender that was asked for by name and is not available raises ContenderError. A default
    contender that is not available is left out, and standard error says why.
    """
    if names is not None:
        return [enter(contender, compiled_in) for contender in parse_contenders(names)]
    entries, missing = [], []
    for contender in CONTENDERS.values():
        if contender.by_default:
            try:
                entries.append(enter(contender, compiled_in))
            except NotInstalledError as error:
                if contender.name not in PEERS:
                    print(f"left out: {error}", file=sys.stderr)
                else:
                    missing.append(contender.name)
            except ContenderError as error:
                print(f"left out: {error}", file=sys.stderr)
    if missing:
        advice = "make bench-peers installs those that have a wheel for this Python"
        print(f"left out: {', '.join(missing)}: not installed; {advice}", file=sys.stderr)
    return entries


def chosen_baseline(wanted: str | None, entries: Sequence[Entry]) -> str:
    """Return the contender that the others are compared to."""
    names = [entry.name for entry in entries]
    if wanted is not None and wanted not in names:
        raise ValueError(f"The baseline {wanted!r} is not among the contenders.")
    return wanted or (PREFERRED_BASELINE if PREFERRED_BASELINE in names else names[0])


def chosen_plan(options: argparse.Namespace) -> MeasurementPlan:
    """Return the number of rounds and the length of a run, from the options or their defaults."""
    usual = QUICK if options.quick else THOROUGH
    return MeasurementPlan(
        usual.rounds if options.rounds is None else options.rounds,
        usual.seconds if options.seconds is None else options.seconds,
    )


def show_list() -> None:
    """Print the cases and the contenders."""
    print("cases:")
    for case in CASES.values():
        print(f"  {case.name:<22}{case.operation}")
    names = [name for name in GRID if name not in CASES]
    print(f"the grid, which is not measured by default, has {len(names)} more:")
    print(textwrap.fill(" ".join(names), 98, initial_indent="  ", subsequent_indent="  "))
    print("contenders (* by default):")
    for contender in CONTENDERS.values():
        print(f"{'*' if contender.by_default else '':>2}{contender.name:<22}{contender.summary}")


def measure_all(
    cases: Sequence[Case], entries: Sequence[Entry], baseline: str, plan: MeasurementPlan
) -> list[Result]:
    """Measure the cases, and print each as soon as it is done."""
    results = []
    started = time.monotonic()
    for number, case in enumerate(cases, 1):
        taking_part = [entry for entry in entries if case.admits(entry.contender)]
        reason = case.why_not() or ("" if taking_part else "none of the contenders can do it")
        if reason:
            print(f"\n{case.name}: left out: {reason}")
            continue

        bar = Bar(number, len(cases), started)
        results.append(measure(case, taking_part, plan, bar.show))
        bar.clear()
        print(f"\n{table(results[-1], baseline)}", flush=True)
    return results


def show(arguments: Sequence[str]) -> int:
    """Render pages and pictures from reports written earlier. Returns the exit status."""
    usage = argparse.ArgumentParser(prog="python -m bench show", parents=[outputs()])
    usage.add_argument(
        "reports", type=Path, metavar="REPORT.json", nargs="+", help="one for each Python"
    )
    options = usage.parse_args(arguments)
    try:
        records = [read(path) for path in options.reports]
    except ValueError as error:
        usage.error(str(error))
    print("\n\n".join(map(summary, records)))
    return write_outputs(options, records)


def compare(arguments: Sequence[str]) -> int:
    """Compare two reports. Returns 1 if a case regressed by more than the spread explains."""
    usage = argparse.ArgumentParser(prog="python -m bench compare")
    usage.add_argument("before", type=Path, metavar="A.json")
    usage.add_argument("after", type=Path, metavar="B.json")
    options = usage.parse_args(arguments)
    try:
        before, after = read(options.before), read(options.after)
    except ValueError as error:
        usage.error(str(error))
    found, gone = list(changes(before, after)), list(lost(before, after))
    print(comparison(found, gone))
    return 1 if gone or any(change.is_regression for change in found) else 0


COMMANDS = {
    "collections": idle_collection.main,
    "compare": compare,
    "instructions": instructions.main,
    "peers": peers.main,
    "pythons": pythons.main,
    "show": show,
    "snapshots": snapshots.main,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report. Returns the exit status: 2 if a contender failed its check."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    usage = parser()
    options = usage.parse_args(arguments)
    try:
        cases, plan = select(options.cases), chosen_plan(options)
        if options.contenders is not None:
            parse_contenders(options.contenders)
    except ValueError as error:
        usage.error(str(error))
    if options.list:
        show_list()
        return 0
    machine.allow_descriptors()
    try:
        entries = check_contenders(options.contenders, options.compiled)
        baseline = chosen_baseline(options.baseline, entries)
    except ValueError as error:
        usage.error(str(error))
    except (ContenderError, ProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    print(heading(entries, baseline))
    try:
        results = measure_all(cases, entries, baseline, plan)
    except ProcessError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    if fitted := fit_growth(results):
        print(f"\n{growth_table(fitted)}")
    verdicts = list(judge(results))
    if options.targets:
        print(f"\n{verdict_lines(verdicts, lacking(results))}")
    report = as_json(results, entries, baseline, plan, verdicts)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    record = record_of(report)
    print(f"\n{summary(record)}")
    return write_outputs(options, [record])


if __name__ == "__main__":
    sys.exit(main())

"""The command line: ``python -m bench``."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path

from bench.cases import CASES
from bench.contenders import CONTENDERS, BuildError
from bench.measure import (
    ECHO_CASES,
    MEMORY_CASES,
    Result,
    machine,
    measure_case,
    measure_echo,
    measure_memory,
)
from bench.report import judged, table

ALL = (*CASES, *ECHO_CASES, *MEMORY_CASES)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure runtime against asyncio and uvloop."
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="the cases; all by default")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case (7)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one run (0.3)")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), metavar="A,B")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.1 s")
    parser.add_argument("--targets", action="store_true", help="say which targets are reached")
    parser.add_argument("--list", action="store_true", help="list the cases")
    options = parser.parse_args(arguments)
    for case in options.cases:
        if case not in ALL:
            parser.error(f"there is no case {case!r}; --list shows them")
    options.contenders = options.contenders.split(",")
    for contender in options.contenders:
        if contender not in CONTENDERS:
            parser.error(f"there is no contender {contender!r}: {', '.join(CONTENDERS)}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return options


def show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def measure(name: str, options: argparse.Namespace) -> Result:
    rounds, seconds = (3, 0.1) if options.quick else (options.rounds, options.seconds)
    if name in CASES:
        return measure_case(name, options.contenders, rounds, seconds, show_progress)
    kind = measure_echo if name in ECHO_CASES else measure_memory
    return kind(name, options.contenders, rounds, seconds, show_progress)


def main(arguments: list[str] | None = None) -> int:
    """Measure, and report. Returns the exit status."""
    options = parse(arguments)
    if options.list:
        for name, case in CASES.items():
            print(f"{name:<16}{case.operation}")
        for name, (operation, *_) in (*ECHO_CASES.items(), *MEMORY_CASES.items()):
            print(f"{name:<16}{operation}")
        return 0
    results: list[Result] = []
    try:
        for name in options.cases or ALL:
            results.append(measure(name, options))
            show_progress("")
            print(table(results[-1]), flush=True)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    if options.targets:
        print("\n".join(["", *judged(results)]))
    if options.json is not None:
        report = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "python": sys.version.split()[0],
            "results": [result.as_json() for result in results],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

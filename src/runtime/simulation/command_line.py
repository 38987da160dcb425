"""``python -m runtime simulate``: explores or replays one coroutine function of a file."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from runtime.simulation.conditions import conditions_of
from runtime.simulation.current import Settings
from runtime.simulation.errors import DivergenceError
from runtime.simulation.exploring import (
    Exploration,
    explore,
    failure_of,
    replayed,
)
from runtime.simulation.failures import FAILURES
from runtime.simulation.loading import load, load_setup


def main(arguments: Sequence[str]) -> int:
    """Run the command with its arguments; return the exit status: 1 if a run failed."""
    options = _parser().parse_args(arguments)
    try:
        function = load(options.program)
        setup = None if options.setup is None else load_setup(options.setup)
    except (OSError, AttributeError, ImportError, ValueError) as error:
        _print(f"simulate: {error}", sys.stderr)
        return 2
    shared: dict[str, Any] = {
        "steps": options.steps,
        "environment": options.environment,
        "outside": options.outside,
        "leftovers": options.leftovers,
        "starvation": options.starvation,
        "setup": setup,
    }
    try:
        shared["network"] = None if options.network is None else conditions_of(options.network)
        settings = Settings("tasks", 0.0, **shared)
    except (TypeError, ValueError) as error:
        _print(f"simulate: {error}", sys.stderr)
        return 2
    if options.replay is not None:
        try:
            runner, outcome, settings = replayed(function, options.replay, settings)
        except (DivergenceError, ValueError) as error:
            _print(f"simulate: {error}", sys.stderr)
            return 2
        found = Exploration(1, outcome.steps, outside=outcome.outside)
        if outcome.error is not None:
            found.failure = failure_of(runner, outcome, settings, shrink=0)
    else:
        try:
            found = explore(
                function,
                runs=options.runs,
                seed=options.seed,
                strategy=options.strategy,
                keep=options.keep,
                check=False,
                order=options.order,
                lateness=options.lateness,
                **shared,
            )
        except (TypeError, ValueError) as error:
            _print(f"simulate: {error}", sys.stderr)
            return 2
    _print(str(found), sys.stdout)
    if found.failure is None:
        return 0
    if options.report is not None:
        try:
            for path in found.failure.report.write(options.report):
                _print(f"wrote {path}", sys.stdout)
        except OSError as error:
            _print(f"simulate: the report cannot be written: {error}", sys.stderr)
    words = ["python", "-m", "runtime", "simulate", options.program, *_settings_words(options)]
    _print(f"repeat it: {shlex.join(words)} --replay {found.failure.token}", sys.stdout)
    return 1


def _print(text: str, stream: TextIO) -> None:
    """Print a text that may hold characters which the stream cannot encode, such as surrogates."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _settings_words(options: argparse.Namespace) -> list[str]:
    """Return the options of the run that a token does not hold, as words of a command."""
    words = []
    for name, usual in (
        ("steps", 1_000_000),
        ("environment", "control"),
        ("outside", "refuse"),
        ("starvation", None),
        ("network", None),
        ("setup", None),
    ):
        value = getattr(options, name)
        if value != usual:
            words += [f"--{name}", str(value)]
    return [*words, "--leftovers"] if options.leftovers else words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime simulate",
        description="Run a coroutine function without arguments under many schedules.",
    )
    parser.add_argument("program", metavar="FILE::FUNCTION")
    parser.add_argument("--runs", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--strategy",
        default="portfolio",
        choices=["usual", "random", "delays", "pct", "exhaustive", "reduced", "portfolio"],
    )
    parser.add_argument("--replay", metavar="TOKEN", help="make one run, with this token")
    parser.add_argument("--order", default="events", choices=["events", "tasks"])
    parser.add_argument("--lateness", type=float, default=0.01, metavar="SECONDS")
    parser.add_argument("--steps", type=int, default=1_000_000, help="budget of one run")
    parser.add_argument("--environment", default="control", choices=["control", "report", "leave"])
    parser.add_argument("--outside", default="refuse", choices=["refuse", "allow"])
    parser.add_argument("--leftovers", action="store_true", help="what main leaves is a fault")
    parser.add_argument(
        "--starvation", type=int, metavar="STEPS", help="that a ready task may wait for others"
    )
    parser.add_argument(
        "--network", metavar="CONDITIONS", help="such as latency=0:0.01,splitting=0.1"
    )
    parser.add_argument(
        "--setup",
        metavar="FUNCTION",
        help="called with the world before each run, to make hosts and plan faults: "
        "FILE::FUNCTION or MODULE:FUNCTION",
    )
    parser.add_argument("--keep", default=str(FAILURES), metavar="FOLDER", help="of failures")
    parser.add_argument(
        "--report", metavar="FOLDER", help="write a page and a Perfetto trace of the failure"
    )
    return parser

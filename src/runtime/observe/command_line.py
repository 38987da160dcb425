"""The commands ``python -m runtime ps PID`` and the like."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runtime.kernel.diagnostics.describe import shortened
from runtime.observe.answers import entries_from, format_stack, printable, task_from
from runtime.observe.client import ask
from runtime.observe.endpoint import ObserveError
from runtime.observe.printing import as_text

_COMMANDS: Final = {
    "top": "show a live view of a process",
    "ps": "list the tasks of a process",
    "tree": "show which tasks wait for which, as runtime.print_tasks() does",
    "stack": "show the stack of a task, with its source lines",
    "metrics": "show the metrics of each loop",
    "connections": "list the connections, the fullest write buffer first",
    "timers": "list the timers, the next one first",
    "cancel": "cancel a task",
}
"""The commands of ``python -m runtime COMMAND PID``, and their descriptions."""


def _heading(loop: dict[str, Any]) -> str:
    where = "not running" if loop["thread"] is None else f"running in thread {loop['thread']!r}"
    return f"{loop['name']} {where}"


_WIDEST: Final = 40
_WIDEST_LAST: Final = 80
"""Characters of a cell, and of the last one in a row, without the option ``--wide``."""

Table = list[tuple[str, ...]]
"""The rows of a table, the headings first."""


def _ps(loop: dict[str, Any]) -> Table:
    rows: Table = [("ID", "STATE", "AGE", "NAME", "COROUTINE", "WHERE")]
    for task in map(task_from, loop["tasks"]):
        age = "-" if task.age is None else f"{task.age:.1f}"
        place = task.stack[-1] if task.stack else None
        where = "" if place is None else f"{Path(place.file).name}:{place.line}"
        rows.append((f"{task.id:x}", task.state, age, task.name, task.coroutine, where))
    return rows


def _connections(loop: dict[str, Any]) -> Table:
    rows: Table = [("FD", "STATE", "UNSENT", "PEER", "LOCAL", "PROTOCOL")]
    for each in entries_from(loop["connections"]):
        columns = ("fd", "state", "unsent", "peer", "local", "protocol")
        rows.append(tuple(str(each[column]) for column in columns))
    return rows


def _timers(loop: dict[str, Any]) -> Table:
    rows: Table = [("DUE IN", "CALLBACK")]
    rows += [(f"{each['due_in']:.3f}", each["callback"]) for each in entries_from(loop["timers"])]
    return rows


def _columns(rows: Table, wide: bool) -> list[str]:
    if not wide:
        rows = [
            (*(shortened(cell, _WIDEST) for cell in row[:-1]), shortened(row[-1], _WIDEST_LAST))
            for row in rows
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _tree(loop: dict[str, Any]) -> list[str]:
    return as_text(map(task_from, loop["tasks"])).splitlines()


def _metrics(loop: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, value in loop["metrics"].items():
        if name == "coroutines":
            continue  # These follow as a table.
        if isinstance(value, dict):
            shown = f"{value['count']} times"
            if value["count"]:
                shown += "".join(
                    f", {key} {value[key] * 1e3:.3f} ms" for key in ("p50", "p99", "longest")
                )
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        lines.append(f"{name}: {shown}")
    return lines


def _coroutines(loop: dict[str, Any]) -> Table:
    """Return the rows of a table of coroutines, the one with the most CPU time first."""
    found = loop["metrics"].get("coroutines")
    if not found:
        return []
    rows: Table = [("COROUTINE", "TASKS", "STEPS", "CPU", "RUNNING", "WAITING")]
    for each in sorted(found, key=lambda one: -one["cpu"]):
        times = (f"{each[name]:.3f} s" for name in ("cpu", "running", "waiting"))
        rows.append((printable(each["name"]), str(each["tasks"]), str(each["steps"]), *times))
    return rows


_TEXTS: Final = {"metrics": _metrics, "stack": format_stack, "tree": _tree}
_TABLES: Final = {
    "connections": _connections,
    "metrics": _coroutines,
    "ps": _ps,
    "timers": _timers,
}
"""The text and the table that a command shows of each loop."""


def _lines(command: str, loop: dict[str, Any], wide: bool) -> list[str]:
    lines = _TEXTS[command](loop) if command in _TEXTS else []
    table = _TABLES[command](loop) if command in _TABLES else []
    return [*lines, *_columns(table, wide)]


def _pid(text: str) -> int:
    """Return the number of a process, for the command line."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 31:
        raise argparse.ArgumentTypeError(
            f"the number of a process is a whole number from 1 to {(1 << 31) - 1}, got {text!r}"
        )
    return number


def _interval(text: str) -> float:
    interval = float(text)
    if not 0.1 <= interval <= 3600:
        raise ValueError(f"the interval must be from 0.1 to 3600 seconds, got {text}")
    return interval


def _top(pid: int, interval: float) -> int:
    """Show the console. Its library is an extra, and needed for nothing else."""
    try:
        from runtime.observe.console import run_console
    except ModuleNotFoundError as error:
        # The library brings rich with it.
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        print(
            "runtime: top needs the library textual: pip install 'runtime-loop[observe]'",
            file=sys.stderr,
        )
        return 1
    # The library draws on stderr. From an input that has ended it would read for ever.
    if not (os.isatty(0) and os.isatty(2)):
        print("runtime: top needs a terminal: ps, tree and metrics do without", file=sys.stderr)
        return 1
    return run_console(pid, interval)


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m runtime COMMAND PID``; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in _COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("pid", type=_pid, help="the process")
        if name in ("stack", "cancel"):
            command.add_argument("task", help="the name of a task, or its ID as ps shows it")
        if name == "top":
            command.add_argument(
                "--interval", type=_interval, default=1.0, help="seconds from one view to the next"
            )
        elif name != "cancel":
            command.add_argument("--json", action="store_true", help="print the answer as JSON")
        if name in _TABLES:
            command.add_argument(
                "--wide", action="store_true", help="show long names without leaving out the middle"
            )
    options = parser.parse_args(arguments)
    name = options.command
    if name == "top":
        return _top(options.pid, options.interval)
    request = {"command": "ps" if name == "tree" else name}
    if name in ("stack", "cancel"):
        request["task"] = options.task
    try:
        answer = ask(options.pid, request)
    except ObserveError as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 1
    if name == "cancel":
        print(f"cancelled {answer['cancelled']}")
        return 0 if answer["cancelled"] else 1
    if name == "stack" and not any(loop["tasks"] for loop in answer["loops"]):
        print(f"runtime: process {options.pid} has no task {options.task!r}", file=sys.stderr)
        return 1
    if options.json:
        json.dump(answer, sys.stdout, indent=1)
        print()
        return 0
    for loop in answer["loops"]:
        print(_heading(loop))
        wide = name in _TABLES and options.wide
        print("\n".join(f"  {line}" for line in _lines(name, loop, wide)))
    return 0

"""Reports of failed runs: the schedule as a table of lanes, as a page, and as trace events."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.kernel.diagnostics.describe import safe_text
from runtime.simulation.html_report import page
from runtime.simulation.watching import RULES, Step

_MOST = 60
"""Number of steps that a table shows: the last ones, and those out of the usual order."""


@dataclass
class Report:
    """The report of a failed run: its exception, its token, and its steps.

    ``str(report)`` is a table with a line for each step, followed by ``remarks``.
    """

    error: BaseException
    token: str
    steps: list[Step]
    outside: list[str]
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.headline()} in a simulated run"
        lines = [head, f"token: {self.token}", *self.table()]
        lines += [f"outside of the simulation: {line}" for line in self.outside]
        return "\n".join([*lines, *self.remarks])

    def headline(self) -> str:
        """Return the type of the exception, and the first line of its message."""
        first = safe_text(self.error).partition("\n")[0]
        name = type(self.error).__name__
        return f"{name}: {first}" if first else name

    def table(self) -> list[str]:
        """Return the lines of the table: step, time, lane, place, and what was awaited then."""
        chosen = [step for step in self.steps[:-_MOST] if is_deviation(step)]
        chosen += self.steps[-_MOST:]
        if not chosen:
            return ["(The run ended before its first step.)"]
        rows = [("step", "time", "lane", "at", "then waits for")]
        rows += [_row(step) for step in chosen]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = []
        last = 0
        for row, step in zip(rows, [None, *chosen], strict=True):
            if step is not None:
                if step.number > last + 1 and last:
                    lines.append("  ...")
                last = step.number
            cells = [row[0].rjust(widths[0]), row[1].rjust(widths[1])]
            cells += [row[column].ljust(widths[column]) for column in range(2, 5)]
            mark = "*" if step is not None and is_deviation(step) else " "
            lines.append(f"{mark} {'  '.join(cells)}".rstrip())
            if step is not None:
                lines += [f"      {line}" for line in explanations(step)]
        return lines

    def html(self) -> str:
        """Return a page that needs no other file: the table, and the lanes as a picture."""
        return page(self.headline(), self.token, self.steps, self.outside)

    def trace_events(self) -> str:
        """Return the steps as trace events in JSON, for Perfetto and ``chrome://tracing``.

        Steps take no time on the clock of a run; here each takes a microsecond, after the time of
        the clock.
        """
        lanes: dict[tuple[str, str], int] = {}
        hosts: dict[str, int] = {}
        events: list[dict[str, Any]] = []
        for step in self.steps:
            host = hosts.setdefault(step.host, len(hosts) + 1)
            lane = lanes.setdefault((step.host, step.lane), len(lanes) + 1)
            events.append(
                {
                    "name": step.function or step.lane,
                    "cat": step.kind,
                    "ph": "X",
                    "ts": step.time * 1e6 + step.number,
                    "dur": 1,
                    "pid": host,
                    "tid": lane,
                    "args": {
                        "step": step.number,
                        "at": step.place,
                        "then waits for": step.waits,
                        "order": "; ".join(explanations(step)),
                    },
                }
            )
        names: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": number, "args": {"name": host or "program"}}
            for host, number in hosts.items()
        ]
        names += [
            {
                "name": "thread_name",
                "ph": "M",
                "pid": hosts[host],
                "tid": number,
                "args": {"name": lane},
            }
            for (host, lane), number in lanes.items()
        ]
        return json.dumps({"traceEvents": [*names, *events], "displayTimeUnit": "ms"})

    def write(self, folder: str | os.PathLike[str], name: str = "failure") -> list[Path]:
        """Write the page and the trace events into ``folder``; return the paths of both files."""
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        paths = [where / f"{name}.html", where / f"{name}.trace.json"]
        # Not the encoding of the locale: the page names its own. Names may hold half surrogates.
        paths[0].write_text(self.html(), "utf-8", "backslashreplace")
        paths[1].write_text(self.trace_events())
        return paths


def is_deviation(step: Step) -> bool:
    """Return whether a step departs from the order of the production loop."""
    return bool(step.overtaken or step.notes) or step.kind == "held"


def explanations(step: Step) -> list[str]:
    """Return for a step out of the usual order what is unusual, and why it is possible."""
    lines = []
    if step.kind == "held" and step.rule == RULES["executor"]:
        lines.append(f"takes longer than usual: {step.rule}")
    elif step.kind == "held":
        lines.append(f"is held back until nothing else is ready: {step.rule}")
    elif step.kind == "follows":
        lines.append(f"does not run yet: {step.rule}")
    elif step.overtaken:
        lines.append(f"overtakes {', '.join(step.overtaken)}: {step.rule}")
    for note in step.notes:
        if note == "cancel":
            lines.append("is cancelled here, as cancel_anywhere() allows")
        elif note == "timeout":
            lines.append("its timeout expires here, as maybe_timeout() allows")
        elif note == "late timer":
            lines.append("before it, timers run later than their deadline")
        elif note == "late event":
            lines.append(f"before it, an event is not reported yet: {RULES['event']}")
        else:
            lines.append(f"choice: {note}")
    return lines


def _row(step: Step) -> tuple[str, str, str, str, str]:
    lane = f"{step.host}: {step.lane}" if step.host else step.lane
    number = "" if step.kind in ("held", "follows") else str(step.number)
    place = f"{step.function} {step.place}".strip()
    return number, f"{step.time:g}", lane, place, step.waits

"""Summary of a run for the terminal: the first of each case, the losses, and the noise."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from bench.ranking import (
    COMPILED,
    INTERPRETED,
    Standing,
    ahead,
    first,
    is_noisy,
    noise,
    standings,
)
from bench.record import Record
from bench.titles import title

COLUMN = 12
"""Width in characters of the column for the subjects of the lines."""


def standings_of(record: Record, ours: str) -> list[Standing]:
    """Return the standings that count for a contender, by case.

    The compiled build competes with every peer. The interpreted build competes with asyncio, the
    other loop in Python.
    """
    if ours != INTERPRETED:
        return list(standings(record, ours))
    return [
        Standing(case, ours, "asyncio", factor)
        for case in record.cases.values()
        if (factor := ahead(case, ours, "asyncio")) is not None
    ]


def behind(found: Sequence[Standing]) -> list[Standing]:
    """Return the standings in which a peer is ahead, the furthest first."""
    return sorted((one for one in found if one.is_behind), key=lambda one: one.factor.median)


def firsts(record: Record) -> Counter[str]:
    """Return the number of cases in which each contender is first."""
    return Counter(filter(None, map(first, record.cases.values())))


def _line(subject: str, text: str) -> str:
    return f"  {subject:<{COLUMN}}{text}"


def _standing_lines(record: Record, ours: str) -> Iterator[str]:
    found = standings_of(record, ours)
    if not found:
        return
    others = "asyncio" if ours == INTERPRETED else "every other loop"
    lost = behind(found)
    won = f"{ours} is ahead of {others} in {len(found) - len(lost)} of {len(found)} cases"
    yield _line("", won + (f", and behind in {len(lost)}:" if lost else ""))
    width = max((len(title(one.case.name)) for one in lost), default=0) + 2
    for one in lost:
        factor = one.factor
        doubt = ", within the noise" if one.is_within_noise else ""
        yield _line(
            "",
            f"  {title(one.case.name):<{width}}{factor.median:.2f}x {one.peer} "
            f"({factor.low:.2f} to {factor.high:.2f}){doubt}",
        )


def _noise_lines(record: Record) -> Iterator[str]:
    cases = list(record.cases.values())
    if record.rounds > 1:
        usual = statistics.median(map(noise, cases))
        noisy = sorted(filter(is_noisy, cases), key=noise, reverse=True)
        names = ", ".join(f"{title(case.name)} ({noise(case):.0%})" for case in noisy[:3])
        names += f" and {len(noisy) - 3} more" if len(noisy) > 3 else ""
        yield _line(
            "noise",
            f"the quartiles are {usual:.0%} apart in half of the cases or less; "
            + (f"{len(noisy)} noisy: {names}" if noisy else "no case is noisy"),
        )
    else:
        yield _line("noise", "unknown after a single round")
    busy = sum(any(text.startswith("other proc") for text in case.warnings) for case in cases)
    if busy:
        yield _line("busy", f"other processes used the machine during {busy} of {len(cases)} cases")


def summary(record: Record) -> str:
    """Return the closing summary of a run."""
    if not record.cases:
        return "Summary: no case was measured"
    cases = f"{len(record.cases)} case{'s' if len(record.cases) > 1 else ''}"
    rounds = f"{record.rounds} round{'s' if record.rounds > 1 else ''}"
    lines = [f"Summary of {cases}, {record.python}, medians of {rounds}"]
    counted = ", ".join(f"{name} {count}" for name, count in firsts(record).most_common())
    lines.append(_line("first in", counted))
    for ours in (COMPILED, INTERPRETED):
        lines += _standing_lines(record, ours)
    lines += _noise_lines(record)
    missing = Counter(name for case in record.cases.values() for name in case.left_out)
    if missing:
        names = ", ".join(f"{name} from {count}" for name, count in missing.most_common())
        lines.append(_line("left out", f"{names} (the reasons are above)"))
    return "\n".join(lines)

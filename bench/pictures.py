"""Pictures for the README and the documentation, as SVG files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import html, markdown, svg
from bench.cases.memory import MEMORY_CASES
from bench.ranking import COMPILED, is_noisy, standing
from bench.record import Record
from bench.titles import title

SPEED = (
    *("switch", "spawn", "futures", "call_soon", "call_soon_100", "gather_100", "queue", "lock"),
    *("timers_1k", "to_thread"),
    *("echo_1k_x1", "echo_1k_x10", "echo_64k_x10", "echo_1k_x1000", "protocol_1k_x10"),
    *("protocol_1k_x1000", "tls_1k_x10", "tls_1m_x4", "sock_1k_x10", "accept_close_x10"),
    *("http_aiohttp_x10", "http_uvicorn_h11_x10", "http_uvicorn_httptools_x10"),
    *("asyncpg_select_x10", "start_import", "start_run"),
)
"""Cases of the picture of speed: a selection of each kind, including cases that are lost."""

PICTURES = {
    "speed": (SPEED, "speed", "as fast as", "right is faster"),
    "memory": (tuple(MEMORY_CASES), "memory", "less memory than", "right is smaller"),
}
"""Cases, subject, comparison and axis of each picture that compares with the baseline."""

BACKGROUND = '<rect width="100%" height="100%" fill="#ffffff"/>'
MARGIN = 12


def _note(record: Record, name: str) -> tuple[str, bool]:
    """Return the comparison with the best peer, and whether that peer is ahead."""
    found = standing(record.cases[name], COMPILED)
    if found is None:
        return "", False
    doubt = " (noise)" if found.is_behind and found.is_within_noise else ""
    return f"{found.factor.median:.2f}x {found.peer}{doubt}", found.is_behind


def factors(record: Record, names: tuple[str, ...]) -> dict[str, list[svg.Factor]]:
    """Return how many times better the compiled build is than the baseline, by subject."""
    groups: dict[str, list[svg.Factor]] = {heading: [] for heading in markdown.HEADINGS}
    for name in names:
        case = record.cases.get(name)
        if case is None or (ours := case.contenders.get(COMPILED)) is None or not ours.ratio:
            continue
        ratio = ours.ratio
        note, is_behind = _note(record, name)
        groups[markdown.subject(name)].append(
            svg.Factor(
                *(title(name), ratio.low, ratio.median, ratio.high),
                *(note, is_behind or ratio.median < 1, is_noisy(case)),
            )
        )
    return groups


def drawings(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the name and the SVG source of each picture."""
    python = record.machine["python"]
    for name, (cases, subject, comparison, direction) in PICTURES.items():
        groups = factors(record, cases)
        if any(groups.values()):
            yield (
                name,
                svg.factors(
                    f"runtime, compiled: {subject} compared with {record.baseline}",
                    f"{python}, {record.day}; {record.rounds} rounds, medians",
                    list(groups.items()),
                    f"times {comparison} {record.baseline} ({direction}; logarithmic)",
                ),
            )
    for case in record.cases.values():
        if case.name.startswith("latency_") and (plot := html.latency_curves(case, headed=True)):
            yield case.name, plot
    for what, plot in html.growth_curves(record, headed=True):
        yield f"growth of {what}".replace(",", "").replace(" ", "-"), plot


def standalone(drawing: str) -> str:
    """Return a drawing for a page that it inherits nothing from: with a background and a margin."""
    head, mark, body = drawing.partition("</title>")
    size = head.partition('viewBox="0 0 ')[2].partition('"')[0]
    width, height = map(float, size.split())
    wide, high = width + 2 * MARGIN, height + 2 * MARGIN
    head = head.replace(f"0 0 {size}", f"{-MARGIN} {-MARGIN} {wide:g} {high:g}")
    head = head.replace(
        f'width="{width:g}" height="{height:g}"', f'width="{wide:g}" height="{high:g}"'
    )
    background = BACKGROUND.replace("<rect", f'<rect x="{-MARGIN}" y="{-MARGIN}"')
    return f"{head}{mark}{background}{body}".replace("currentColor", "#333333")


def write(folder: Path, record: Record) -> list[Path]:
    """Write the pictures into a folder, which is created; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawing in drawings(record):
        written.append(folder / f"{name}.svg")
        written[-1].write_text(standalone(drawing) + "\n")
    return written

"""Pictures for the README and the documentation: SVG files, and PNG files with matplotlib."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import html, svg
from bench.record import Record

OVERVIEW = (
    *("switch", "spawn", "call_soon", "queue", "timers_1k", "to_thread"),
    *("echo_1k_x10", "echo_64k_x10", "echo_1k_x1000", "protocol_1k_x10", "protocol_1k_x1000"),
    *("tls_1k_x10", "sock_1k_x10", "accept_close_x10", "http_aiohttp_x10", "asyncpg_select_x10"),
    *("start_run", "memory_task", "memory_protocol"),
)
"""Cases of the overview: a selection of each kind, including the cases that are lost."""


def overview(record: Record) -> list[tuple[str, float]]:
    """Return how many times better the compiled build is than the baseline, by case."""
    return [
        (name, ratio.median)
        for name in OVERVIEW
        if name in record.cases
        and (one := record.cases[name].contenders.get("runtime-compiled")) is not None
        and (ratio := one.ratio) is not None
    ]


def drawings(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the name and the SVG source of each picture."""
    if factors := overview(record):
        rows = [svg.Bar(name, value, value, value, f"{value:.2f}x") for name, value in factors]
        yield "overview", svg.bars(f"Times better than {record.baseline}, {record.day}", rows)
    for case in record.cases.values():
        if case.name.startswith("latency_"):
            yield case.name, html.latency_curves(case)
    for what, plot in html.growth_curves(record):
        yield f"growth of {what}".replace(",", "").replace(" ", "-"), plot


def write(folder: Path, record: Record) -> list[Path]:
    """Write the pictures into a folder, which is created; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawing in drawings(record):
        written.append(folder / f"{name}.svg")
        # A picture outside a page has no text colour to inherit.
        written[-1].write_text(drawing.replace("currentColor", "#333"))
    return [*written, *_write_png(folder, record)]


def _write_png(folder: Path, record: Record) -> Iterator[Path]:
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("agg")
        plot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return
    if factors := overview(record):
        figure, axes = plot.subplots(figsize=(8, 0.35 * len(factors) + 1))
        names, values = zip(*reversed(factors), strict=True)
        bars = axes.barh(names, values, color=svg.colour("runtime-compiled"))
        axes.bar_label(bars, fmt="%.2fx", padding=3)
        axes.margins(x=0.12)  # room for the labels
        axes.axvline(1, color="#888", linewidth=1)
        axes.set_title(f"runtime, compiled: times better than {record.baseline}, {record.day}")
        yield _saved(plot, figure, folder / "overview.png")
    for what in dict.fromkeys(fit.what for fit in record.growth):
        figure, axes = plot.subplots(figsize=(8, 4))
        for fit in record.growth:
            if fit.what == what:
                label = f"{fit.contender}, n^{fit.exponent:.2f}"
                axes.loglog(*zip(*fit.costs, strict=True), label=label)
        axes.set(xlabel=what, ylabel="seconds for an operation")
        axes.legend(fontsize="small")
        name = f"growth of {what}".replace(",", "").replace(" ", "-")
        yield _saved(plot, figure, folder / f"{name}.png")


def _saved(plot: Any, figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plot.close(figure)
    return path

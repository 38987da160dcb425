"""Recordings as files: a trace for Perfetto and Chrome, and a page for any browser."""

from __future__ import annotations

import html
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from runtime.kernel.arguments.kinds import instance_of
from runtime.kernel.diagnostics.describe import shortened
from runtime.kernel.diagnostics.recorder import RecordedEvent, Recording
from runtime.observe.printing import check_signal

_logger: Final = logging.getLogger("asyncio")


@dataclass(frozen=True, slots=True, eq=False)
class _Lane:
    """A row of the picture. Several tasks may have the same name, and have a lane each."""

    name: str


_LOOP: Final = _Lane("event loop")
_CALLBACKS: Final = _Lane("callbacks")
_COLLECTOR: Final = _Lane("garbage collector")


@dataclass(frozen=True, slots=True)
class _Slice:
    """A bar in a lane: a step, a call, a poll or a collection. Times are in seconds."""

    lane: _Lane
    name: str
    begin: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class _Wake:
    """An arrow from the slice that queued an entry to the slice in which the entry ran."""

    source: _Lane
    when: float
    lane: _Lane
    then: float


@dataclass(frozen=True, slots=True)
class _Picture:
    """The lanes in the order in which they are shown, their slices, and the wake-ups."""

    lanes: list[_Lane]
    slices: list[_Slice]
    wakes: list[_Wake]
    # The lane of each task that has ended, and its last event.
    ends: list[tuple[_Lane, RecordedEvent]]
    # The lane and the time of each timer that was cancelled.
    cancelled: list[tuple[_Lane, float]]
    counts: list[RecordedEvent]


def _picture_of(events: list[RecordedEvent]) -> _Picture:
    """Find the slices and the wake-ups of a recording.

    A slice ends with the next one, because the loop does one thing at a time. Only the collections
    of the garbage collector are inside others.
    """
    picture = _Picture([_LOOP, _CALLBACKS, _COLLECTOR], [], [], [], [], [])
    # The lanes of the tasks that have not ended: a later task may have the address of one that has.
    of_tasks: dict[tuple[int, str], _Lane] = {}
    current: _Slice | None = None
    collection: RecordedEvent | None = None
    woken: dict[int, tuple[_Lane | None, float]] = {}
    for event in events:
        if event.kind in ("step", "call", "poll", "turn"):
            if current is not None:
                picture.slices.append(_ended(current, event.time))
            current = None
            if event.kind == "step":
                lane = of_tasks.get((event.subject, event.name))
                if lane is None:
                    lane = of_tasks[event.subject, event.name] = _Lane(event.name)
                    picture.lanes.append(lane)
                current = _Slice(lane, event.text, event.time, event.time, "")
            elif event.kind == "call":
                current = _Slice(_CALLBACKS, event.text, event.time, event.time, "")
            elif event.kind == "poll":
                current = _Slice(_LOOP, "poll", event.time, event.time, "")
            if current is not None:
                source, when = woken.pop(event.subject, (None, 0.0))
                if source is not None and event.kind in ("step", "call"):
                    picture.wakes.append(_Wake(source, when, current.lane, event.time))
        elif event.kind in ("wake", "timer"):
            # Viewers draw no arrow from outside of a slice, such as from before the first turn.
            woken[event.subject] = (None if current is None else current.lane, event.time)
        elif event.kind == "ended":
            lane = of_tasks.pop((event.subject, event.name), None)
            if lane is not None:
                picture.ends.append((lane, event))
        elif event.kind == "timer cancelled":
            picture.cancelled.append((_LOOP if current is None else current.lane, event.time))
        elif event.kind == "collection":
            collection = event
        elif event.kind == "collected" and collection is not None:
            name = f"generation {event.number}"
            picture.slices.append(_Slice(_COLLECTOR, name, collection.time, event.time, ""))
            collection = None
        if event.kind in ("turn", "connections"):
            picture.counts.append(event)
    if current is not None and events:
        picture.slices.append(_ended(current, events[-1].time))
    return picture


def _ended(slice_: _Slice, end: float) -> _Slice:
    return _Slice(slice_.lane, slice_.name, slice_.begin, end, slice_.text)


def chrome_trace(recording: Recording) -> dict[str, Any]:
    """Return a recording in the format of Chrome's trace viewer, for ``json.dump``.

    Each task has a lane of its own, with its steps; arrows lead from the code that woke a task to
    the step that followed. https://ui.perfetto.dev opens such a file, without sending it anywhere.
    Raises TypeError for an object that is not a recording.
    """
    _check_recording(recording, "chrome_trace")
    return {
        "traceEvents": list(_trace_events(_picture_of(recording.events()))),
        "displayTimeUnit": "ms",
    }


def _check_recording(recording: object, caller: str) -> None:
    instance_of(Recording, recording, caller, "a recording, as loop.record() returns it")


def _trace_events(picture: _Picture) -> Iterator[dict[str, Any]]:
    pid = os.getpid()
    tid = {lane: number for number, lane in enumerate(picture.lanes, 1)}
    yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": "runtime"}}
    for lane, number in tid.items():
        yield {
            "ph": "M",
            "pid": pid,
            "tid": number,
            "name": "thread_name",
            "args": {"name": lane.name},
        }
        yield {
            "ph": "M",
            "pid": pid,
            "tid": number,
            "name": "thread_sort_index",
            "args": {"sort_index": number},
        }
    for each in picture.slices:
        yield {
            "ph": "X",
            "pid": pid,
            "tid": tid[each.lane],
            "name": each.name,
            "cat": "loop" if each.lane == _LOOP else "program",
            "ts": each.begin * 1e6,
            "dur": (each.end - each.begin) * 1e6,
        }
    for number, wake in enumerate(picture.wakes, 1):
        common = {"pid": pid, "cat": "wake", "name": "wake", "id": number}
        yield {**common, "ph": "s", "tid": tid[wake.source], "ts": wake.when * 1e6}
        yield {**common, "ph": "f", "bp": "e", "tid": tid[wake.lane], "ts": wake.then * 1e6}
    moments = [(lane, event.text or "ended", event.time) for lane, event in picture.ends]
    moments += [(lane, "timer cancelled", when) for lane, when in picture.cancelled]
    for lane, name, when in moments:
        yield {"ph": "i", "s": "t", "pid": pid, "tid": tid[lane], "name": name, "ts": when * 1e6}
    for event in picture.counts:
        name = "ready" if event.kind == "turn" else "connections"
        yield {
            "ph": "C",
            "pid": pid,
            "name": name,
            "ts": event.time * 1e6,
            "args": {name: event.number},
        }


# -- A page ----------------------------------------------------------------------------------------

_MOST_SLICES: Final = 20_000
_MOST_LANES: Final = 200
_ROW: Final = 22
_WIDTH: Final = 1600
_LABELS: Final = 260

_STYLE: Final = """
body { font: 13px system-ui, sans-serif; margin: 16px; color: #222; background: #fff }
svg { border: 1px solid #ddd } text { font-size: 12px } .lane { fill: #f6f6f6 }
.step { fill: #3b7dd8 } .call { fill: #8a5cc2 } .poll { fill: #cfd8dc } .gc { fill: #d9534f }
.wake { stroke: #e39b1f; stroke-width: 1; opacity: 0.6 } rect:hover { stroke: #000 }
.key span { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0 16px }
"""


def trace_page(recording: Recording) -> str:
    """Return a recording as an HTML page with a picture, which needs no other file and no network.

    It shows a lane for each of up to 200 tasks, those with the most running time. The name and the
    duration of a bar appear when the mouse is over it. Raises TypeError for an object that is not a
    recording.
    """
    _check_recording(recording, "trace_page")
    picture = _picture_of(recording.events())
    busiest = dict.fromkeys(picture.lanes, 0.0)
    for each in picture.slices:
        busiest[each.lane] += each.end - each.begin
    chosen = {*picture.lanes[:3], *sorted(busiest, key=lambda lane: -busiest[lane])[:_MOST_LANES]}
    lanes = [lane for lane in picture.lanes if lane in chosen]
    slices = [each for each in picture.slices if each.lane in chosen][-_MOST_SLICES:]
    begin = min((each.begin for each in slices), default=0.0)
    end = max((each.end for each in slices), default=1.0)
    rows = {lane: number for number, lane in enumerate(lanes)}
    scale = (_WIDTH - _LABELS) / max(end - begin, 1e-9)
    parts = [
        f'<rect class="lane" x="0" y="{row * _ROW + 2}" width="{_WIDTH}" height="{_ROW - 4}"/>'
        f'<text x="4" y="{row * _ROW + 16}">{html.escape(shortened(lane.name, 40))}</text>'
        for lane, row in rows.items()
    ]
    for each in slices:
        x = _LABELS + (each.begin - begin) * scale
        width = max((each.end - each.begin) * scale, 0.5)
        title = html.escape(f"{each.name}: {(each.end - each.begin) * 1e3:.3f} ms")
        kind = {_LOOP: "poll", _CALLBACKS: "call", _COLLECTOR: "gc"}.get(each.lane, "step")
        parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{rows[each.lane] * _ROW + 4}" '
            f'width="{width:.2f}" height="{_ROW - 8}"><title>{title}</title></rect>'
        )
    for wake in picture.wakes[-_MOST_SLICES // 4 :]:
        if wake.source in rows and wake.lane in rows and wake.when >= begin:
            ends = ((wake.when, wake.source), (wake.then, wake.lane))
            (x1, y1), (x2, y2) = (
                (_LABELS + (when - begin) * scale, rows[lane] * _ROW + _ROW // 2)
                for when, lane in ends
            )
            parts.append(
                f'<line class="wake" x1="{x1:.2f}" y1="{y1}" x2="{x2:.2f}" y2="{y2}"></line>'
            )
    summary = (
        f"{(end - begin) * 1e3:.1f} ms, {len(slices)} steps, calls and polls, "
        f"{len(lanes) - 3} tasks of {len(picture.lanes) - 3}"
    )
    key = "".join(
        f'<span class="{kind}" style="background: {color}"></span>{name}'
        for kind, color, name in (
            ("step", "#3b7dd8", "step of a task"),
            ("call", "#8a5cc2", "callback"),
            ("poll", "#cfd8dc", "waiting for events"),
            ("gc", "#d9534f", "garbage collector"),
            ("wake", "#e39b1f", "wake-up"),
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Recording of an event loop</title><style>{_STYLE}</style></head><body>\n"
        f'<h1>Recording of an event loop</h1>\n<p>{summary}</p>\n<p class="key">{key}</p>\n'
        f'<svg width="{_WIDTH}" height="{len(lanes) * _ROW}">\n' + "\n".join(parts) + "\n</svg>\n"
        "</body></html>\n"
    )


def write_trace(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write a recording to a file: a page if ``path`` ends with ``.html``, else a trace in JSON.

    The file appears under its name when it is complete. Raises TypeError for an argument of another
    type, and OSError if the file cannot be written.
    """
    _check_recording(recording, "write_trace")
    target = Path(path)
    if target.suffix == ".html":
        text = trace_page(recording)
    else:
        text = json.dumps(chrome_trace(recording))
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # Not the encoding of the locale: the page names its own. Names may hold half surrogates.
        partial.write_text(text, "utf-8", "backslashreplace")
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def save_recordings(
    recording: Recording, folder: str | os.PathLike[str], *, on_signal: int | None = None
) -> None:
    """Have a recording written to ``folder``, as a trace in JSON, when something goes wrong.

    That is when an exception leaves the run of the loop, such as a ``DeadlockError``; when the
    watch of ``Loop.watch_slow_callbacks`` finds the loop stuck, at most once in 10 seconds; and
    when the process gets the signal ``on_signal``. The names of the files tell the reason and the
    time. If a file cannot be written, the logger ``asyncio`` says so. Raises ValueError if
    ``on_signal`` is given in another thread than the main thread, and TypeError for an argument of
    another type.
    """
    _check_recording(recording, "save_recordings")
    if on_signal is not None:
        check_signal(on_signal, "save_recordings")
    where = Path(folder)
    last = -_PAUSE

    def save(reason: str) -> None:
        nonlocal last
        now = time.monotonic()
        if reason == "stall" and now - last < _PAUSE:
            return
        last = now
        stamp = time.strftime("%Y%m%d-%H%M%S")
        try:
            where.mkdir(parents=True, exist_ok=True)
            write_trace(recording, where / f"{stamp}-{os.getpid()}-{reason}.json")
        except OSError as error:
            # The exception of the program must not be replaced, and the watch must continue.
            _logger.error("The recording for %s cannot be saved in %s: %s", reason, where, error)

    def on(number: int, frame: FrameType | None) -> None:
        save(signal.Signals(number).name)

    if on_signal is not None:
        signal.signal(on_signal, on)
    recording.on_dump(save)


_PAUSE: Final = 10.0
"""Seconds between two files about stalls."""

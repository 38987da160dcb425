"""Arguments of a wrong type are refused at the call, with a message that says what is expected."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import observe


@pytest.fixture(autouse=True)
def _no_collector_watch() -> Iterator[None]:
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before


def metrics() -> observe.LoopMetrics:
    loop = runtime.new_event_loop()
    try:
        return loop.metrics()
    finally:
        loop.close()


def recording() -> observe.Recording:
    loop = runtime.new_event_loop()
    try:
        return loop.record()
    finally:
        loop.close()


LOOP = r"\(\) expected a loop of runtime or None, got 3"
RECORDING = r"\(\) expected a recording, as loop.record\(\) returns it, got 3"
FILE = r"\(\) expected a text file or None, got 3"
SIGNAL = r"\(\) expected the number of a signal, such as signal.SIGUSR1, got 'SIGUSR1'"
CALLABLE = r"\(\) expected a callable object or None, got 3"

WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "tasks": (observe.tasks, "tasks" + LOOP),
    "tasks(pause)": (lambda wrong: observe.tasks(None, pause=wrong), "tasks" + CALLABLE),
    "connections": (observe.connections, "connections" + LOOP),
    "timers": (observe.timers, "timers" + LOOP),
    "timers(pause)": (lambda wrong: observe.timers(None, pause=wrong), "timers" + CALLABLE),
    "blocked": (observe.blocked, "blocked" + LOOP),
    "format_tasks": (observe.format_tasks, "format_tasks" + LOOP),
    "print_tasks": (observe.print_tasks, "print_tasks" + LOOP),
    "print_tasks(file)": (lambda wrong: observe.print_tasks(file=wrong), "print_tasks" + FILE),
    "print_tasks_on": (lambda _: observe.print_tasks_on("SIGUSR1"), "print_tasks_on" + SIGNAL),  # type: ignore[arg-type]
    "print_tasks_on(file)": (
        lambda wrong: observe.print_tasks_on(signal.SIGTERM, file=wrong),
        "print_tasks_on" + FILE,
    ),
    "chrome_trace": (observe.chrome_trace, "chrome_trace" + RECORDING),
    "trace_page": (observe.trace_page, "trace_page" + RECORDING),
    "write_trace": (lambda wrong: observe.write_trace(wrong, "x"), "write_trace" + RECORDING),
    "write_trace(path)": (lambda wrong: observe.write_trace(recording(), wrong), "int"),
    "save_recordings": (
        lambda wrong: observe.save_recordings(wrong, "x"),
        "save_recordings" + RECORDING,
    ),
    "save_recordings(folder)": (lambda wrong: observe.save_recordings(recording(), wrong), "int"),
    "save_recordings(on_signal)": (
        lambda _: observe.save_recordings(recording(), "x", on_signal="SIGUSR1"),  # type: ignore[arg-type]
        "save_recordings" + SIGNAL,
    ),
    "Recording.on_dump": (lambda wrong: recording().on_dump(wrong), "on_dump" + CALLABLE),
    "LoopMetrics.since": (
        lambda wrong: metrics().since(wrong),
        r"since\(\) expected a LoopMetrics object, as metrics\(\) returns it, got 3",
    ),
    "CollectorMetrics.since": (
        lambda wrong: metrics().collector.since(wrong),
        r"since\(\) expected a CollectorMetrics object, got 3",
    ),
    "CoroutineMetrics.since": (
        lambda wrong: observe.CoroutineMetrics("a", 1, 1, 0.0, 0.0, 0.0).since(wrong),
        r"since\(\) expected a CoroutineMetrics object, got 3",
    ),
    "Histogram.of": (observe.Histogram.of, r"of\(\) expected numbers of seconds, got 3"),
    "Histogram.of(durations)": (
        lambda _: observe.Histogram.of(["3"]),  # type: ignore[list-item]
        r"of\(\) expected numbers of seconds, got '3'",
    ),
    "Histogram.merge": (
        lambda wrong: observe.Histogram.of([]).merge(wrong),
        r"merge\(\) expected a Histogram, got 3",
    ),
    "Histogram.since": (
        lambda wrong: observe.Histogram.of([]).since(wrong),
        r"since\(\) expected a Histogram, got 3",
    ),
    "Histogram.quantile": (
        lambda _: observe.Histogram.of([]).quantile("half"),  # type: ignore[arg-type]
        r"quantile\(\) expected a number from 0 to 1, got 'half'",
    ),
    "LogContext": (
        lambda wrong: observe.LogContext(request=wrong),
        r"request must be a contextvars.ContextVar, got 3",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_type_is_refused_at_the_call(call: Callable[[Any], object], message: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TypeError, match=message):
        call(3)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loop_of_asyncio_cannot_be_observed() -> None:
    loop: Any = asyncio.SelectorEventLoop()
    try:
        for function in (observe.tasks, observe.connections, observe.timers, observe.blocked):
            with pytest.raises(TypeError, match="expected a loop of runtime or None, got <_Unix"):
                function(loop)
    finally:
        loop.close()


def test_the_exporters_need_an_object_of_their_library_and_loops_by_name() -> None:
    pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.metrics")
    wrong: Any = 3
    with pytest.raises(TypeError, match="expected a CollectorRegistry of prometheus_client"):
        observe.export_to_prometheus(wrong, {})
    with pytest.raises(TypeError, match="expected a Meter of opentelemetry.metrics"):
        observe.export_to_opentelemetry(wrong, {})
    with pytest.raises(TypeError, match="loops must map names to loops of runtime, got 3"):
        observe.export_to_prometheus(None, wrong)


def test_numbers_of_other_types_are_durations_too() -> None:
    found = observe.Histogram.of(iter([True, 2, 0.5]))
    assert (found.count, found.longest) == (3, 2.0)
    assert not Path("x").exists()

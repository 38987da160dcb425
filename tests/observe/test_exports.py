"""Metrics for Prometheus and OpenTelemetry, read with their own libraries."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

import runtime
from runtime.kernel.native.buckets import BOUNDS
from runtime.observe import (
    Histogram,
    LoopMetrics,
    export_to_opentelemetry,
    export_to_prometheus,
    instruments,
)
from tests.support.programs import ROOT, run_program

# The libraries import it. Its first import may open a descriptor for good, not by fault of a test.
_ctypes = pytest.importorskip("ctypes")

EXAMPLE = ROOT / "docs" / "examples" / "metrics_server.py"


async def work() -> None:
    """Create 5 tasks, of which one is cancelled and one fails, and wait for events."""

    async def fail() -> None:
        raise ValueError("of the test")

    tasks = [runtime.create_task(runtime.sleep(0)) for _ in range(3)]
    tasks += [runtime.create_task(fail()), runtime.create_task(runtime.sleep_forever())]
    await runtime.sleep(0.01)
    tasks[-1].cancel()
    await runtime.wait(tasks)
    assert isinstance(tasks[-2].exception(), ValueError)


def scraped(registry: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples of a scrape, by name and labels, read back by the library's parser."""
    client = pytest.importorskip("prometheus_client")
    parser = pytest.importorskip("prometheus_client.parser")
    text = client.generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def label(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset({"runtime_eventloop_name": "main", **labels}.items())


# -- Prometheus ------------------------------------------------------------------------------------


async def test_a_scrape_has_the_metrics_of_the_loop() -> None:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    collector = export_to_prometheus(registry)
    before = scraped(registry)
    await work()
    await runtime.sleep(0.06)
    samples = await runtime.to_thread(scraped, registry)
    now = runtime.get_running_loop().metrics()

    def change(name: str, **labels: str) -> float:
        return samples[name, label(**labels)] - before[name, label(**labels)]

    assert change("runtime_task_created_total") == 5
    assert change("runtime_task_ended_total", runtime_task_outcome="cancelled") == 1
    assert change("runtime_task_ended_total", runtime_task_outcome="failed") == 1
    assert change("runtime_task_ended_total", runtime_task_outcome="completed") == 3
    assert change("runtime_eventloop_time_seconds_total", runtime_eventloop_state="idle") > 0.05
    assert samples["runtime_task_active", label()] >= 1
    count = samples["runtime_eventloop_delay_seconds_count", label()]
    assert 0 < count <= now.lag.count
    assert samples["runtime_eventloop_delay_seconds_bucket", label(le="+Inf")] == count
    buckets = [
        (float(dict(labels)["le"]), value)
        for (name, labels), value in samples.items()
        if name == "runtime_eventloop_delay_seconds_bucket"
    ]
    buckets.sort()
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert len(buckets) > 15
    assert "cpython_gc_collections_total" in {name for name, _ in samples}
    registry.unregister(collector)
    assert scraped(registry) == {}


async def test_several_loops_have_names_and_closed_ones_are_left_out() -> None:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    other = runtime.new_event_loop()
    loops = {"main": runtime.get_running_loop(), "other": other}
    export_to_prometheus(registry, loops)

    def names() -> set[str]:
        return {dict(labels).get("runtime_eventloop_name", "") for _, labels in scraped(registry)}

    assert names() == {"main", "other", ""}
    other.close()
    assert names() == {"main", ""}


async def test_a_name_with_half_a_surrogate_does_not_end_the_scrape() -> None:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    export_to_prometheus(registry, {"half \udc80": runtime.get_running_loop()})
    assert b"half \\\\udc80" in client.generate_latest(registry)


def test_the_example_scrapes_itself() -> None:
    pytest.importorskip("prometheus_client")
    done = run_program(EXAMPLE)
    assert done.returncode == 0, done.stderr
    assert 'runtime_connection_accepted_total{runtime_eventloop_name="main"} 1.0\n' in done.stdout


# -- OpenTelemetry ---------------------------------------------------------------------------------


def collected(reader: Any) -> dict[str, list[Any]]:
    """Return the points of a collection by the name of the metric."""
    data = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def test_a_collection_has_the_metrics_of_the_loop() -> None:
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    reader = export.InMemoryMetricReader()
    provider = metrics.MeterProvider([reader], shutdown_on_exit=False)
    export_to_opentelemetry(provider.get_meter("test"))
    first = collected(reader)
    assert first.keys() == {
        each.name
        for each in (
            *instruments.OF_LOOPS,
            *instruments.OF_INTERVALS,
            *instruments.OF_PROCESS,
        )
    }
    await work()
    await runtime.sleep(0.06)
    points = await runtime.to_thread(collected, reader)
    (created,) = points["runtime.task.created"]
    assert created.value - first["runtime.task.created"][0].value == 5
    assert created.attributes == {"runtime.eventloop.name": "main"}
    states = {
        point.attributes["runtime.eventloop.state"] for point in points["runtime.eventloop.time"]
    }
    assert states == {"active", "idle"}
    (utilization,) = points["runtime.eventloop.utilization"]
    assert 0 <= utilization.value < 1
    (p50,), (longest,) = (points[f"runtime.eventloop.delay.{name}"] for name in ("p50", "max"))
    assert 0 < p50.value <= longest.value
    provider.shutdown()


def test_the_names_are_those_of_the_semantic_conventions() -> None:
    convention = pytest.importorskip("opentelemetry.semconv._incubating.metrics.cpython_metrics")
    attributes = pytest.importorskip(
        "opentelemetry.semconv._incubating.attributes.cpython_attributes"
    )
    network = pytest.importorskip("opentelemetry.semconv._incubating.attributes.network_attributes")
    names = {each.name for each in instruments.OF_PROCESS}
    assert convention.CPYTHON_GC_COLLECTIONS in names
    assert convention.CPYTHON_GC_COLLECTED_OBJECTS in names
    (first, *_) = instruments.OF_PROCESS[0].values(None)
    assert first[0] == {attributes.CPYTHON_GC_GENERATION: 0}
    (traffic,) = [each for each in instruments.OF_LOOPS if each.name.endswith(".io")]
    values = [attribute for attribute, _ in traffic.values(empty())]
    assert values == [
        {network.NETWORK_IO_DIRECTION: value.value}
        for value in (
            network.NetworkIoDirectionValues.RECEIVE,
            network.NetworkIoDirectionValues.TRANSMIT,
        )
    ]


# -- Without the libraries -------------------------------------------------------------------------


def empty() -> LoopMetrics:
    loop = runtime.new_event_loop()
    try:
        return loop.metrics()
    finally:
        loop.close()


def test_every_instrument_reads_a_snapshot() -> None:
    of_loops = *instruments.OF_LOOPS, *instruments.OF_COROUTINES, *instruments.OF_INTERVALS
    names = set()
    for each in of_loops:
        assert all(value == 0 for _, value in each.values(empty())), each.name
        names.add(each.name)
    for each in instruments.OF_PROCESS:
        assert len(each.values(None)) == 3
        names.add(each.name)
    assert len(names) == len(of_loops) + len(instruments.OF_PROCESS)
    assert all(re.fullmatch(r"[a-z_.0-9]+", name) for name in names)


def test_a_coarse_histogram_counts_what_is_below_its_bounds() -> None:
    found = Histogram.of([1e-6, 1e-4, 1e-4, 0.5, 1e9])
    bounds = tuple(bound for bound in BOUNDS[::8] if 1e-5 < bound < 60)
    buckets = instruments.cumulative(found, bounds)
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert buckets[0][1] == 1
    assert buckets[-1][1] == 4
    assert next(bound for bound, count in buckets if count == 3) == pytest.approx(1e-4, rel=1)


def test_they_need_a_loop_and_reject_anything_else() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        instruments.Readings(None)
    with pytest.raises(TypeError, match="loops must map names to loops of runtime, got 'a': 3"):
        instruments.Readings({"a": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("call", "library"),
    [
        ("export_to_prometheus()", "prometheus_client"),
        ("export_to_opentelemetry(None)", "opentelemetry"),
    ],
)
def test_without_its_library_an_export_says_what_to_install(call: str, library: str) -> None:
    code = (
        "import sys, runtime\n"
        f"sys.modules[{library!r}] = None\n"
        "try:\n"
        f"    runtime.observe.{call}\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = run_program("-c", code)
    assert f"needs the library {library}: pip install 'runtime-loop[" in done.stdout, done.stderr


async def test_readings_at_once_are_one_snapshot() -> None:
    readings = instruments.Readings(None)
    ((name, first, _),) = readings.current(shared=True)
    ((_, again, _),) = readings.current(shared=True)
    assert name == "main"
    assert again is first
    await runtime.to_thread(threading.Event().wait, 0.06)
    ((_, later, change),) = readings.current(shared=True)
    assert later is not first
    assert change.tasks_created == later.tasks_created - first.tasks_created
    ((_, last, _),) = readings.current()
    assert last is not later

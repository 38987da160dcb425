"""``Loop.measure_coroutines``: steps, CPU time and waits by the names of coroutines."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any

import pytest

import runtime
from runtime.kernel.diagnostics import coroutine_meter
from runtime.observe import CoroutineMetrics, export_to_opentelemetry, export_to_prometheus, listen


async def busy() -> None:
    until_cpu = time.thread_time() + 0.01
    while time.thread_time() < until_cpu:
        pass
    await runtime.sleep(0)


async def blocked() -> None:
    time.sleep(0.02)
    await runtime.sleep(0)


async def patient() -> None:
    await runtime.sleep(0.02)
    await runtime.sleep(0.02)


def measured() -> dict[str, CoroutineMetrics]:
    return {each.name: each for each in runtime.get_running_loop().metrics().coroutines}


async def measure() -> runtime.Loop:
    loop = runtime.get_running_loop()
    assert isinstance(loop, runtime.Loop)
    loop.measure_coroutines()
    await runtime.sleep(0)
    return loop


@pytest.mark.parametrize("debug", [False, True])
async def test_steps_and_times_are_measured_by_name(debug: bool) -> None:
    loop = await measure()
    loop.set_debug(debug)
    loop.slow_callback_duration = 10.0
    await runtime.sleep(0)
    await runtime.gather(busy(), busy(), blocked(), patient())
    found = measured()
    assert (found["busy"].tasks, found["busy"].steps) == (2, 4)
    assert (found["patient"].tasks, found["patient"].steps) == (1, 3)
    assert found["busy"].cpu >= 0.02
    assert found["busy"].running >= found["busy"].cpu * 0.9
    assert found["blocked"].running >= 0.02
    assert found["blocked"].cpu < found["blocked"].running
    assert found["patient"].waiting >= 0.03
    assert found["patient"].running < found["patient"].waiting
    loop.measure_coroutines(False)
    await runtime.sleep(0)
    loop.set_debug(False)


async def test_nothing_is_measured_by_default_or_when_it_was_turned_off() -> None:
    loop = runtime.get_running_loop()
    await runtime.gather(busy())
    assert loop.metrics().coroutines == ()
    await measure()
    await runtime.gather(busy())
    waiting = runtime.create_task(runtime.sleep_forever())
    await runtime.sleep(0.01)
    loop.measure_coroutines(False)
    before = measured()
    assert before["busy"].steps == 2
    assert before["sleep_forever"].waiting > 0.005
    await runtime.gather(busy())
    for name in ("busy", "sleep_forever"):
        assert measured()[name] == before[name]
    loop.measure_coroutines()
    await runtime.gather(busy())
    assert measured()["busy"].steps == 4
    waiting.cancel()
    await runtime.wait([waiting])
    assert measured()["sleep_forever"].tasks == 2


async def test_the_wait_of_a_task_that_still_waits_counts() -> None:
    await measure()
    waiting = runtime.create_task(runtime.sleep_forever(), name="waiting")
    await runtime.sleep(0.01)
    first = measured()["sleep_forever"].waiting
    await runtime.sleep(0.01)
    assert first < measured()["sleep_forever"].waiting
    waiting.cancel()
    await runtime.wait([waiting])
    last = measured()["sleep_forever"]
    assert (last.tasks, last.steps) == (1, 2)
    await runtime.sleep(0.001)
    assert measured()["sleep_forever"].waiting == last.waiting


async def test_an_interval_has_the_changes() -> None:
    loop = await measure()
    await runtime.gather(busy(), patient())
    before = loop.metrics()
    await runtime.gather(busy(), blocked())
    change = {each.name: each for each in loop.metrics().since(before).coroutines}
    assert (change["busy"].tasks, change["busy"].steps) == (1, 2)
    assert (change["patient"].tasks, change["patient"].steps) == (0, 0)
    assert (change["blocked"].tasks, change["blocked"].steps) == (1, 2)
    assert change["busy"].cpu >= 0.01


async def test_steps_that_a_future_of_asyncio_resumes_are_measured() -> None:
    loop = await measure()

    async def wait_for(future: Any) -> None:
        await future

    future: Any = asyncio.Future(loop=loop)
    waiting = runtime.create_task(wait_for(future))
    await runtime.sleep(0)
    future.set_result(None)
    await waiting
    (found,) = [each for name, each in measured().items() if name.endswith(".wait_for")]
    assert (found.tasks, found.steps) == (1, 2)


async def test_a_recording_and_a_measurement_go_together() -> None:
    loop = await measure()
    recording = loop.record()
    await runtime.sleep(0)
    await runtime.create_task(busy(), name="busy")
    recording.stop()
    assert measured()["busy"].steps == 2
    steps = [event for event in recording.events() if event.kind == "step"]
    assert [event.name for event in steps].count("busy") == 2


async def test_a_task_that_fails_is_measured_and_keeps_its_exception() -> None:
    await measure()

    async def fail() -> None:
        raise ValueError("of the test")

    task = runtime.create_task(fail())
    await runtime.wait([task])
    assert isinstance(task.exception(), ValueError)
    (found,) = [each for name, each in measured().items() if name.endswith(".fail")]
    assert found.steps == 1


async def test_the_number_of_names_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coroutine_meter, "_MOST_NAMES", 3)
    await measure()
    for number in range(10):
        coro: Any = busy()
        coro.__qualname__ = f"busy {number}"
        await runtime.create_task(coro)
    found = measured()
    assert len(found) <= 4
    assert found[coroutine_meter.OTHERS].tasks >= 7


# -- Shown by other programs -----------------------------------------------------------------------


async def test_prometheus_gets_them_with_the_name_as_a_label() -> None:
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    collector = export_to_prometheus(registry)
    assert "runtime_coroutine" not in client.generate_latest(registry).decode()
    await measure()
    await runtime.gather(busy(), busy())
    text = client.generate_latest(registry).decode()
    labels = '{code_function_name="busy",runtime_eventloop_name="main"}'
    assert f"runtime_coroutine_steps_total{labels} 4.0" in text
    assert f"runtime_coroutine_cpu_time_seconds_total{labels} 0." in text
    assert f"runtime_coroutine_waiting_time_seconds_total{labels} " in text
    registry.unregister(collector)


async def test_opentelemetry_gets_them_with_the_name_as_an_attribute() -> None:
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    reader = export.InMemoryMetricReader()
    provider = metrics.MeterProvider([reader], shutdown_on_exit=False)
    export_to_opentelemetry(provider.get_meter("test"))
    await measure()
    await runtime.gather(busy(), busy())
    points = {
        metric.name: {
            point.attributes.get("code.function.name"): point.value
            for point in metric.data.data_points
        }
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert points["runtime.coroutine.steps"]["busy"] == 4
    assert points["runtime.coroutine.cpu.time"]["busy"] >= 0.02
    provider.shutdown()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")
async def test_the_command_line_shows_them_as_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    listener = listen()
    await measure()
    await runtime.gather(busy(), blocked())
    command = [sys.executable, "-m", "runtime", "metrics", str(os.getpid())]
    done = await runtime.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60
    )
    listener.close()
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["COROUTINE", "TASKS", "STEPS", "CPU", "RUNNING", "WAITING"] in lines, done.stderr
    (row,) = [line for line in lines if line[:1] == ["busy"]]
    assert row[1:3] == ["1", "2"]

"""``Loop.metrics``: counters, times and histograms of a loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import runtime
from runtime.kernel.native.buckets import BOUNDS, BUCKETS
from runtime.observe import Histogram, LoopMetrics
from tests.support.programs import run_code


@pytest.fixture(autouse=True)
def _no_collector_watch() -> Iterator[None]:
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before


def now() -> LoopMetrics:
    return runtime.get_running_loop().metrics()


# -- Histograms ------------------------------------------------------------------------------------


def test_the_buckets_cover_all_durations_and_are_narrow() -> None:
    assert len(BOUNDS) == BUCKETS + 1
    assert BOUNDS[0] == 0.0
    assert BOUNDS[-1] == math.inf
    assert list(BOUNDS) == sorted(set(BOUNDS))
    for lower, upper in itertools.pairwise(BOUNDS[8:-1]):
        assert (upper - lower) / lower <= 0.125 + 1e-9


def test_a_duration_is_counted_into_the_bucket_around_it() -> None:
    for duration in (0.0, 1e-9, 7.5e-9, 1e-6, 0.00123, 0.5, 1.0, 59.0, 3000.0, 1e9, -1.0):
        (bucket,) = Histogram.of([duration]).buckets()
        upper, count = bucket
        assert count == 1
        lower = BOUNDS[BOUNDS.index(upper) - 1]
        assert lower <= max(duration, 0.0) < upper


def test_quantiles_are_bounds_of_buckets_and_at_most_the_longest() -> None:
    found = Histogram.of([number / 1000 for number in range(1, 1001)])
    assert found.count == 1000
    assert found.mean == pytest.approx(0.5005)
    for share in (0.5, 0.9, 0.99):
        assert share <= found.quantile(share) <= share * 1.125
    assert found.quantile(1.0) == found.longest == 1.0
    assert Histogram.of([]).quantile(0.5) == Histogram.of([]).mean == 0.0
    with pytest.raises(ValueError, match="share must be a number from 0 to 1, got 2"):
        found.quantile(2)


def test_merged_histograms_are_the_histogram_of_all_and_since_takes_them_apart() -> None:
    one, other = [0.001, 0.5, 0.002], [0.25, 1.5]
    both = Histogram.of([*one, *other])
    merged = Histogram.of(list(one)).merge(Histogram.of(list(other)))
    assert merged.counts == both.counts
    assert (merged.count, merged.longest) == (5, 1.5)
    assert merged.total == pytest.approx(both.total)
    rest = both.since(Histogram.of(list(one)))
    assert rest.counts == Histogram.of(list(other)).counts
    assert rest.total == pytest.approx(1.75)
    assert rest.longest == 1.5
    none = both.since(both)
    assert (none.count, none.longest, none.quantile(0.5)) == (0, 0.0, 0.0)


# -- Times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [None, selectors.SelectSelector])
def test_waiting_and_busy_times_add_up(selector: Callable[[], Any] | None) -> None:
    loop = runtime.Loop(selector() if selector is not None else None)
    assert loop.metrics().running == loop.metrics().utilization == 0.0
    loop.run_until_complete(runtime.sleep(0.05))

    async def block() -> None:
        time.sleep(0.05)
        await runtime.sleep(0)

    before = loop.metrics()
    loop.run_until_complete(block())
    after = loop.metrics()
    loop.close()
    assert before.waiting > 0
    assert before.utilization < 1.0
    change = after.since(before)
    assert change.busy >= 0.05
    assert change.lag.longest >= 0.05
    assert change.busy + change.waiting == pytest.approx(change.running)
    assert change.turns == after.turns - before.turns > 0
    assert loop.metrics().running == after.running


async def test_a_snapshot_in_another_thread_includes_the_current_wait() -> None:
    loop = runtime.get_running_loop()
    before = loop.metrics()
    found: list[LoopMetrics] = []

    def look() -> None:
        time.sleep(0.05)
        found.append(loop.metrics())

    thread = threading.Thread(target=look)
    thread.start()
    await runtime.sleep(0.1)
    thread.join()
    assert found[0].since(before).waiting > before.waiting == 0


async def test_the_lag_is_the_longest_time_between_two_polls() -> None:
    before = now()
    await runtime.sleep(0)
    time.sleep(0.03)
    await runtime.sleep(0.001)
    lag = now().since(before).lag
    assert lag.longest >= 0.03
    assert lag.count >= 2


async def test_the_meter_goes_on_when_the_poller_renews_its_epoll() -> None:
    loop = runtime.get_running_loop()
    await runtime.sleep(0.02)
    before = loop.metrics()
    if hasattr(selectors, "EpollSelector"):
        loop._poller._renew_epoll()
    await runtime.sleep(0.02)
    assert loop.metrics().since(before).waiting > 0


# -- Samples ---------------------------------------------------------------------------------------


async def spin(turns: int) -> None:
    for _ in range(turns):
        await runtime.sleep(0)


@pytest.mark.parametrize("every", [0, 4, 1000])
async def test_one_in_so_many_turns_is_timed(every: int) -> None:
    loop = runtime.get_running_loop()
    loop.set_debug(False)
    loop.set_step_sampling(every)
    loop.call_soon(int)
    await spin(64 + 8)  # The polls of a busy loop are apart: so may be the samples.
    before = now()
    for _ in range(20):
        # Each turn polls: the timer keeps the loop from skipping.
        for _ in range(20):
            loop.call_soon(int)
        await runtime.sleep(0)
    change = now().since(before)
    if every == 4:
        assert 8 <= change.steps.count <= 12
        assert change.callbacks.count >= 8 * 20
        assert change.ready_wait.count >= 4 * 20
    else:
        assert change.steps.count == change.callbacks.count == 0


async def test_samples_tell_how_long_steps_and_callbacks_take_and_wait() -> None:
    loop = runtime.get_running_loop()
    loop.set_debug(False)
    loop.set_step_sampling(1)
    await spin(16)
    before = now()
    for _ in range(8):
        loop.call_soon(time.sleep, 0.005)
        loop.call_soon(int)
        await runtime.sleep(0)
    change = now().since(before)
    assert change.callbacks.longest >= 0.005
    # The second callback is queued before the first one runs, and waits for it.
    assert change.ready_wait.longest >= 0.004


def test_the_number_of_turns_is_checked() -> None:
    loop = runtime.new_event_loop()
    loop.set_step_sampling(True)
    with pytest.raises(TypeError, match=r"a whole number of turns, got 1\.5"):
        loop.set_step_sampling(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="or 0 for no samples, got -1"):
        loop.set_step_sampling(-1)
    loop.close()


def test_samples_end_when_the_loop_is_stopped_or_a_callback_raises() -> None:
    loop = runtime.new_event_loop()
    loop.set_debug(False)
    loop.set_step_sampling(1)
    for _ in range(5):
        loop.call_soon(loop.stop)
        loop.run_forever()

    def leave() -> None:
        raise SystemExit

    for _ in range(5):
        loop.call_soon(leave)
        with pytest.raises(SystemExit):
            loop.run_forever()
    assert loop.run_until_complete(runtime.sleep(0.001, "result")) == "result"
    loop.close()


WITHOUT_BUCKETS = """
import selectors, sys, time, runtime

BUCKETS = "runtime.kernel.native.buckets"

async def main():
    loop = runtime.get_running_loop()
    loop.set_debug(False)
    loop.set_step_sampling(1)
    sys.modules[BUCKETS] = None
    ends = time.monotonic() + 0.05
    turns = 0
    while turns < 16384 or time.monotonic() < ends:
        turns += 1
        await runtime.sleep(0)
    del sys.modules[BUCKETS]
    assert loop.metrics().steps.count < turns

runtime.run(main(), loop_factory=lambda: runtime.Loop(selectors.{selector}()))
"""


@pytest.mark.parametrize("selector", ["DefaultSelector", "SelectSelector"])
def test_a_loop_goes_on_if_it_cannot_import_what_counts_durations(selector: str) -> None:
    """It is imported late: all descriptors may be in use then, or the files out of reach."""
    process = run_code(WITHOUT_BUCKETS.format(selector=selector))
    assert (process.returncode, process.stderr) == (0, "")


# -- Counters --------------------------------------------------------------------------------------


async def fail() -> None:
    raise OSError


@pytest.mark.parametrize("eager", [False, True])
async def test_tasks_are_counted_by_how_they_end(eager: bool) -> None:
    loop = runtime.get_running_loop()
    before = now()
    tasks = [
        loop.create_task(runtime.sleep(0), eager_start=eager),
        loop.create_task(fail(), eager_start=eager),
        loop.create_task(runtime.sleep(10), eager_start=eager),
        loop.create_task(runtime.sleep(10), eager_start=eager),
    ]
    await runtime.sleep(0)
    for task in tasks[2:]:
        task.cancel()
    await runtime.wait(tasks)
    change = now().since(before)
    assert isinstance(tasks[1].exception(), OSError)
    assert (change.tasks_created, change.tasks_cancelled, change.tasks_failed) == (4, 2, 1)
    assert now().tasks_ended - before.tasks_ended == 4
    assert now().tasks_alive == before.tasks_alive


async def test_a_task_that_is_cancelled_in_its_last_step_counts_as_cancelled() -> None:
    before = now()

    async def cancel_itself() -> None:
        task = runtime.current_task()
        assert task is not None
        task.cancel()

    await runtime.wait([runtime.create_task(cancel_itself())])
    assert now().since(before).tasks_cancelled == 1


async def test_connections_and_their_bytes_are_counted() -> None:
    async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write((await reader.readexactly(1000))[:300])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    before = now()
    async with await runtime.start_server(answer, "127.0.0.1", 0) as server:
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 1000)
        assert len(await reader.read(-1)) == 300
        assert now().connections >= 1
        writer.close()
        await writer.wait_closed()
    change = now().since(before)
    assert (change.connections_opened, change.connections_accepted) == (2, 1)
    assert (change.bytes_sent, change.bytes_received) == (1300, 1300)
    assert change.connections == before.connections


async def test_unsent_bytes_are_those_in_the_write_buffers() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    _, writer = await runtime.open_connection(sock=ours)
    before = now()
    writer.write(b"x" * 10_000_000)
    change = now().since(before)
    assert change.bytes_unsent == writer.transport.get_write_buffer_size() > 0
    assert change.bytes_sent + change.bytes_unsent == 10_000_000
    writer.transport.abort()
    await runtime.sleep(0)
    assert now().bytes_unsent == 0
    theirs.close()


async def test_timers_and_the_ready_queue_are_counted() -> None:
    loop = runtime.get_running_loop()
    before = now()
    timers = [loop.call_later(100, int) for _ in range(5)]
    loop.call_soon(int)
    assert now().timers - before.timers == 5
    assert now().ready - before.ready == 1
    for timer in timers[:2]:
        timer.cancel()
    assert now().timers - before.timers == 3
    for timer in timers:
        timer.cancel()


async def test_the_executor_s_threads_and_its_queue_are_counted() -> None:
    loop = runtime.get_running_loop()
    assert now().executor_limit == now().executor_threads == now().executor_queued == 0
    release = threading.Event()
    limit = 64  # More than the default executor has threads.
    calls = [loop.run_in_executor(None, release.wait, 60) for _ in range(limit)]
    found = now()
    release.set()
    await runtime.gather(*calls)
    assert found.executor_threads == found.executor_limit > 0
    assert found.executor_queued == limit - found.executor_limit


async def test_reports_to_the_exception_handler_are_counted() -> None:
    loop = runtime.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    before = now()
    loop.call_exception_handler({"message": "a test"})
    assert now().since(before).errors_reported == 1


async def test_the_collector_is_measured_while_a_test_replaces_the_clock() -> None:
    loop = runtime.get_running_loop()
    before = loop.metrics().collector
    with mock.patch("time.monotonic", side_effect=AssertionError("this clock is the program's")):
        gc.collect()
        after = loop.metrics().collector
    assert after.since(before).collections[2] >= 1


async def test_pauses_of_the_collector_are_measured_from_the_first_snapshot_on() -> None:
    before = now()
    gc.collect()
    change = now().since(before).collector
    assert change.collections[2] == 1
    assert change.seconds == change.pauses[2].total > 0


def test_a_snapshot_cannot_be_changed() -> None:
    loop = runtime.new_event_loop()
    with pytest.raises(AttributeError):
        loop.metrics().turns = 0
    loop.close()
    assert isinstance(loop.metrics(), LoopMetrics)


async def test_asyncio_sees_no_difference() -> None:
    """Sampled turns set the current task, and callbacks have none, as in other turns."""
    loop = runtime.get_running_loop()
    loop.set_debug(False)
    loop.set_step_sampling(1)
    seen: list[object] = []
    for _ in range(6):
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        await runtime.sleep(0)
        current: object = asyncio.current_task()
        assert current is runtime.current_task()
        assert current is not None
    assert seen == [None] * 6


async def test_the_tasks_that_ended_in_an_interval_are_counted() -> None:
    waiting = [runtime.create_task(runtime.sleep_forever()) for _ in range(3)]
    await runtime.sleep(0)
    before = now()
    await runtime.wait([runtime.create_task(runtime.sleep(0)) for _ in range(5)])
    change = now().since(before)
    assert (change.tasks_created, change.tasks_ended) == (5, 5)
    assert change.tasks_alive == before.tasks_alive
    for task in waiting:
        task.cancel()
    await runtime.wait(waiting)


@pytest.mark.parametrize("opener", ["streams", "protocol"])
async def test_a_connection_that_fails_before_tls_is_not_counted_as_open(opener: str) -> None:
    before = now().connections
    options: dict[str, Any] = {
        "ssl": ssl.create_default_context(),
        "server_hostname": ".name-that-begins-with-a-dot",
    }
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with pytest.raises(ValueError, match="server_hostname|idna"):
            if opener == "streams":
                await runtime.open_connection(*address, **options)
            else:
                loop = runtime.get_running_loop()
                await loop.create_connection(asyncio.Protocol, *address, **options)
    assert now().connections == before

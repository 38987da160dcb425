"""The metrics of a loop, collected from the parts that count them."""

from __future__ import annotations

from time import monotonic

from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.collector import watch_collector
from runtime.kernel.diagnostics.histogram import histogram_from, histogram_of
from runtime.kernel.diagnostics.metrics import LoopMetrics
from runtime.kernel.native.buckets import no_counts


def metrics_of(loop: LoopCore) -> LoopMetrics:
    """Return a snapshot of the metrics of ``loop``. For any thread."""
    poller = loop._poller
    meter = poller.meter
    ran, waited, lag_count, lag_sum, lag_most, lags = (
        (0.0, 0.0, 0, 0.0, 0.0, no_counts().tobytes()) if meter is None else meter.figures()
    )
    sampler = loop._sampler
    threads, limit, queued = loop._executor.load()
    # In this order: a task that is created meanwhile must not count as ended.
    created = loop._tasks_created
    alive = len(loop._tasks)
    return LoopMetrics(
        time=monotonic(),
        running=ran,
        waiting=waited,
        turns=loop._turns,
        lag=histogram_from(lag_count, lag_sum, lag_most, lags),
        ready_wait=histogram_of(sampler.waits),
        steps=histogram_of(sampler.steps),
        callbacks=histogram_of(sampler.callbacks),
        tasks_created=created,
        tasks_ended=max(0, created - alive),
        tasks_cancelled=loop._tasks_cancelled,
        tasks_failed=loop._tasks_failed,
        tasks_alive=alive,
        ready=len(loop._ready),
        timers=loop._timers.count(),
        connections=loop._connections_opened - loop._connections_closed,
        connections_opened=loop._connections_opened,
        connections_accepted=loop._accepted,
        bytes_received=loop._bytes_received,
        bytes_sent=loop._bytes_sent,
        bytes_unsent=poller.unsent(),
        executor_threads=threads,
        executor_limit=limit,
        executor_queued=queued,
        errors_reported=loop._reports,
        collector=watch_collector(),
        coroutines=() if loop._measured is None else loop._measured.metrics(),
    )

"""Metrics of loops for OpenTelemetry, on its own API."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runtime.kernel.core import LoopCore
from runtime.observe.instruments import (
    LOOP,
    OF_COROUTINES,
    OF_INTERVALS,
    OF_LOOPS,
    OF_PROCESS,
    Instrument,
    Readings,
    Value,
)


def export_to_opentelemetry(meter: Any, loops: Mapping[str, LoopCore] | None = None) -> None:
    """Make observable instruments of ``meter`` for the metrics of loops.

    ``meter`` is a ``Meter`` of ``opentelemetry.metrics``. ``loops`` are the loops by their names,
    by default the running one under the name "main"; closed loops are left out. The metrics are
    read whenever the SDK collects, in its thread.

    The API has no observable histogram. So the time for which no event was handled is given as
    ``runtime.eventloop.delay.p50``, ``p90``, ``p99`` and ``max``, of the interval since the last
    collection. Raises ModuleNotFoundError without ``opentelemetry``, which the extra
    ``opentelemetry`` installs; RuntimeError if no loop is given and none is running; and TypeError
    if ``meter`` is not a meter, or ``loops`` is not a mapping of names to loops.
    """
    try:
        import opentelemetry.metrics  # noqa: F401 - the callbacks need it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "export_to_opentelemetry() needs the library opentelemetry: "
            "pip install 'runtime-loop[opentelemetry]'",
            name=error.name,
        ) from error
    if not callable(getattr(meter, "create_observable_counter", None)):
        raise TypeError(
            "export_to_opentelemetry() expected a Meter of opentelemetry.metrics, "
            f"as get_meter() returns it, got {meter!r}"
        )
    readings = Readings(loops)
    for instrument in (*OF_LOOPS, *OF_COROUTINES):
        _create(meter, instrument, _of_loops(readings, instrument, of_interval=False))
    for instrument in OF_INTERVALS:
        _create(meter, instrument, _of_loops(readings, instrument, of_interval=True))
    for instrument in OF_PROCESS:
        _create(meter, instrument, functools.partial(instrument.values, None))


def _of_loops(
    readings: Readings, instrument: Instrument, *, of_interval: bool
) -> Callable[[], list[Value]]:
    return lambda: [
        ({LOOP: name, **attributes}, value)
        for name, now, change in readings.current(shared=True)
        for attributes, value in instrument.values(change if of_interval else now)
    ]


def _create(meter: Any, instrument: Instrument, values: Callable[[], list[Value]]) -> None:
    from opentelemetry.metrics import Observation

    def observe(options: object) -> Iterable[Any]:
        return [Observation(value, attributes) for attributes, value in values()]

    create = {
        "counter": meter.create_observable_counter,
        "gauge": meter.create_observable_gauge,
        "updown": meter.create_observable_up_down_counter,
    }[instrument.kind]
    create(instrument.name, [observe], instrument.unit, instrument.description)

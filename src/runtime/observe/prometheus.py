"""Metrics of loops for Prometheus, on its own client library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.native.buckets import BOUNDS
from runtime.observe.instruments import (
    HISTOGRAMS,
    LOOP,
    OF_COROUTINES,
    OF_LOOPS,
    OF_PROCESS,
    Instrument,
    Readings,
    Value,
    cumulative,
)

_UNITS: Final = {"s": "seconds", "By": "bytes"}
"""The names of units at the end of a name. Counted things, such as tasks, are not named there."""

_BOUNDS: Final = tuple(bound for bound in BOUNDS[::8] if 1e-5 < bound < 60)
"""Every eighth bound: each is twice the one before."""


def export_to_prometheus(registry: Any = None, loops: Mapping[str, LoopCore] | None = None) -> Any:
    """Register the metrics of loops with a registry of ``prometheus_client``.

    ``registry`` is by default the library's ``REGISTRY``. ``loops`` are the loops by their names,
    by default the running one under the name "main"; closed loops are left out. Returns the
    collector, for ``registry.unregister``. The metrics are read at each scrape, in its thread.

    The names are those of OpenTelemetry in the form of Prometheus, such as
    ``runtime_eventloop_time_seconds_total``. Raises ModuleNotFoundError without
    ``prometheus_client``, which the extra ``prometheus`` installs; RuntimeError if no loop is given
    and none is running; and TypeError if ``registry`` is not a registry, or ``loops`` is not a
    mapping of names to loops.
    """
    try:
        import prometheus_client
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "export_to_prometheus() needs the library prometheus_client: "
            "pip install 'runtime-loop[prometheus]'",
            name=error.name,
        ) from error
    if registry is not None and not callable(getattr(registry, "register", None)):
        raise TypeError(
            "export_to_prometheus() expected a CollectorRegistry of prometheus_client or None, "
            f"got {registry!r}"
        )
    collector = _Collector(Readings(loops))
    (prometheus_client.REGISTRY if registry is None else registry).register(collector)
    return collector


class _Collector:
    """The object that the registry asks for the metrics at each scrape."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Any]:
        """Give the families of metrics, with a sample for each loop."""
        from prometheus_client.core import HistogramMetricFamily

        current = list(self._readings.current())
        for instrument in (*OF_LOOPS, *OF_COROUTINES):
            values = [
                ({LOOP: name, **attributes}, value)
                for name, now, _ in current
                for attributes, value in instrument.values(now)
            ]
            if values or instrument in OF_LOOPS:
                yield _family(instrument, values)
        for name, description, attribute in HISTOGRAMS:
            family = HistogramMetricFamily(
                f"{_translated(name)}_seconds", description, labels=[_translated(LOOP)]
            )
            for loop, now, _ in current:
                found = getattr(now, attribute)
                buckets = [(repr(bound), count) for bound, count in cumulative(found, _BOUNDS)]
                family.add_metric([_shown(loop)], [*buckets, ("+Inf", found.count)], found.total)
            yield family
        for instrument in OF_PROCESS:
            yield _family(instrument, instrument.values(None))


def _family(instrument: Instrument, values: list[Value]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    unit = _UNITS.get(instrument.unit)
    name = _translated(instrument.name)
    labels = list(values[0][0]) if values else [LOOP]
    family = kind(
        name if unit is None else f"{name}_{unit}",
        instrument.description,
        labels=[_translated(label) for label in labels],
    )
    for attributes, value in values:
        family.add_metric([_shown(each) for each in attributes.values()], value)
    return family


def _shown(value: object) -> str:
    """Return the value of a label. A name with half a surrogate must not end the whole scrape."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _translated(name: str) -> str:
    return name.replace(".", "_")

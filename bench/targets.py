"""What runtime must reach, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.measure import Result
from bench.statistics import Spread, ratios, spread


@dataclass(frozen=True)
class Target:
    """How many times better than ``peer`` a contender must be in a case."""

    case: str
    contender: str
    peer: str
    factor: float


@dataclass(frozen=True)
class Verdict:
    """What was reached of a target."""

    target: Target
    ratio: Spread

    @property
    def reached(self) -> bool:
        """Whether the median of the rounds reaches it."""
        return self.ratio.median >= self.target.factor

    @property
    def is_certain(self) -> bool:
        """Whether both quartiles say the same."""
        return (self.ratio.low >= self.target.factor) == (self.ratio.high >= self.target.factor)


@dataclass(frozen=True)
class Lack:
    """A target that cannot be judged, since the contender cannot do the case."""

    target: Target
    reason: str


AHEAD_OF_UVLOOP = {
    "switch": 2.0,
    "spawn": 2.5,
    "futures": 1.7,
    "call_soon": 1.2,
    "call_soon_100": 1.2,
    "gather_100": 2.0,
    "queue": 2.0,
    "lock": 2.0,
    "timer_cancel": 2.0,
    "echo_1k_x10": 1.5,
    "echo_64k_x10": 1.6,
    "echo_1m_x1": 3.0,
    "echo_1m_x1_freed": 3.0,
    "echo_1m_x4": 3.0,
    "echo_1m_x4_freed": 3.0,
    "echo_1k_x1000": 1.7,
    "readline_x10": 2.0,
    "readline_10_x10": 2.0,
    "accept_close_x10": 1.5,
    "tls_1k_x10": 1.3,
    "tls_1m_x4": 1.3,
    "tls_1m_x4_freed": 1.3,
    "protocol_1k_x10": 1.05,
    "protocol_64k_x10": 1.1,
    "buffered_64k_x10": 1.1,
    "protocol_1k_x1000": 1.15,
    "sock_1k_x10": 2.5,
    "datagram_1k_x10": 1.2,
}
MEMORY = ("memory_task", "memory_sleeper", "memory_stream_server", "memory_stream_client")
TARGETS = (
    *(
        Target(case, "runtime-compiled", "uvloop", factor)
        for case, factor in AHEAD_OF_UVLOOP.items()
    ),
    Target("protocol_1k_x10", "runtime-compiled", "C", 0.85),
    *(Target(case, "runtime-pure", "asyncio", 1.0) for case in AHEAD_OF_UVLOOP),
    *(
        Target(case, contender, "asyncio", 2.0)
        for case in MEMORY
        for contender in ("runtime-compiled", "runtime-pure")
    ),
)


def judge(results: Iterable[Result]) -> Iterator[Verdict]:
    """Judge each target whose case was measured with both contenders."""
    by_case = {result.case: result for result in results}
    for target in TARGETS:
        result = by_case.get(target.case)
        if result is None or not {target.contender, target.peer} <= result.series.keys():
            continue
        ours, theirs = result.series[target.contender], result.series[target.peer]
        yield Verdict(target, spread(ratios(ours.costs(), theirs.costs())))


def lacking(results: Iterable[Result]) -> Iterator[Lack]:
    """Tell each target whose contender was left out of its case, and why."""
    by_case = {result.case: result for result in results}
    for target in TARGETS:
        result = by_case.get(target.case)
        if result is not None and target.contender in result.left_out:
            yield Lack(target, result.left_out[target.contender])

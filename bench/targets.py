"""Targets of the project, and the verdict on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.contenders import LOOPS
from bench.measure import Result
from bench.statistics import Spread, ratios, spread


@dataclass(frozen=True)
class Target:
    """Required ratio between a contender and ``peer`` in a case."""

    case: str
    contender: str
    peer: str
    factor: float


@dataclass(frozen=True)
class Verdict:
    """Measured ratio for a target."""

    target: Target
    ratio: Spread

    @property
    def reached(self) -> bool:
        """Whether the median of the rounds reaches the target."""
        return self.ratio.median >= self.target.factor

    @property
    def is_certain(self) -> bool:
        """Whether both quartiles lead to the same verdict."""
        return (self.ratio.low >= self.target.factor) == (self.ratio.high >= self.target.factor)


@dataclass(frozen=True)
class Lack:
    """A target that cannot be judged, because the contender cannot run the case."""

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
OTHERS = (
    *("switch_1k", "switch_100k", "gather_10k", "task_group_100", "semaphore", "event", "timeout"),
    *("timers_1", "timers_1k", "timers_100k", "timers_1m", "to_thread", "subprocess_spawn"),
    *("echo_100_x10", "echo_1k_x1", "echo_1k_x100", "echo_1k_x10000", "unix_1k_x10"),
    *("protocol_100_x10", "protocol_1k_x1", "protocol_1k_x100", "protocol_1k_x10000"),
    *("http_aiohttp_x10", "http_uvicorn_h11_x10", "http_uvicorn_httptools_x10"),
    "asyncpg_select_x10",
    *("latency_10k", "latency_computing", "latency_slow_readers", "latency_accepts"),
    *("latency_timers", "latency_flood", "latency_mixed"),
    *("idle_10k", "start_import", "start_run"),
)
"""Cases in which the compiled build only has to equal its peers."""

TIMED = (*AHEAD_OF_UVLOOP, *OTHERS)
EVERY_PEER = ("asyncio", *LOOPS, "trio", "curio")
"""Peers that the compiled build must equal in every case."""

UNWATCHED = "unwatched"
"""Name of the peer of the watched server: the other server of the same contender."""

MEMORY = ("memory_task", "memory_sleeper", "memory_stream_server", "memory_stream_client")
LIGHT = ("memory_timer", "memory_protocol")
TARGETS = (
    *(
        Target(case, "runtime-compiled", "uvloop", factor)
        for case, factor in AHEAD_OF_UVLOOP.items()
    ),
    Target("protocol_1k_x10", "runtime-compiled", "C", 0.85),
    *(Target(case, "runtime-pure", "asyncio", 1.0) for case in TIMED),
    *(
        Target(case, "runtime-compiled", peer, 1.0)
        for case in TIMED
        for peer in EVERY_PEER
        if peer != "uvloop" or case not in AHEAD_OF_UVLOOP
    ),
    *(
        Target("watch_echo_1k_x10", contender, UNWATCHED, 1 / 1.02)
        for contender in ("runtime-compiled", "runtime-pure")
    ),
    *(
        Target(case, contender, "asyncio", 2.0)
        for case in MEMORY
        for contender in ("runtime-compiled", "runtime-pure")
    ),
    *(
        Target(case, contender, "asyncio", 1.0)
        for case in LIGHT
        for contender in ("runtime-compiled", "runtime-pure")
    ),
)


def judge(results: Iterable[Result]) -> Iterator[Verdict]:
    """Judge each target whose case was measured with both contenders."""
    by_case = {result.case: result for result in results}
    for target in TARGETS:
        result = by_case.get(target.case)
        if result is None or target.contender not in result.series:
            continue
        ours = result.series[target.contender]
        if target.peer == UNWATCHED:
            theirs = [sample.more[UNWATCHED] for sample in ours.samples]
        elif target.peer in result.series:
            theirs = result.series[target.peer].costs()
        else:
            continue
        yield Verdict(target, spread(ratios(ours.costs(), theirs)))


def lacking(results: Iterable[Result]) -> Iterator[Lack]:
    """Yield each target whose contender was left out of the case, with the reason."""
    by_case = {result.case: result for result in results}
    for target in TARGETS:
        result = by_case.get(target.case)
        if result is not None and target.contender in result.left_out:
            yield Lack(target, result.left_out[target.contender])

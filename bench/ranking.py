"""Ranking of the contenders in a case: which one is first, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.contenders import LIMIT
from bench.record import Record, Recorded
from bench.statistics import NOISY, Spread, ratios, spread

OWN = "runtime"
"""Prefix of the names of this project's contenders."""

COMPILED, INTERPRETED = "runtime-compiled", "runtime-pure"


def is_peer(name: str) -> bool:
    """Return whether a contender is neither one of this project nor the limit in C."""
    return not name.startswith(OWN) and name != LIMIT.name


def ahead(case: Recorded, ours: str, peer: str) -> Spread | None:
    """Return how many times better one contender is than another, round by round.

    The result is None if the case was not measured with both.
    """
    one, other = case.contenders.get(ours), case.contenders.get(peer)
    return None if one is None or other is None else spread(ratios(one.costs, other.costs))


@dataclass(frozen=True)
class Standing:
    """Comparison of a contender with the best of its peers in one case."""

    case: Recorded
    ours: str
    peer: str
    """The peer that comes closest, or that is the furthest ahead."""

    factor: Spread
    """How many times better the contender is than that peer, round by round."""

    @property
    def is_behind(self) -> bool:
        """Whether the peer is ahead in the median of the rounds."""
        return self.factor.median < 1

    @property
    def is_within_noise(self) -> bool:
        """Whether the quartiles of the rounds disagree about which of the two is ahead."""
        return self.factor.low < 1 < self.factor.high


def standing(case: Recorded, ours: str) -> Standing | None:
    """Compare a contender with the best peer; None if either is missing from the case."""
    against = [
        (factor.median, peer, factor)
        for peer in filter(is_peer, case.contenders)
        if (factor := ahead(case, ours, peer)) is not None
    ]
    if not against:
        return None
    _, peer, factor = min(against)
    return Standing(case, ours, peer, factor)


def first(case: Recorded) -> str:
    """Return the contender with the lowest cost; the limit in C does not compete.

    The best of this project's contenders is compared with a peer round by round, so that the answer
    agrees with ``standing``. The result is empty if there is no contender.
    """
    own = [name for name in case.contenders if name.startswith(OWN)]
    peers = list(filter(is_peer, case.contenders))
    best = min(own or peers, key=lambda name: case.contenders[name].cost.median, default="")
    found = standing(case, best) if own else None
    return found.peer if found is not None and found.is_behind else best


def noise(case: Recorded) -> float:
    """Return the relative distance of the quartiles of the contender that varies most.

    Contenders that a reader compares are looked at: this project's and the first of the others.
    """
    looked_at = {name for name in (COMPILED, INTERPRETED) if name in case.contenders}
    if (best := standing(case, COMPILED)) is not None:
        looked_at.add(best.peer)
    looked_at = looked_at or set(case.contenders)
    return max((case.contenders[name].cost.relative for name in looked_at), default=0.0)


def is_noisy(case: Recorded) -> bool:
    """Return whether small differences in a case mean nothing."""
    return noise(case) > NOISY or any(text.startswith("noisy:") for text in case.warnings)


def standings(record: Record, ours: str) -> Iterator[Standing]:
    """Yield the standing of a contender in every case that was measured with it and a peer."""
    for case in record.cases.values():
        if (found := standing(case, ours)) is not None:
            yield found

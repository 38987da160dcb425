"""Strategies: which runs an exploration makes, one after the other.

A *search* returns a strategy for each run, and is told the choices that the run recorded. Searches
that are random never end; an exhaustive search ends when it has tried every run within its limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from runtime.simulation.checks import check_number, is_real
from runtime.simulation.choices import Choices, Strategy
from runtime.simulation.choosers import Delays, Plan, Priorities, RandomWalk
from runtime.simulation.reducing import ReducedSearch

_FIRST_LENGTH = 64
"""The number of choices that a run is expected to have before the first run has ended."""

_MOST_VALUES = 64
"""Number of possibilities up to which an exhaustive search tries all; else it tries a few."""


class Search:
    """The runs of one exploration, in order. This one makes the usual run, again and again."""

    complete = False
    """Whether every run within the limits of the search was made."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.runs = 0
        self.length = _FIRST_LENGTH

    def next(self) -> Strategy | None:
        """Return the strategy for the next run; None if the search is complete."""
        self.runs += 1
        return self.strategy(self.seed * 1_000_003 + self.runs)

    def strategy(self, seed: int) -> Strategy:
        """Return the strategy for a run whose random numbers begin with ``seed``."""
        return Strategy()

    def learn(self, choices: Choices) -> None:
        """Note the choices of the run that has ended."""
        self.length = max(1, _relevant(choices))


class _RandomWalks(Search):
    def __init__(self, seed: int, rate: float) -> None:
        super().__init__(seed)
        self._rate = rate

    def strategy(self, seed: int) -> Strategy:
        return RandomWalk(seed, self._rate)


class _Delays(Search):
    def __init__(self, seed: int, depth: int) -> None:
        super().__init__(seed)
        self._depth = depth

    def strategy(self, seed: int) -> Strategy:
        return Delays(seed, self._depth, self.length)


class _Priorities(Search):
    def __init__(self, seed: int, depth: int) -> None:
        super().__init__(seed)
        self._depth = depth

    def strategy(self, seed: int) -> Strategy:
        return Priorities(seed, self._depth, self.length)


class _Exhaustive(Search):
    """All runs with up to ``deviations`` choices other than the usual, fewest first.

    A run that deviates at the positions ``p1 < p2 < ...`` equals the run without the last of them
    up to that position. So the runs form a tree: the children of a run deviate once more, at a
    later position. A value whose record differs from it had the effect of a smaller one, and its
    run is not continued.
    """

    def __init__(self, seed: int, deviations: int) -> None:
        super().__init__(seed)
        self._deviations = deviations
        self._to_do: deque[dict[int, int]] = deque([{}])
        self._running: dict[int, int] = {}

    def next(self) -> Strategy | None:
        if not self._to_do:
            self.complete = True
            return None
        self.runs += 1
        self._running = self._to_do.popleft()
        return Plan(self._running)

    def learn(self, choices: Choices) -> None:
        plan = self._running
        values = choices.values
        if len(plan) >= self._deviations:
            return
        if any(place >= len(values) or values[place] != plan[place] for place in plan):
            return
        later = range(max(plan, default=-1) + 1, _relevant(choices))
        # First the last possibility of each choice: to hold back a step finds most.
        for place in later:
            self._to_do.append({**plan, place: choices.counts[place] - 1})
        for place in later:
            for value in _values_to_try(choices.counts[place])[:-1]:
                self._to_do.append({**plan, place: value})


class _Reduced(Search):
    """One run of each class of orders: see ``reducing.py``."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._search = ReducedSearch(seed)

    def next(self) -> Strategy | None:
        strategy = self._search.next_run()
        self.complete = self._search.complete
        self.runs += strategy is not None
        return strategy

    def learn(self, choices: Choices) -> None:
        self._search.learn(choices)


def _relevant(choices: Choices) -> int:
    """Return the number of choices while anything of the program was left.

    The steps after that are those of the library, which end the run. They touch nothing that the
    program has, so that their order makes no difference to it.
    """
    return len(choices.values) if choices.relevant < 0 else choices.relevant


def _values_to_try(count: int) -> list[int]:
    if count <= _MOST_VALUES:
        return list(range(1, count))
    return [1, count // 2, count - 1]


class _Portfolio(Search):
    """The usual run, all runs with one deviation in turn with random ones, of several kinds."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._single = _Exhaustive(seed, 1)
        self._last_was_single = False

    def next(self) -> Strategy | None:
        self.runs += 1
        self._last_was_single = False
        if self.runs % 2 == 1:
            strategy = self._single.next()
            if strategy is not None:
                self._last_was_single = True
                return strategy
        return self._random(self.runs // 2, self.seed * 1_000_003 + self.runs)

    def strategy(self, seed: int) -> Strategy:
        return self._random(seed, seed)

    def _random(self, number: int, seed: int) -> Strategy:
        kind = number % 8
        if kind in (1, 3, 5):
            return Delays(seed, 2, self.length)
        if kind in (2, 6):
            return Delays(seed, 3 + number % 3, self.length)
        if kind == 4:
            return Priorities(seed, 3, self.length)
        if kind == 7:
            return RandomWalk(seed, 0.1)
        return RandomWalk(seed, 1.0)

    def learn(self, choices: Choices) -> None:
        super().learn(choices)
        if self._last_was_single:
            self._single.learn(choices)


@dataclass(frozen=True)
class StrategyName:
    """A strategy with its limits, as the functions of this module return it."""

    kind: str
    depth: int = 0
    rate: float = 1.0

    def __post_init__(self) -> None:
        expected = f"kind must be one of {', '.join(_BY_NAME)}, got {self.kind!r}"
        if not isinstance(self.kind, str):
            raise TypeError(expected)
        if self.kind not in _BY_NAME:
            raise ValueError(expected)
        check_number("depth", self.depth, 1 if self.kind in _WITH_DEPTH else 0)
        expected = f"rate must be a number greater than 0, and at most 1, got {self.rate!r}"
        if not is_real(self.rate):
            raise TypeError(expected)
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(expected)

    def search(self, seed: int) -> Search:
        """Return a new search with this strategy."""
        if self.kind == "usual":
            return Search(seed)
        if self.kind == "random":
            return _RandomWalks(seed, self.rate)
        if self.kind == "delays":
            return _Delays(seed, self.depth)
        if self.kind == "pct":
            return _Priorities(seed, self.depth)
        if self.kind == "exhaustive":
            return _Exhaustive(seed, self.depth)
        if self.kind == "reduced":
            return _Reduced(seed)
        return _Portfolio(seed)

    def __str__(self) -> str:
        if self.kind == "random":
            return f"random(rate={self.rate:g})" if self.rate != 1.0 else "random"
        return f"{self.kind}({self.depth})" if self.depth else self.kind


def usual() -> StrategyName:
    """Return the strategy of the production loop: every run is the same."""
    return StrategyName("usual")


def random_walk(rate: float = 1.0) -> StrategyName:
    """Return the strategy that chooses at random, in the share ``rate`` of the choices.

    Raises TypeError or ValueError unless ``rate`` is a number greater than 0 and at most 1.
    """
    return StrategyName("random", rate=rate)


def delays(depth: int = 2) -> StrategyName:
    """Return the strategy that departs from the usual order at ``depth`` random places.

    Raises TypeError or ValueError unless ``depth`` is a positive whole number.
    """
    check_number("depth", depth, 1)
    return StrategyName("delays", depth)


def pct(depth: int = 3) -> StrategyName:
    """Return the strategy PCT: random priorities of tasks, which change at ``depth - 1`` places.

    Raises TypeError or ValueError unless ``depth`` is a positive whole number.
    """
    check_number("depth", depth, 1)
    return StrategyName("pct", depth)


def exhaustive(deviations: int = 2) -> StrategyName:
    """Return the strategy that tries all runs with up to ``deviations`` deviations.

    The exploration then ends when all were made, and its report says that it is complete. Choices
    between more than 64 possibilities, such as lengths of time, are tried at their ends and in the
    middle only. Raises TypeError or ValueError unless ``deviations`` is a positive whole number.
    """
    check_number("deviations", deviations, 1)
    return StrategyName("exhaustive", deviations)


def reduced() -> StrategyName:
    """Return the strategy that tries every order, without those that differ in independent steps.

    Steps are independent if they can reach no mutable object in common; of all orders that differ
    only in the order of such steps, one is run. The exploration ends when all others were made, and
    its report says that it is complete. Unlike that of ``exhaustive``, the number of deviations has
    no limit, so that this is for small programs. Choices between more than 64 possibilities are
    tried at their ends and in the middle only.
    """
    return StrategyName("reduced")


def portfolio() -> StrategyName:
    """Return the default strategy: several of the others in turn."""
    return StrategyName("portfolio")


_BY_NAME = {
    "usual": usual,
    "random": random_walk,
    "delays": delays,
    "pct": pct,
    "exhaustive": exhaustive,
    "reduced": reduced,
    "portfolio": portfolio,
}


_WITH_DEPTH = ("delays", "pct", "exhaustive")


def strategy_named(strategy: StrategyName | str) -> StrategyName:
    """Return a strategy that is given as such, or by name.

    Raises ValueError for other names, and TypeError for objects of other types.
    """
    if isinstance(strategy, StrategyName):
        return strategy
    expected = f"strategy must be one of {', '.join(_BY_NAME)}, got {strategy!r}"
    if not isinstance(strategy, str):
        raise TypeError(expected)
    if strategy not in _BY_NAME:
        raise ValueError(expected)
    return _BY_NAME[strategy]()

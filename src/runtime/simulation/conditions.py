"""Conditions of a link: how long packets travel, and which faults happen by chance."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from runtime.simulation.checks import check_probability, check_seconds, is_real
from runtime.simulation.choices import Choices


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution of a delay, in seconds: uniform from ``low`` to ``high``, with a slow tail.

    With the probability ``tail`` a delay is from ``high`` to ``longest`` instead. Raises TypeError
    for what is not a number, and ValueError for a delay that is negative or not finite, and for a
    probability outside 0 to 1.

    >>> from runtime.simulation import Latency
    >>> Latency(0.001, 0.010, tail=0.01, longest=2.0)
    Latency(low=0.001, high=0.01, tail=0.01, longest=2.0)
    """

    low: float = 0.0
    high: float | None = None
    tail: float = 0.0
    longest: float = 0.0

    def __post_init__(self) -> None:
        for name in ("low", "high", "longest"):
            number = getattr(self, name)
            if number is not None or name != "high":
                check_seconds(name, number)
        check_probability("tail", self.tail)
        if self.high is not None and self.high < self.low:
            raise ValueError(f"high must be at least low, {self.low!r}, got {self.high!r}")

    def draw(self, choices: Choices, label: str) -> float:
        """Return a delay in seconds, chosen by ``choices``; usually ``low``."""
        high = self.low if self.high is None else self.high
        if self.tail and choices.chance(self.tail, f"{label}: slow"):
            return choices.real(high, max(high, self.longest), label)
        return choices.real(self.low, high, label)


Delay = float | tuple[float, float] | Latency
"""Seconds; or the least and the most of them; or a ``Latency``."""


def latency_of(delay: object, name: str) -> Latency:
    """Return ``delay`` as a ``Latency``.

    Raises TypeError for an object of another type, and ValueError for a number that is negative or
    not finite. The messages name the argument ``name``.
    """
    if isinstance(delay, Latency):
        return delay
    if is_real(delay):
        check_seconds(name, delay)
        return Latency(delay)
    if isinstance(delay, tuple) and len(delay) == 2:
        try:
            return Latency(*delay)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} is {delay!r}: {error}") from None
    raise TypeError(f"{name} must be seconds, a pair of them, or a Latency, got {delay!r}")


def check_delay(name: str, delay: object) -> None:
    """Raise TypeError or ValueError unless the argument ``name`` is a delay."""
    latency_of(delay, name)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The properties of a link, for one direction.

    ``latency`` is the delay of each packet, and ``bandwidth`` the number of bytes a second. All
    other properties are probabilities from 0, the default, to 1:

    - of datagrams: ``loss``, ``duplication``, and ``reordering``, which delays a datagram, so that
      later ones overtake it;
    - of streams: ``splitting`` of what arrives, so that a read returns only a part; ``merging``,
      which delays bytes, so that they arrive together with later ones; ``short_writes``, which
      accept only a part; ``full_buffers``, in which a write accepts nothing for a while; and
      ``resets`` of the connection at a write;
    - of connection attempts: ``refusals``, and ``timeouts``.

    Raises ValueError or TypeError for a value out of these ranges.

    >>> from runtime.simulation import Conditions
    >>> Conditions(latency=(0.001, 0.020), splitting=0.1).splitting
    0.1
    """

    latency: Delay = 0.0
    bandwidth: float = math.inf
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    splitting: float = 0.0
    merging: float = 0.0
    short_writes: float = 0.0
    full_buffers: float = 0.0
    resets: float = 0.0
    refusals: float = 0.0
    timeouts: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency", latency_of(self.latency, "latency"))
        expected = f"bandwidth must be positive bytes a second, got {self.bandwidth!r}"
        if not is_real(self.bandwidth):
            raise TypeError(expected)
        if not self.bandwidth > 0:
            raise ValueError(expected)
        for field in dataclasses.fields(self):
            if field.name not in ("latency", "bandwidth"):
                check_probability(field.name, getattr(self, field.name))

    def delay(self, choices: Choices) -> float:
        """Return the delay of one packet in seconds, without that of the bandwidth."""
        latency = self.latency
        assert isinstance(latency, Latency)
        return latency.draw(choices, "latency")


PERFECT = Conditions()
"""No delay and no fault: the conditions of a new world, as between processes of one machine."""


def conditions_of(text: str) -> Conditions:
    """Return the conditions that a text names, as in ``latency=0.01,splitting=0.1``.

    The values are numbers; that of ``latency`` may be two, with a colon between them. Raises
    ValueError for another text.
    """
    names = [field.name for field in dataclasses.fields(Conditions)]
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            if name not in names or name in values:
                raise ValueError
            numbers = [float(each) for each in value.split(":")]
            if len(numbers) > (2 if name == "latency" else 1):
                raise ValueError
        except ValueError:
            raise ValueError(
                "network must be conditions such as latency=0.01,splitting=0.1, with the names "
                f"{', '.join(names)}, got {part!r}"
            ) from None
        values[name] = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    return Conditions(**values)

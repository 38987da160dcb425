"""Faults in the bytes of one direction of a connection, and the plans composed of them.

A fault is a value that describes a disturbance. For each connection it makes a ``Stage``, which
holds the state, and the stages of a direction make a ``Pipeline``::

    received bytes --> stage --> stage --> ... --> steps: bytes to send in one piece, a pause,
                                                   or a mark (see ``Mark``)

This module uses no sockets and no clocks: ``tests/support/proxy.py`` carries the steps out. Random
choices depend on the seed of the proxy, the number of the connection and the direction, so that
they are the same in every run.
"""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class Mark(enum.Enum):
    """An action to take once everything before it was sent."""

    FIN = "end this direction; what the sender still sends is dropped, the other direction goes on"
    CUT = "end both directions; what either end still sends is dropped"
    RESET = "reset both ends"
    STALL = "forward nothing until told to go on"


@dataclass(frozen=True)
class Pause:
    """Seconds to wait before the next step."""

    seconds: float


Step = bytes | Pause | Mark


class Stage:
    """State of a fault for one direction of one connection. This base class does nothing."""

    patience: float | None = None
    """Seconds after which held-back bytes must be flushed, or None if there are none."""

    def begin(self) -> Iterable[Step]:
        """Return the steps before the first byte."""
        return ()

    def feed(self, data: bytes) -> Iterable[Step]:
        """Accept received bytes, and return the steps that can be taken now."""
        return (data,)

    def flush(self) -> Iterable[Step]:
        """Return the steps for the held-back bytes."""
        return ()


class Fault(Protocol):
    """A disturbance of one direction."""

    def stage(self, chance: random.Random) -> Stage:
        """Return the fault's state for one direction of a new connection."""


@dataclass(frozen=True)
class Delay:
    """Wait ``seconds``, plus a random part of ``jitter``, before each received chunk."""

    seconds: float
    jitter: float = 0.0

    def stage(self, chance: random.Random) -> Stage:
        return _Delaying(self, chance)


class _Delaying(Stage):
    def __init__(self, fault: Delay, chance: random.Random) -> None:
        self._fault = fault
        self._chance = chance

    def feed(self, data: bytes) -> Iterable[Step]:
        return Pause(self._fault.seconds + self._chance.uniform(0, self._fault.jitter)), data


@dataclass(frozen=True)
class Split:
    """Send pieces with the lengths ``sizes``, in cyclic or in random order.

    From the byte ``until`` on, the rest is forwarded as it arrives, because a mebibyte in pieces of
    one byte takes too long. Between two pieces, ``gap`` seconds pass.
    """

    sizes: Sequence[int] = (1,)
    by_chance: bool = False
    until: int | None = None
    gap: float = 0.0

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes must be positive numbers of bytes, not {self.sizes!r}.")

    def stage(self, chance: random.Random) -> Stage:
        return _Splitting(self, chance)


class _Splitting(Stage):
    def __init__(self, fault: Split, chance: random.Random) -> None:
        self._fault = fault
        self._passed = 0
        self._sizes: Iterator[int]
        if fault.by_chance:
            self._sizes = (chance.choice(fault.sizes) for _ in itertools.count())
        else:
            self._sizes = itertools.cycle(fault.sizes)

    def feed(self, data: bytes) -> Iterable[Step]:
        until = self._fault.until
        while data:
            at_will = until is not None and self._passed >= until
            size = len(data) if at_will else next(self._sizes)
            yield data[:size]
            self._passed += len(data[:size])
            data = data[size:]
            if self._fault.gap and not at_will:
                yield Pause(self._fault.gap)


@dataclass(frozen=True)
class Merge:
    """Hold bytes back until there are ``size`` of them, or for ``flush_after`` seconds.

    They are sent in pieces of exactly ``size``. The end of the stream flushes too.
    """

    size: int
    flush_after: float | None = None

    def stage(self, chance: random.Random) -> Stage:
        return _Merging(self)


class _Merging(Stage):
    def __init__(self, fault: Merge) -> None:
        self._fault = fault
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterable[Step]:
        size = self._fault.size
        self._held += data
        while len(self._held) >= size:
            yield bytes(self._held[:size])
            del self._held[:size]
        self.patience = self._fault.flush_after if self._held else None

    def flush(self) -> Iterable[Step]:
        self.patience = None
        if self._held:
            yield bytes(self._held)
            self._held.clear()


@dataclass(frozen=True)
class _Marked:
    """A mark that takes effect once, after ``after`` bytes; with 0, before the first."""

    after: int

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"after must be a number of bytes, not {self.after!r}.")


@dataclass(frozen=True)
class Reset(_Marked):
    """Send both ends a reset. The bytes forwarded before have reached the receiver's kernel."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.RESET,))


@dataclass(frozen=True)
class Stall(_Marked):
    """Forward nothing more in this direction until the proxy's ``resume()``."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.STALL,))


@dataclass(frozen=True)
class HalfClose(_Marked):
    """End this direction, while the other continues; further bytes of the sender are dropped."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.FIN,))


@dataclass(frozen=True)
class Truncate(_Marked):
    """Send both ends an orderly end; the remaining bytes are dropped."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.CUT,))


@dataclass(frozen=True)
class Insert(_Marked):
    """Insert ``data``, or a number of random bytes."""

    data: bytes | int = 16

    def stage(self, chance: random.Random) -> Stage:
        data = chance.randbytes(self.data) if isinstance(self.data, int) else self.data
        return _Inserting(self.after, (data,))


class _Inserting(Stage):
    """Inserts steps right after the byte before position ``after``, as soon as that has arrived."""

    def __init__(self, after: int, steps: tuple[Step, ...]) -> None:
        self._left = after
        self._steps = steps

    def begin(self) -> Iterable[Step]:
        return self._take() if self._left == 0 else ()

    def feed(self, data: bytes) -> Iterable[Step]:
        before = data[: self._left]
        after = data[self._left :]
        self._left -= len(before)
        if before:
            yield before
        if self._left == 0:
            yield from self._take()
        if after:
            yield after

    def _take(self) -> tuple[Step, ...]:
        steps = self._steps
        self._steps = ()
        return steps


@dataclass(frozen=True)
class Flip(_Marked):
    """Change ``size`` bytes by flipping the bits of ``mask`` in each."""

    size: int = 1
    mask: int = 0xFF

    def stage(self, chance: random.Random) -> Stage:
        return _Flipping(self)


class _Flipping(Stage):
    def __init__(self, fault: Flip) -> None:
        self._fault = fault
        self._position = 0

    def feed(self, data: bytes) -> Iterable[Step]:
        first = max(self._fault.after - self._position, 0)
        last = min(self._fault.after + self._fault.size - self._position, len(data))
        self._position += len(data)
        if first < last:
            changed = bytearray(data)
            for index in range(first, last):
                changed[index] ^= self._fault.mask
            data = bytes(changed)
        return (data,)


@dataclass(frozen=True)
class SlowReader:
    """Read at most ``size`` bytes from the sender every ``seconds``, with a small kernel buffer."""

    size: int = 4096
    seconds: float = 0.001
    kernel_buffer: int = 4096

    def stage(self, chance: random.Random) -> Stage:
        # The proxy reads slowly; the bytes that it has read are not delayed.
        return Stage()


@dataclass(frozen=True)
class Plan:
    """Faults of one connection: those of each direction, in order of application."""

    to_server: tuple[Fault, ...] = ()
    to_client: tuple[Fault, ...] = ()


FAULTLESS = Plan()


class Pipeline:
    """The stages of one direction of one connection. Times are seconds on the caller's clock."""

    def __init__(self, faults: Sequence[Fault], chance: random.Random) -> None:
        self._stages = [fault.stage(chance) for fault in faults]
        self._deadlines: list[float | None] = [None] * len(faults)

    def begin(self) -> list[Step]:
        """Return the steps before the first byte."""
        steps: list[Step] = []
        for stage in self._stages:
            steps = [*stage.begin(), *_through(stage, steps)]
        return steps

    def feed(self, data: bytes, now: float) -> list[Step]:
        """Return the steps that follow from ``data``, which is not empty."""
        steps = self._from(0, [data])
        self._note_patience(now)
        return steps

    def end(self) -> list[Step]:
        """Return the steps that follow from the end of the stream."""
        steps = self._from(0, [Mark.FIN])
        self._deadlines = [None] * len(self._stages)
        return steps

    def deadline(self) -> float | None:
        """Return the time at which held-back bytes must be flushed, or None."""
        return min((each for each in self._deadlines if each is not None), default=None)

    def expire(self, now: float) -> list[Step]:
        """Flush the bytes whose deadline has passed."""
        steps: list[Step] = []
        for index, stage in enumerate(self._stages):
            deadline = self._deadlines[index]
            if deadline is not None and deadline <= now:
                steps += self._from(index + 1, stage.flush())
        self._note_patience(now)
        return steps

    def _from(self, index: int, steps: Iterable[Step]) -> list[Step]:
        for stage in self._stages[index:]:
            steps = _through(stage, steps)
        return list(steps)

    def _note_patience(self, now: float) -> None:
        for index, stage in enumerate(self._stages):
            if stage.patience is None:
                self._deadlines[index] = None
            elif self._deadlines[index] is None:
                self._deadlines[index] = now + stage.patience


def _through(stage: Stage, steps: Iterable[Step]) -> list[Step]:
    """Pass bytes to ``stage``; held-back bytes go before every other step."""
    result: list[Step] = []
    for step in steps:
        if isinstance(step, bytes):
            result += stage.feed(step)
        else:
            result += [*stage.flush(), step]
    return result

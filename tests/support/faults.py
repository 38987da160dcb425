"""What can happen to the bytes of one direction of a connection: faults, which make up a plan.

A fault is a value that says what shall happen. For each connection it makes a ``Stage``, which
holds the state, and the stages of a direction make a ``Pipeline``::

    received bytes --> stage --> stage --> ... --> steps: bytes to send in one piece, a pause,
                                                   or a mark (see ``Mark``)

Nothing here knows sockets or clocks: ``tests/support/proxy.py`` carries the steps out. What is
random comes from the seed of the proxy, the number of the connection and the direction, so that it
is the same in every run.
"""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class Mark(enum.Enum):
    """Something to be done when everything before it was sent."""

    FIN = "end this direction; what the sender still sends is dropped, the other direction goes on"
    CUT = "end both directions; what either end still sends is dropped"
    RESET = "reset both ends"
    STALL = "forward nothing until told to go on"


@dataclass(frozen=True)
class Pause:
    """Seconds to let pass before the next step."""

    seconds: float


Step = bytes | Pause | Mark


class Stage:
    """What a fault does to one direction of one connection. This one does nothing."""

    patience: float | None = None
    """Seconds after which what is held back shall be flushed; None while nothing is."""

    def begin(self) -> Iterable[Step]:
        """Return what comes before the first byte."""
        return ()

    def feed(self, data: bytes) -> Iterable[Step]:
        """Take bytes that were received, and return what can be done now."""
        return (data,)

    def flush(self) -> Iterable[Step]:
        """Return what was held back."""
        return ()


class Fault(Protocol):
    """What shall happen in one direction."""

    def stage(self, chance: random.Random) -> Stage:
        """Return the fault's state for one direction of a new connection."""


@dataclass(frozen=True)
class Delay:
    """Wait ``seconds``, and up to ``jitter`` more, before each chunk that was received."""

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
    """Send pieces of ``sizes``, one after the other and again from the first, or chosen by chance.

    From the byte ``until`` on, the rest is forwarded as it comes: a mebibyte in pieces of one byte
    takes too long. ``gap`` seconds are waited between two pieces.
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
    """Hold back until there are ``size`` bytes; not longer than ``flush_after`` seconds, if given.

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
    """Something that happens once, ``after`` so many bytes; with 0, before the first."""

    after: int

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"after must be a number of bytes, not {self.after!r}.")


@dataclass(frozen=True)
class Reset(_Marked):
    """Send both ends a reset. What was forwarded before has reached the receiver's kernel."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.RESET,))


@dataclass(frozen=True)
class Stall(_Marked):
    """Forward nothing more in this direction until the proxy's ``resume()``."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.STALL,))


@dataclass(frozen=True)
class HalfClose(_Marked):
    """End this direction, while the other goes on; what the sender still sends is dropped."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.FIN,))


@dataclass(frozen=True)
class Truncate(_Marked):
    """Give both ends an orderly end instead of the rest, which is dropped."""

    def stage(self, chance: random.Random) -> Stage:
        return _Inserting(self.after, (Mark.CUT,))


@dataclass(frozen=True)
class Insert(_Marked):
    """Put in ``data``, or so many random bytes."""

    data: bytes | int = 16

    def stage(self, chance: random.Random) -> Stage:
        data = chance.randbytes(self.data) if isinstance(self.data, int) else self.data
        return _Inserting(self.after, (data,))


class _Inserting(Stage):
    """Puts steps between the byte before ``after`` and the next, as soon as the former is there."""

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
    """Change ``size`` bytes: those bits of each that are set in ``mask``."""

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
    """Take at most ``size`` bytes from the sender every ``seconds``, with a small kernel buffer."""

    size: int = 4096
    seconds: float = 0.001
    kernel_buffer: int = 4096

    def stage(self, chance: random.Random) -> Stage:
        # The proxy reads slowly; what it has read is not held up.
        return Stage()


@dataclass(frozen=True)
class Plan:
    """What happens to one connection: the faults of each direction, in order of application."""

    to_server: tuple[Fault, ...] = ()
    to_client: tuple[Fault, ...] = ()


FAULTLESS = Plan()


class Pipeline:
    """The stages of one direction of one connection. Times are seconds on the caller's clock."""

    def __init__(self, faults: Sequence[Fault], chance: random.Random) -> None:
        self._stages = [fault.stage(chance) for fault in faults]
        self._deadlines: list[float | None] = [None] * len(faults)

    def begin(self) -> list[Step]:
        """Return what comes before the first byte."""
        steps: list[Step] = []
        for stage in self._stages:
            steps = [*stage.begin(), *_through(stage, steps)]
        return steps

    def feed(self, data: bytes, now: float) -> list[Step]:
        """Return what follows from ``data``, which is not empty."""
        steps = self._from(0, [data])
        self._note_patience(now)
        return steps

    def end(self) -> list[Step]:
        """Return what follows from the end of the stream."""
        steps = self._from(0, [Mark.FIN])
        self._deadlines = [None] * len(self._stages)
        return steps

    def deadline(self) -> float | None:
        """Return when something that is held back must be flushed, or None."""
        return min((each for each in self._deadlines if each is not None), default=None)

    def expire(self, now: float) -> list[Step]:
        """Flush what was held back long enough."""
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
    """Give bytes to ``stage``; whatever else comes, what was held back goes first."""
    result: list[Step] = []
    for step in steps:
        if isinstance(step, bytes):
            result += stage.feed(step)
        else:
            result += [*stage.flush(), step]
    return result

"""New kinds of suspension are plain functions: what ``runtime.suspend`` is for.

A *thunk* is a function that takes the suspended coroutine, here ``resume``, and arranges its
resumption. ``await suspend(thunk)`` is all that the loop need offer: a nap, an exchange between two
coroutines, somebody else's future and input that is not a socket's are a few lines each. Input is
one coroutine, which can be replaced. Time is the loop's clock and selector, which can be as well::

    python docs/examples/thunks.py              # hours pass at once: the time is simulated
    python docs/examples/thunks.py --real-time 0.001
"""

from __future__ import annotations

import argparse
import concurrent.futures
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import runtime

T = TypeVar("T")


# -- Kinds of suspension ---------------------------------------------------------------------------


async def nap(seconds: float) -> None:
    """Suspend for some time: a timer calls ``resume``; a cancellation takes the timer back."""
    loop = runtime.get_running_loop()

    def arm(resume: runtime.Resume[None]) -> Callable[[], None]:
        return loop.call_later(seconds, resume, None).cancel

    await runtime.suspend(arm)


class Exchange(Generic[T]):
    """Hands values from coroutine to coroutine: who comes first waits for the other."""

    def __init__(self) -> None:
        self._givers: deque[tuple[runtime.Resume[None], T]] = deque()
        self._takers: deque[runtime.Resume[T]] = deque()

    async def give(self, value: T) -> None:
        """Hand a value to somebody who takes it."""

        def arm(resume: runtime.Resume[None]) -> Callable[[], None]:
            entry = resume, value
            self._givers.append(entry)
            return lambda: self._givers.remove(entry)

        if self._takers:
            self._takers.popleft()(value)
        else:
            await runtime.suspend(arm)

    async def take(self) -> T:
        """Return a value from somebody who gives it."""

        def arm(resume: runtime.Resume[T]) -> Callable[[], None]:
            self._takers.append(resume)
            return lambda: self._takers.remove(resume)

        if not self._givers:
            return await runtime.suspend(arm)
        resume, value = self._givers.popleft()
        resume(None)
        return value


async def result_of(future: concurrent.futures.Future[T]) -> T:
    """Wait for a future of another library, which another thread may finish."""

    def arm(resume: runtime.Resume[None]) -> Callable[[], object]:
        future.add_done_callback(lambda _: resume(None))
        return future.cancel

    await runtime.suspend(arm)
    return future.result()


# -- Time and input that can be replaced -----------------------------------------------------------


class SimulatedTime(selectors.DefaultSelector):
    """A selector that does not wait for time to pass, and the clock that it moves instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def clock(self) -> float:
        """Return the simulated time in seconds."""
        return self.now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, let the time pass that was to be waited."""
        events = super().select(0 if timeout is not None else None)
        if not events and timeout is not None:
            self.now += timeout
        return events


Input = Callable[[], Awaitable[str]]
"""Where words come from: a coroutine function that gives the next one, "" at the end."""


def scripted(*words: str, every: float) -> Input:
    """Stand for input that comes from outside."""
    rest = deque(words)

    async def read() -> str:
        await nap(every)
        return rest.popleft() if rest else ""

    return read


# -- Demonstration ---------------------------------------------------------------------------------


async def listener(read: Input, words: Exchange[str]) -> None:
    """Pass on what is read."""
    while word := await read():
        await words.give(word)
    await words.give("")


async def speaker(words: Exchange[str], hour: float) -> None:
    """Say what was heard, and when."""
    loop = runtime.get_running_loop()
    started = loop.time()
    while word := await words.take():
        print(f"after {(loop.time() - started) / hour:.0f} h: {word}")


async def demonstrate(hour: float) -> None:
    """Let words go through an exchange for some hours; then ask a thread."""
    words: Exchange[str] = Exchange()
    async with runtime.TaskGroup() as group:
        group.create_task(listener(scripted("good", "evening", every=hour), words))
        group.create_task(speaker(words, hour))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        print("a thread says", await result_of(pool.submit(sum, [1, 2, 3])))


def simulated_loop() -> runtime.Loop:
    """Return a loop whose time is simulated."""
    time = SimulatedTime()
    return runtime.Loop(time, time.clock)


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description="New kinds of suspension.")
    parser.add_argument("--real-time", type=float, metavar="SECONDS", help="seconds in an hour")
    seconds = parser.parse_args().real_time
    if seconds is None:
        runtime.run(demonstrate(3600), loop_factory=simulated_loop)
    else:
        runtime.run(demonstrate(seconds))


if __name__ == "__main__":
    main()

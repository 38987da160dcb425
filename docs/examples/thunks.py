"""New kinds of suspension, written as plain functions with ``runtime.suspend``.

A *thunk* is a function that takes the suspended coroutine, here represented by ``resume``, and
arranges its resumption. ``await suspend(thunk)`` is the only operation that the loop has to offer:
a nap, an exchange between two coroutines, a future of another library, and input that does not come
from a socket take a few lines each. The input is a coroutine function, which can be replaced. The
time is given by the loop's clock and selector, which can be replaced too::

    python docs/examples/thunks.py              # simulated time: hours pass in an instant
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
    """Suspend for some seconds: a timer calls ``resume``; a cancellation cancels the timer."""
    loop = runtime.get_running_loop()

    def arm(resume: runtime.Resume[None]) -> Callable[[], None]:
        return loop.call_later(seconds, resume, None).cancel

    await runtime.suspend(arm)


class Exchange(Generic[T]):
    """Passes values from one coroutine to another; each waits for its counterpart."""

    def __init__(self) -> None:
        self._givers: deque[tuple[runtime.Resume[None], T]] = deque()
        self._takers: deque[runtime.Resume[T]] = deque()

    async def give(self, value: T) -> None:
        """Pass a value to a coroutine that takes it."""

        def arm(resume: runtime.Resume[None]) -> Callable[[], None]:
            entry = resume, value
            self._givers.append(entry)
            return lambda: self._givers.remove(entry)

        if self._takers:
            self._takers.popleft()(value)
        else:
            await runtime.suspend(arm)

    async def take(self) -> T:
        """Return a value from a coroutine that gives it."""

        def arm(resume: runtime.Resume[T]) -> Callable[[], None]:
            self._takers.append(resume)
            return lambda: self._takers.remove(resume)

        if not self._givers:
            return await runtime.suspend(arm)
        resume, value = self._givers.popleft()
        resume(None)
        return value


async def result_of(future: concurrent.futures.Future[T]) -> T:
    """Return the result of a concurrent future, which another thread may finish."""

    def arm(resume: runtime.Resume[None]) -> Callable[[], object]:
        future.add_done_callback(lambda _: resume(None))
        return future.cancel

    await runtime.suspend(arm)
    return future.result()


# -- Time and input that can be replaced -----------------------------------------------------------


class SimulatedTime(selectors.DefaultSelector):
    """A selector that advances a simulated clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def clock(self) -> float:
        """Return the simulated time in seconds."""
        return self.now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready descriptors; if there are none, advance the clock by ``timeout``."""
        events = super().select(0 if timeout is not None else None)
        if not events and timeout is not None:
            self.now += timeout
        return events


Input = Callable[[], Awaitable[str]]
"""A source of words: a coroutine function that returns the next one, and "" at the end."""


def scripted(*words: str, every: float) -> Input:
    """Return an input that delivers the given words, one ``every`` seconds."""
    rest = deque(words)

    async def read() -> str:
        await nap(every)
        return rest.popleft() if rest else ""

    return read


# -- Demonstration ---------------------------------------------------------------------------------


async def listener(read: Input, words: Exchange[str]) -> None:
    """Read words, and give them to the exchange."""
    while word := await read():
        await words.give(word)
    await words.give("")


async def speaker(words: Exchange[str], hour: float) -> None:
    """Take words from the exchange, and print them with the time."""
    loop = runtime.get_running_loop()
    started = loop.time()
    while word := await words.take():
        print(f"after {(loop.time() - started) / hour:.0f} h: {word}")


async def demonstrate(hour: float) -> None:
    """Pass words through an exchange for some hours; then wait for a thread."""
    words: Exchange[str] = Exchange()
    async with runtime.TaskGroup() as group:
        group.create_task(listener(scripted("good", "evening", every=hour), words))
        group.create_task(speaker(words, hour))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        print("a thread says", await result_of(pool.submit(sum, [1, 2, 3])))


def simulated_loop() -> runtime.Loop:
    """Return a loop with simulated time."""
    time = SimulatedTime()
    return runtime.Loop(time, time.clock)


def main() -> None:
    """Parse the command line, and run the demonstration."""
    parser = argparse.ArgumentParser(description="New kinds of suspension.")
    parser.add_argument("--real-time", type=float, metavar="SECONDS", help="seconds in an hour")
    seconds = parser.parse_args().real_time
    if seconds is None:
        runtime.run(demonstrate(3600), loop_factory=simulated_loop)
    else:
        runtime.run(demonstrate(seconds))


if __name__ == "__main__":
    main()

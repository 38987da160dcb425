"""Suspensions of coroutines in cancelled scopes: where a task waits, and who holds a scope.

**Tasks that refuse to end.** In a cancelled scope each ``await`` that suspends raises
CancelledError. Code may catch it and await again; a loop of that would take all of the processor.
So a task is interrupted at one place only so often. A place is a coroutine object, together with
the instruction at which it is suspended::

    task --> main() --> serve() --> read() --> future
             known      known       new

A coroutine is known if the task was inside it at its last interruption. The innermost known one is
where the CancelledError of that interruption was caught. If it awaits the future itself, so that
nothing new was called, it is interrupted there once. Otherwise it calls a new coroutine for each
attempt, as a loop that closes many connections does, and is interrupted there up to ``MOST`` times.
So is a generator that yields the futures itself, and a coroutine that awaits an object with methods
of its own in the place of a coroutine's: they may step other coroutines by hand, which cannot be
seen. After that the task waits until what it awaits is done, and costs nothing meanwhile.

**Generators.** A scope that an asynchronous generator holds while it is suspended at a ``yield`` is
in force in the code that iterates over the generator (PEP 789). ``is_at_yield`` finds out.

This module is interpreted: its code runs only in cancelled scopes, and in asynchronous generators.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any, Final

from runtime.kernel.diagnostics.describe import (
    await_frames,
    coroutine_frame,
    is_library_frame,
    unwrap_awaitable,
)

MOST: Final = 100
"""How often one place is interrupted that may call a new coroutine for each attempt."""

_DEEPEST: Final = 1000
"""Maximum number of coroutines, one inside the other, that are looked at."""

_FUTURES: Final = ("runtime.kernel.future", "asyncio.futures")
"""Modules whose generators, those of ``__await__``, are part of the awaited future."""

_ITERATORS: Final = ("runtime.kernel.", "_asyncio")
"""Modules with types of iterators that ``__await__`` returns, and that yield the future itself."""

_Place = tuple[object, int]


class Interruptions:
    """The places at which the tasks in one cancelled scope were interrupted."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # For each task, the coroutines that it was inside of at its last interruption, and for each
        # of these the number of interruptions at each instruction.
        self._known: dict[Any, dict[object, dict[int, int]]] = {}

    def admit(self, task: Any) -> bool:
        """Return whether the task, which is suspended, is to be interrupted; note it if so."""
        places, awaits_future = _places_of(task.get_coro())
        known = self._known.get(task, {})
        depth = len(places) - 1
        while depth >= 0 and places[depth][0] not in known:
            depth -= 1
        if depth >= 0:
            coro, instruction = places[depth]
            limit = 1 if depth == len(places) - 1 and awaits_future else MOST
            if known[coro].get(instruction, 0) >= limit:
                return False
        now: dict[object, dict[int, int]] = {}
        for index, (coro, instruction) in enumerate(places):
            counts = now[coro] = known.get(coro, {})
            if index >= depth:
                counts[instruction] = counts.get(instruction, 0) + 1
        self._known[task] = now
        return True


def _places_of(coro: object) -> tuple[list[_Place], bool]:
    """Return the coroutines that a suspended task is inside of, from the outermost one.

    Returns as well whether the innermost one certainly awaits a future itself.
    """
    places: list[_Place] = []
    awaits_future = False
    while coro is not None and len(places) < _DEEPEST:
        coro = unwrap_awaitable(coro)
        frame = coroutine_frame(coro)
        if frame is None or _module_of(frame) in _FUTURES:
            if not places:
                places.append((type(coro), 0))  # A task of a coroutine that is compiled, perhaps.
            elif frame is not None or type(coro).__module__.startswith(_ITERATORS):
                awaits_future = not inspect.isgenerator(places[-1][0])
            break
        places.append((coro, frame.f_lasti))
        coro = _awaited_by(coro)
    return places, awaits_future


def _awaited_by(coro: object) -> object:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        awaited: object = getattr(coro, name, None)
        if awaited is not None:
            return awaited
    return None


# -- Asynchronous generators -----------------------------------------------------------------------


async def _sample() -> Any:
    yield


_RESUME: Final = _sample.__code__.co_code[4]
"""The instruction at which a frame continues; at the begin of a coroutine it is the third one."""

_AFTER_YIELD: Final = 1
"""The lowest two bits of its argument after a ``yield``. After an ``await`` they are 3."""


def is_at_yield(frame: FrameType) -> bool:
    """Return whether the frame of an asynchronous generator is suspended at a ``yield``."""
    code = frame.f_code.co_code
    # Up to CPython 3.13 the last instruction is the one before.
    for place in (frame.f_lasti, frame.f_lasti + 2):
        if code[place : place + 1] == bytes((_RESUME,)):
            return code[place + 1] & 3 == _AFTER_YIELD
    return False


_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_DRIVERS: Final = ("contextlib", "runtime.testing.", "_pytest.", "pytest_asyncio.", "anyio.")
"""Modules that make a context manager or a fixture of a generator, which it may be suspended in."""


def holder_of(frame: FrameType) -> FrameType:
    """Return the frame whose block a scope belongs to that was entered in ``frame``.

    Methods of context managers, and generators of which a decorator has made context managers, are
    left out: the block is that of their caller.
    """
    while (caller := frame.f_back) is not None:
        if not (
            frame.f_code.co_name in ("__enter__", "__aenter__")
            or _module_of(frame) == "contextlib"
            or (frame.f_code.co_flags & _GENERATORS and _module_of(caller).startswith(_DRIVERS))
        ):
            break
        frame = caller
    return frame


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def is_of_generator(frame: FrameType) -> bool:
    """Return whether a frame is that of an asynchronous generator."""
    return bool(frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR)


def place_of_wait(coro: object) -> str:
    """Return the line of the program at which a coroutine is suspended."""
    frames = await_frames(coro)
    while len(frames) > 1 and is_library_frame(frames[-1]):
        frames.pop()
    if not frames:
        return "an unknown line"
    code = frames[-1].f_code
    return f"{code.co_filename}:{frames[-1].f_lineno} in {code.co_qualname}()"

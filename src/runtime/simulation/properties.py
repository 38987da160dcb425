"""Functions for programs that are simulated: choices, conditions, and cancellations.

``sometimes`` and ``always`` may stay in production code: outside of a simulated run they do
nothing. So do ``cancel_anywhere`` and the early expiry of ``maybe_timeout``. The functions that
make choices need a run.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MethodType, TracebackType
from typing import Any, TypeVar

from runtime.kernel.arguments.seconds import Seconds
from runtime.simulation.checks import (
    check_function,
    check_label,
    check_number,
    check_probability,
    check_text,
)
from runtime.simulation.current import Victim, current_run, needed_run
from runtime.simulation.errors import InvariantError
from runtime.simulation.watching import watch
from runtime.sync.timeouts import Timeout, timeout

T = TypeVar("T")


def integer(count: int, label: str = "integer") -> int:
    """Return a number from 0 to ``count - 1``, as a choice of the run; 0 is the usual.

    Raises TypeError or ValueError unless ``count`` is a positive whole number and ``label`` a
    printable text, and RuntimeError outside of a run.
    """
    run = needed_run("integer")
    check_number("count", count, 1)
    check_label(label)
    return run.choices.integer(count, label)


def choice(options: Sequence[T], label: str = "choice") -> T:
    """Return one of ``options``, as a choice of the run; the first one is the usual.

    Raises ValueError if there are none, TypeError if ``options`` is not a sequence, TypeError or
    ValueError unless ``label`` is a printable text, and RuntimeError outside of a run.

    >>> from runtime import simulation
    >>> async def main():
    ...     return simulation.choice(["usual", "rare"])
    >>> simulation.run(main)
    'usual'
    """
    run = needed_run("choice")
    if isinstance(options, Mapping) or not hasattr(type(options), "__getitem__"):
        raise TypeError(f"simulation.choice() expected a sequence, such as a list, got {options!r}")
    check_label(label)
    if not len(options):
        raise ValueError(
            f"simulation.choice() expected a sequence with at least one option, got {options!r}"
        )
    return options[run.choices.integer(len(options), label)]


def chance(probability: float, label: str = "chance") -> bool:
    """Return True with the given probability, as a choice of the run; False is the usual.

    Raises TypeError or ValueError unless ``probability`` is a number from 0 to 1 and ``label`` a
    printable text, and RuntimeError outside of a run.
    """
    run = needed_run("chance")
    check_probability("probability", probability)
    check_label(label)
    return run.choices.chance(probability, label)


def invariant(check: Callable[[], object], name: str | None = None) -> None:
    """Have ``check()`` called after every step of the rest of the run.

    If it returns a false value other than None, or raises an exception, the run fails at that step.
    ``name`` is shown in the report, and is by default the name of the function. Raises TypeError
    unless ``check`` can be called, or if it is a coroutine function, TypeError or ValueError unless
    ``name`` is a printable text or None, and RuntimeError outside of a run.

    >>> from runtime import simulation
    >>> async def main():
    ...     account = {"balance": 10}
    ...     simulation.invariant(lambda: account["balance"] >= 0, "the balance is not negative")
    ...     account["balance"] -= 11
    >>> simulation.run(main)
    Traceback (most recent call last):
    ...
    runtime.simulation.errors.InvariantError: the balance is not negative
    """
    run = needed_run("invariant")
    check_function("check", check)
    if name is not None:
        check_text("name", name)
    run.invariants.append((check, name or str(getattr(check, "__qualname__", repr(check)))))
    watch(run)


def sometimes(condition: object, label: str) -> None:
    """Note whether ``condition`` is true here in at least one of the runs of an exploration.

    The exploration lists the labels for which it never was, so that a test which does not reach
    the case it is about is noticed. Outside of a run it does nothing. Raises TypeError for a
    condition that is a function or a coroutine, which is always true, and TypeError or ValueError
    unless ``label`` is a printable text.
    """
    run = current_run()
    if run is not None:
        _check_condition(condition, label)
        run.reached[label] = run.reached.get(label, False) or bool(condition)


def always(condition: object, label: str) -> None:
    """Raise InvariantError if ``condition`` is false. Outside of a run it does nothing.

    Raises TypeError for a condition that is a function or a coroutine, which is always true, and
    TypeError or ValueError unless ``label`` is a printable text.
    """
    run = current_run()
    if run is not None:
        _check_condition(condition, label)
        run.reached.setdefault(label, True)
        if not condition:
            raise InvariantError(label)


def _check_condition(condition: object, label: object) -> None:
    """Raise TypeError for a condition that is always true because it was not called or awaited."""
    check_label(label)
    if isinstance(condition, FunctionType | MethodType):
        raise TypeError(f"condition must be a value, got the function {condition!r}: call it")
    if inspect.iscoroutine(condition):
        condition.close()
        raise TypeError(f"condition must be a value, got {condition!r}: await it")


def cancel_anywhere(task: Any = None, *, times: int = 1) -> None:
    """Let a task be cancelled at any of its awaits, up to ``times`` times.

    ``task`` is by default the current one. Whether and where it is cancelled is a choice of the
    run: when the task suspends, and when it is about to resume. In the latter case the result that
    it waited for is there already, and is lost unless the program takes care. Outside of a run it
    does nothing. Raises TypeError or ValueError unless ``task`` is a task, and ``times`` a positive
    whole number, and RuntimeError if there is no current task.
    """
    check_number("times", times, 1)
    if task is not None and not (asyncio.isfuture(task) and hasattr(task, "get_coro")):
        raise TypeError(f"simulation.cancel_anywhere() expected a task, got {task!r}")
    run = current_run()
    if run is None:
        return
    target: Any = asyncio.current_task() if task is None else task
    if target is None:
        raise RuntimeError(
            "simulation.cancel_anywhere() expected a task outside of all tasks: pass the one that "
            "may be cancelled"
        )
    run.victims.append(Victim(target, target.cancel, "cancel", times))
    watch(run)


class maybe_timeout:  # it is used like a function, as asyncio.timeout is
    """A ``runtime.timeout`` that, in a simulated run, may expire early at any await in its block.

    Whether and where it does is a choice of the run. Outside of a run, it is the timeout itself.
    The arguments and exceptions are those of ``runtime.timeout``.

    >>> import runtime
    >>> from runtime import simulation
    >>> async def main():
    ...     async with simulation.maybe_timeout(10):
    ...         await runtime.sleep(5)
    ...     return "in time"
    >>> simulation.run(main)
    'in time'
    """

    def __init__(self, delay: Seconds | None) -> None:
        self._timeout = timeout(delay)
        self._victim: Victim | None = None

    async def __aenter__(self) -> Timeout:
        entered = await self._timeout.__aenter__()
        run = current_run()
        if run is not None:
            self._victim = Victim(asyncio.current_task(), self._expire, "timeout")
            run.victims.append(self._victim)
            watch(run)
        return entered

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        run = current_run()
        if run is not None and self._victim in run.victims:
            run.victims.remove(self._victim)
        return await self._timeout.__aexit__(exc_type, exc, traceback)

    def _expire(self) -> None:
        self._timeout.reschedule(0.0)

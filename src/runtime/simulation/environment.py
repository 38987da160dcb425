"""The environment of a simulated run: time, chance, and what would leave the simulation.

During a run, functions of the standard library are replaced, and restored afterwards in any
case. The replacements are seen by code that looks a function up in its module when it calls it, as
``time.time()`` does, and not by code that has stored the function itself before.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import os
import queue
import random
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

from runtime.simulation.current import CurrentRun, current_run
from runtime.simulation.errors import OutsideError

EPOCH = 1767225600.0
"""The time of day when a run begins: 2026-01-01, midnight UTC."""

_real_datetime = datetime.datetime
_real_date = datetime.date
_real_time = time.time


def _clocks(*names: str) -> frozenset[int]:
    return frozenset(getattr(time, name) for name in names if hasattr(time, name))


_WALL_CLOCKS: Final = _clocks("CLOCK_REALTIME", "CLOCK_TAI")
_MONOTONIC_CLOCKS: Final = _clocks(
    "CLOCK_BOOTTIME",
    "CLOCK_HIGHRES",
    "CLOCK_MONOTONIC",
    "CLOCK_MONOTONIC_RAW",
    "CLOCK_UPTIME",
    "CLOCK_UPTIME_RAW",
)
"""The clocks of ``time.clock_gettime`` that are controlled; CPU time is not."""

_UUID_STATE: Final = {
    "_generate_time_safe": None,
    "_node": 0x02_00_00_00_00_01,
    "_last_timestamp": None,
    "_last_timestamp_v6": None,
    "_last_timestamp_v7": None,
    "_last_counter_v7": 0,
}
"""The state that ``uuid`` keeps between two calls, as in a new process without C functions.

Without it ``uuid1()`` reads its clock in C, and depends on the machine and on earlier calls.
"""


def _wall_clock() -> float:
    run = current_run()
    return EPOCH if run is None else EPOCH + run.clock.now + run.world.clock_offset()


def _moment(name: str) -> float:
    """Return the time of day, for a function ``name`` of the program's ``datetime``."""
    run = current_run()
    if run is not None and run.settings.environment == "report":
        _note(run, name)
        return _real_time()
    return _wall_clock()


class _ActsAsDatetime(type):
    """A class for which instances of the real class are instances, and calls make these."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.__mro__[1])


class _SimulatedDatetime(_real_datetime, metaclass=_ActsAsDatetime):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _real_datetime(*args, **kwargs)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _real_datetime.fromtimestamp(_moment("datetime.now()"), tz)

    @classmethod
    def utcnow(cls) -> Any:
        utc = _real_datetime.fromtimestamp(_moment("datetime.utcnow()"), datetime.UTC)
        return utc.replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return _real_datetime.fromtimestamp(_moment("datetime.today()"))


class _SimulatedDate(_real_date, metaclass=_ActsAsDatetime):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _real_date(*args, **kwargs)

    @classmethod
    def today(cls) -> Any:
        return _real_date.fromtimestamp(_moment("date.today()"))


_simulated_module = types.ModuleType("datetime", datetime.__doc__)
vars(_simulated_module).update(
    {**vars(datetime), "datetime": _SimulatedDatetime, "date": _SimulatedDate}
)

# Compared by identity, because the values of the names of a module may have any ``__eq__``.
_SIMULATED: dict[int, Any] = {
    id(datetime): _simulated_module,
    id(_real_datetime): _SimulatedDatetime,
    id(_real_date): _SimulatedDate,
}

_CLOCK_FUNCTIONS: Final = (
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "process_time_ns",
    "thread_time",
    "thread_time_ns",
    "clock_gettime",
    "clock_gettime_ns",
)

_MOST_ARGUMENTS: Final = {"asctime": 0, "ctime": 0, "gmtime": 0, "localtime": 0, "strftime": 1}
"""Functions that ask for the time if they have no more arguments than that."""

_NOT_RANDOM: Final = ("getstate", "seed", "setstate")
"""Functions of ``random`` that draw no numbers."""

_KEEP_OUT = 'keep it out of the run, or pass outside="allow"'

_NO_THREADS = (
    "calls in executors run in the thread of the loop, one after the other, so that no other code "
    "runs during the wait and can end it. Let a coroutine wait instead, with an asyncio.Event, an "
    "asyncio.Queue or asyncio.wrap_future(), and call the executor for each piece of work; or give "
    "the wait a timeout, which then passes on the clock of the run"
)
"""Advice for code that waits for another thread."""

_uses: dict[tuple[str, int], list[tuple[Any, str, Any]]] = {}


def _uses_of_datetime(name: str | None) -> list[tuple[Any, str, Any]]:
    """Return the modules and names to replace, and their new values, for the package of ``name``.

    The result is remembered until further modules are imported.
    """
    if name is None:
        return []
    key = (name, len(sys.modules))
    if key not in _uses:
        package = name.partition(".")[0]
        _uses[key] = [
            (module, attribute, _SIMULATED[id(value)])
            for module_name, module in list(sys.modules.items())
            if module_name == package or module_name.startswith(f"{package}.")
            for attribute, value in list(getattr(module, "__dict__", {}).items())
            if id(value) in _SIMULATED
        ]
    return _uses[key]


class ControlledEnvironment:
    """A context manager that puts the environment under the control of ``run``.

    ``module`` is the name of the module of the program. In it, and in the others of its package,
    the names for ``datetime``, and for its classes, are replaced. They stay as they are elsewhere:
    extensions in C check for the real classes.
    """

    def __init__(self, run: CurrentRun, module: str | None = None) -> None:
        self._run = run
        self._module = module
        self._saved: list[tuple[Any, str, Any]] = []
        self._bytes = random.Random(run.seed)
        # Another one, because programs keep generators from one run to the next.
        self._seeds = random.Random(f"seeds of {run.seed}")
        self._random_state: Any = None

    def __enter__(self) -> None:
        run = self._run
        try:
            if run.settings.environment == "control":
                self._random_state = random.getstate()
                random.seed(run.seed)
                self._control()
            elif run.settings.environment == "report":
                self._report()
            self._guard()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._saved:
            owner, name, value = self._saved.pop()
            setattr(owner, name, value)
        if self._random_state is not None:
            random.setstate(self._random_state)
            self._random_state = None

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._saved.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def _control(self) -> None:
        clock = self._run.clock
        replace = self._replace
        for name in ("monotonic", "perf_counter"):
            replace(time, name, lambda: clock.now)
            replace(time, f"{name}_ns", lambda: round(clock.now * 1e9))
        replace(time, "time", _wall_clock)
        replace(time, "time_ns", lambda: round(_wall_clock() * 1e9))
        replace(time, "sleep", self._sleep)
        self._control_calendar()
        # These measure the timeouts of blocking waits, which have functions of their own.
        replace(threading, "_time", self._passed)
        replace(queue, "time", self._passed)
        replace(os, "urandom", self._bytes.randbytes)
        if hasattr(os, "getrandom"):
            replace(os, "getrandom", lambda size, flags=0: self._bytes.randbytes(size))
        if hasattr(random, "_urandom"):
            replace(random, "_urandom", self._bytes.randbytes)
        self._replace_seeding(lambda name: self._seeds.getrandbits(128))
        for name, state in _UUID_STATE.items():
            if hasattr(uuid, name):
                replace(uuid, name, state)
        for module, name, value in _uses_of_datetime(self._module):
            replace(module, name, value)

    def _control_calendar(self) -> None:
        """Replace the functions of ``time`` that ask for the time unless they are given one."""
        asctime, localtime, strftime = time.asctime, time.localtime, time.strftime
        for function in (time.ctime, time.gmtime, localtime):
            self._replace(time, function.__name__, _given_now(function))
        self._replace(
            time, "asctime", lambda *args: asctime(*(args or (localtime(_wall_clock()),)))
        )
        self._replace(
            time,
            "strftime",
            lambda form, *args: strftime(form, *(args or (localtime(_wall_clock()),))),
        )
        if hasattr(time, "clock_gettime"):
            clock_time = self._time_of_clock(time.clock_gettime)
            self._replace(time, "clock_gettime", clock_time)
            self._replace(time, "clock_gettime_ns", lambda clock: round(clock_time(clock) * 1e9))

    def _time_of_clock(self, original: Callable[[int], float]) -> Callable[[int], float]:
        def clock_gettime(clock: int) -> float:
            if clock in _WALL_CLOCKS:
                return _wall_clock()
            return self._run.clock.now if clock in _MONOTONIC_CLOCKS else original(clock)

        return clock_gettime

    def _replace_seeding(self, seed_for: Callable[[str], int | None]) -> None:
        """Replace the functions that seed a generator of random numbers, by default by chance.

        ``seed_for`` returns the seed, or None for one of the system; its argument is the call.
        """
        seed = random.Random.seed
        generator = random.seed.__self__  # type: ignore[attr-defined]

        def seed_generator(numbers: random.Random, a: Any = None, version: int = 2) -> None:
            seed(numbers, seed_for("random.Random()") if a is None else a, version)

        def seed_module(a: Any = None, version: int = 2) -> None:
            seed(generator, seed_for("random.seed()") if a is None else a, version)

        self._replace(random.Random, "seed", seed_generator)
        self._replace(random, "seed", seed_module)

    def _passed(self) -> float:
        """Return the time, in seconds, with the waits of the call that is running."""
        return self._run.clock.now + (self._run.slept or 0.0)

    def _sleep(self, seconds: float) -> None:
        """Let a blocking sleep take its time on the clock of the run, and no real time."""
        if not seconds >= 0:
            raise ValueError("sleep length must be non-negative")
        run = self._run
        if run.slept is not None:
            run.slept += seconds
        else:
            run.clock.advance(run.clock.now + seconds)

    def _report(self) -> None:
        functions = [name for name in random.__all__ if hasattr(getattr(random, name), "__self__")]
        for owner, names in (
            (time, [*_CLOCK_FUNCTIONS, "sleep", *_MOST_ARGUMENTS]),
            (random, [name for name in functions if name not in _NOT_RANDOM]),
            (os, ["urandom", "getrandom"]),
        ):
            for name in names:
                if hasattr(owner, name):
                    function = self._noted(owner, name, _MOST_ARGUMENTS.get(name))
                    self._replace(owner, name, function)
        self._replace_seeding(self._noted_seed)
        for module, name, value in _uses_of_datetime(self._module):
            self._replace(module, name, value)

    def _noted_seed(self, name: str) -> None:
        _note(self._run, name)

    def _noted(self, owner: Any, name: str, most: int | None) -> Callable[..., Any]:
        """Return a function that notes its calls, or those with no more than ``most`` arguments."""
        function = getattr(owner, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            if most is None or len(args) <= most:
                _note(self._run, f"{owner.__name__}.{name}()")
            return function(*args, **kwargs)

        return noted

    def _guard(self) -> None:
        """Refuse what a simulation cannot control, or note its use."""
        start = threading.Thread.start
        popen = subprocess.Popen.__init__
        result = concurrent.futures.Future.result

        def guarded_start(thread: threading.Thread) -> None:
            target: Any = getattr(thread, "_target", None)
            # The end of a run has a thread that only reports.
            if getattr(target, "__module__", "") != "runtime.ending":
                name = getattr(target, "__qualname__", type(thread).__qualname__)
                self._refuse(f"a thread that runs {name}()")
            start(thread)

        def guarded_popen(process: Any, *args: Any, **kwargs: Any) -> None:
            process.returncode = 0  # For the finalizer, if this raises.
            process._child_created = False
            self._refuse(f"the process {args[0] if args else kwargs.get('args')!r}")
            popen(process, *args, **kwargs)

        def guarded_result(future: Any, timeout: float | None = None) -> Any:
            if not future.done() and timeout != 0:
                self._refuse("a wait for a concurrent future, which blocks the loop,", _NO_THREADS)
            return result(future, timeout)

        wait = threading.Condition.wait
        threads = set(threading.enumerate())

        def guarded_wait(condition: threading.Condition, timeout: float | None = None) -> bool:
            if timeout == 0 or not threads.issuperset(threading.enumerate()):
                return wait(condition, timeout)
            if timeout is None:
                self._refuse("a wait for another thread", _NO_THREADS)
                return wait(condition, timeout)
            # No other thread can end the wait, so that it ends with its timeout.
            self._sleep(max(0.0, timeout))
            return False

        self._replace(threading.Thread, "start", guarded_start)
        self._replace(subprocess.Popen, "__init__", guarded_popen)
        self._replace(concurrent.futures.Future, "result", guarded_result)
        if self._run.settings.environment == "control":
            self._replace(threading.Condition, "wait", guarded_wait)

    def _refuse(self, what: str, advice: str = _KEEP_OUT) -> None:
        place = _caller()
        line = f"{what} at {place}"
        if self._run.settings.outside == "refuse":
            raise OutsideError(
                f"{line} is outside of the simulation, which controls neither threads nor "
                f"processes: {advice}"
            )
        if line not in self._run.outside:
            self._run.outside.append(line)


_INTERNAL = ("runtime.", "asyncio.", "threading", "random", "concurrent.", "subprocess", "logging")


def _note(run: CurrentRun, name: str) -> None:
    """List a call of the program, with its line, as one that is outside of the simulation."""
    place = _caller()
    if place is not None and (line := f"{name} at {place}") not in run.outside:
        run.outside.append(line)


def _given_now(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that passes the time of the run to ``function``, if it is given none."""
    return lambda seconds=None: function(_wall_clock() if seconds is None else seconds)


def _caller() -> str | None:
    """Return the file and line of the innermost frame of the program, if it is that which calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_INTERNAL):
        frame = frame.f_back
    return None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"

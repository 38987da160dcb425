"""The environment of a simulated run: time, chance, and what would leave the simulation.

While a run goes on, functions of the standard library are replaced, and restored afterwards in any
case. The replacements are seen by code that looks a function up in its module when it calls it, as
``time.time()`` does, and not by code that has stored the function itself before.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from runtime.simulation.current import CurrentRun, current_run
from runtime.simulation.errors import OutsideError

EPOCH = 1767225600.0
"""The time of day when a run begins: 2026-01-01, midnight UTC."""

_real_datetime = datetime.datetime
_real_date = datetime.date


def _wall_clock() -> float:
    run = current_run()
    return EPOCH if run is None else EPOCH + run.clock.now + run.world.clock_offset()


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
        return _real_datetime.fromtimestamp(_wall_clock(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        utc = _real_datetime.fromtimestamp(_wall_clock(), datetime.UTC)
        return utc.replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return _real_datetime.fromtimestamp(_wall_clock())


class _SimulatedDate(_real_date, metaclass=_ActsAsDatetime):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _real_date(*args, **kwargs)

    @classmethod
    def today(cls) -> Any:
        return _real_date.fromtimestamp(_wall_clock())


class ControlledEnvironment:
    """A context manager that puts the environment under the control of ``run``.

    ``module`` is the name of the module of the program. If it has imported the class ``datetime``
    or ``date``, its names for them are replaced as well.
    """

    def __init__(self, run: CurrentRun, module: str | None = None) -> None:
        self._run = run
        self._module = sys.modules.get(module) if module is not None else None
        self._saved: list[tuple[Any, str, Any]] = []
        self._bytes = random.Random(run.seed)
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
        replace(os, "urandom", self._bytes.randbytes)
        if hasattr(random, "_urandom"):
            replace(random, "_urandom", self._bytes.randbytes)
        replace(datetime, "datetime", _SimulatedDatetime)
        replace(datetime, "date", _SimulatedDate)
        for name, value in [] if self._module is None else list(vars(self._module).items()):
            if value is _real_datetime:
                replace(self._module, name, _SimulatedDatetime)
            elif value is _real_date:
                replace(self._module, name, _SimulatedDate)

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
        for owner, names in (
            (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep")),
            (random, ("random", "randint", "randrange", "choice", "shuffle", "uniform", "sample")),
            (os, ("urandom",)),
        ):
            for name in names:
                function = getattr(owner, name)
                self._replace(owner, name, self._noted(function, f"{owner.__name__}.{name}()"))

    def _noted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        outside = self._run.outside

        def noted(*args: Any, **kwargs: Any) -> Any:
            place = _caller()
            if place is not None and (line := f"{name} at {place}") not in outside:
                outside.append(line)
            return function(*args, **kwargs)

        return noted

    def _guard(self) -> None:
        """Refuse what a simulation cannot control, or note its use."""
        start = threading.Thread.start
        popen = subprocess.Popen.__init__
        result = concurrent.futures.Future.result

        def guarded_start(thread: threading.Thread) -> None:
            target: Any = getattr(thread, "_target", None)
            if not str(getattr(target, "__module__", "")).startswith("runtime."):
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
                self._refuse("a wait for a concurrent future, which blocks the loop,")
            return result(future, timeout)

        self._replace(threading.Thread, "start", guarded_start)
        self._replace(subprocess.Popen, "__init__", guarded_popen)
        self._replace(concurrent.futures.Future, "result", guarded_result)

    def _refuse(self, what: str) -> None:
        place = _caller()
        line = f"{what} at {place}"
        if self._run.settings.outside == "refuse":
            raise OutsideError(
                f"{line} is outside of the simulation, which controls neither threads nor "
                'processes. Keep it out of the run, or pass outside="allow".'
            )
        if line not in self._run.outside:
            self._run.outside.append(line)


_INTERNAL = ("runtime.", "asyncio.", "threading", "random", "concurrent.", "subprocess", "logging")


def _caller() -> str | None:
    """Return the file and line of the innermost frame of the program, if it is that which calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_INTERNAL):
        frame = frame.f_back
    return None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"

"""Hosts of a world: the tasks, the disk and the clock of a simulated machine; crash and restart.

A task belongs to the host whose code has created it, because the host is recorded in a context
variable, which tasks and callbacks inherit. So do the sockets that the task makes.

A crash ends the tasks of a host where they are suspended, without a ``finally`` or an ``except``:
they are taken out of the ready queue, their futures and timers, and their coroutines are kept
unfinished until the run is over. Only then are these closed, so that their clean-up, which Python
insists on, can no longer touch anything of the world.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from typing import Any, TypeVar, cast

from runtime.kernel.daemons import daemon_context
from runtime.kernel.future import FutureCore, fail_future, unsubscribe
from runtime.kernel.handles import ContextRunnable, Handle
from runtime.kernel.public_types import Task
from runtime.kernel.sleep_future import SleepFuture
from runtime.kernel.task import TaskCore
from runtime.loop import Loop
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.datagrams.datagram_socket import DatagramSocket
from runtime.simulation.checks import Checked, check_offset
from runtime.simulation.choices import Choices
from runtime.simulation.current import current_run
from runtime.simulation.disk import Disk
from runtime.simulation.network.machine import Machine, current_machine
from runtime.simulation.network.wire import Wire

T = TypeVar("T")


class HostCrashedError(RuntimeError):
    """Raised by ``await task`` on another host if the host of the task has crashed."""


class _Program:
    """A coroutine function that ``Host.start`` has run, with its arguments and its last task."""

    def __init__(
        self, main: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]
    ) -> None:
        self.main = main
        self.args = args
        # A reference that does not keep the task, so that its exception is reported like any other.
        self.task: Callable[[], Task[Any] | None] = _no_task


class Host(Machine):
    """A machine of a simulated world, from ``world.host(name)``.

    ``disk`` is its disk. ``clock_offset`` is the number of seconds by which its wall clock, that of
    ``time.time()``, is ahead; the program changes it to let the clock be wrong, or jump. The most
    descriptors that the host may have open are ``descriptor_limit``, None for no limit, and
    ``descriptor_failures`` is the probability that opening one fails with EMFILE.

    >>> from runtime import simulation
    >>> async def serve():
    ...     disk = simulation.current_world().disk
    ...     with disk.open("starts", "ab") as file:
    ...         file.write(b"x")
    ...         disk.fsync(file)
    ...     await runtime.sleep(3600)
    >>> async def main():
    ...     server = simulation.current_world().host("server")
    ...     server.start(serve)
    ...     await runtime.sleep(1)
    ...     server.crash()
    ...     server.restart()
    ...     await runtime.sleep(1)
    ...     return server.disk.read("starts")
    >>> import runtime
    >>> simulation.run(main)
    b'xx'
    """

    clock_offset = Checked(0.0, check_offset)

    def __init__(
        self, name: str, number: int, wire: Wire, choices: Choices, graveyard: Graveyard
    ) -> None:
        super().__init__(name, number)
        self._wire = wire
        self._graveyard = graveyard
        # Whether this is the host of the code that runs on no other.
        self._is_first = number == 1
        self._programs: list[_Program] = []
        # Whether kill() has ended the programs, so that the next one takes their place.
        self._is_killed = False
        self.disk = Disk(choices)

    # -- Running -----------------------------------------------------------------------------------

    def create_task(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> Task[T]:
        """Run a coroutine on this host; return its task.

        Raises RuntimeError if the host is down.
        """
        if not self.is_up:
            coro.close()
            raise RuntimeError(f"{self!r} is down: restart() it first")
        return _loop().create_task(coro, name=name, context=self._context())

    def start(self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Task[T]:
        """Run ``main(*args)`` on this host, now and after each ``restart()``; return the task.

        Each call adds a program to those of the host; but after ``kill()``, the next one takes the
        place of those that were killed. If it fails, and no task awaits it, the run fails with
        UnretrievedError, as for any task. Raises TypeError unless ``main`` is a function, and
        RuntimeError if the host is down.
        """
        given: object = main
        if inspect.iscoroutine(given):
            given.close()
            raise TypeError(
                "start() calls the function after each restart: pass the coroutine function "
                "itself, without calling it"
            )
        if not callable(main):
            raise TypeError(f"start() expected a coroutine function, got {main!r}")
        program = _Program(main, args)
        task = self._run(program)
        if self._is_killed:
            self._programs.clear()
            self._is_killed = False
        self._programs.append(program)
        return task

    def _run(self, program: _Program) -> Task[Any]:
        """Run a program; return its task."""
        coro = program.main(*program.args)
        task = self.create_task(coro, name=f"{self.name}: {_name_of(program.main)}")
        program.task = weakref.ref(task)
        return task

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let the code of a ``with`` block, and the tasks that it creates, belong to this host."""
        token = current_machine.set(self)
        try:
            yield
        finally:
            current_machine.reset(token)

    def _context(self) -> Context:
        context = daemon_context(None, daemon=True) if self.is_background else copy_context()
        context.run(current_machine.set, self)
        return context

    # -- Faults ------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Let the host lose its power: its tasks vanish, and what its disk had not synced.

        Its peers are not told: to them it is silent. If a task of the host itself calls this, the
        crash comes in the next turn of the loop. Raises RuntimeError for the first host, ``main``,
        which runs the program itself.
        """
        self._end(self._lose_power)

    def kill(self) -> None:
        """Let the processes of the host end, as by SIGKILL: its tasks vanish, and nothing else.

        The system closes their sockets, so that the peers are told. The disk keeps what was
        written. Raises RuntimeError for the first host, ``main``, which runs the program itself.
        """
        self._end(self._close_endpoints)

    def restart(self) -> None:
        """Give the host its power back, and run what ``start()`` had run.

        Data for connections from before is answered with a reset. Raises RuntimeError if a part of
        that still runs.
        """
        tasks = [program.task() for program in self._programs]
        if any(task is not None and not task.done() for task in tasks):
            raise RuntimeError(f"{self!r} runs: crash() or kill() it first")
        self.is_up = True
        self._is_killed = False
        self._wire.powered(self)
        for program in self._programs:
            self._run(program)

    def _end(self, lose: Callable[[], None]) -> None:
        if self._is_first:
            raise RuntimeError(
                f"{self!r} runs the program that is simulated, which cannot end it: run the part "
                "that is to end on another host, with world.host(name).start(...)"
            )
        loop = _loop()
        current = loop._current
        if current is not None and _is_of(current.get_context(), self):
            loop.call_soon(self._end_now, loop, lose, context=Context())
        else:
            self._end_now(loop, lose)

    def _end_now(self, loop: Loop, lose: Callable[[], None]) -> None:
        for endpoint in list(self.endpoints):
            for fd in endpoint.descriptors:
                watcher = loop._poller.watcher(fd)
                if watcher is not None:
                    loop._poller.watch(watcher, 0)
                    self._graveyard.objects.append(watcher)
        lose()
        self._graveyard.bury(loop, self)

    def _lose_power(self) -> None:
        self.is_up = False
        self._is_killed = False
        for endpoint in list(self.endpoints):
            endpoint.vanish()
        self.disk.crash()

    def _close_endpoints(self) -> None:
        self._is_killed = True
        for endpoint in list(self.endpoints):
            endpoint.close()
            endpoint.is_dead = True


class Graveyard:
    """The coroutines and callbacks of crashed hosts, which must not run any more."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self._tasks: list[TaskCore] = []

    def bury(self, loop: Loop, host: Host) -> None:
        """Take everything of ``host`` out of the loop."""
        doomed = [
            task
            for task in loop._tasks
            if isinstance(task, TaskCore) and _is_of(task.get_context(), host)
        ]
        run = current_run()
        held: list[Any] = [] if run is None else run.schedule.held
        queues: tuple[Any, ...] = (loop._ready, loop._inbound, held)
        for queue in queues:
            for index, entry in enumerate(queue):
                if _is_owned(entry, host):
                    self.objects.append(entry)
                    queue[index] = _inert(loop)
        for timer in loop._timers.pending():
            if isinstance(timer, Handle) and _is_owned(timer, host):
                timer.cancel()
        for task in doomed:
            _detach(loop, task)
        self._tasks += doomed
        for task in doomed:
            for subscriber in (task._waiter, *(task._subscribers or ())):
                if isinstance(subscriber, ContextRunnable) and _is_owned(subscriber, host):
                    unsubscribe(task, subscriber)
            fail_future(task, HostCrashedError(f"{host.name} has crashed"))
            task.exception()  # It counts as retrieved.

    def close(self) -> None:
        """Close the coroutines, after the run: whatever they do for clean-up has no effect."""
        if not self._tasks and not self.objects:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in self._tasks:
                with contextlib.suppress(Exception, asyncio.CancelledError, GeneratorExit):
                    task.get_context().run(task.get_coro().close)
            for each in self.objects:
                if isinstance(each, (StreamSocket, DatagramSocket)):
                    with contextlib.suppress(Exception):
                        each.fail(None)
            self._tasks.clear()
            self.objects.clear()
            # Collect the objects of crashed hosts, whose finalizers warn of open transports. The
            # collector is off during a run, so they are all in the youngest generations.
            gc.collect(1)


def _detach(loop: Loop, task: TaskCore) -> None:
    """Unsubscribe a task from its future, and remove it from the loop."""
    awaited = task._waits_for()
    task._awaited = None
    task._foreign = None
    if isinstance(awaited, FutureCore):
        unsubscribe(awaited, task)
        if isinstance(awaited, SleepFuture):
            awaited.cancel()
    elif awaited is not None:
        awaited.remove_done_callback(task._on_foreign_done)
    loop._tasks.pop(task, None)


def _is_owned(entry: object, host: Host) -> bool:
    get_context: Any = getattr(entry, "get_context", None)
    context: Context | None = None if get_context is None else get_context()
    return context is not None and _is_of(context, host)


def _is_of(context: Context, host: Host) -> bool:
    return context.get(current_machine) is host


def _inert(loop: Loop) -> Handle:
    """Return an entry for the ready queue that does nothing."""
    handle = Handle(_nothing, (), loop, Context())
    handle.cancel()
    return handle


def _no_task() -> None:
    return None


def _nothing() -> None:
    pass


def _loop() -> Loop:
    return cast(Loop, asyncio.get_running_loop())


def _name_of(function: object) -> str:
    name: str = getattr(function, "__name__", type(function).__name__)
    return name

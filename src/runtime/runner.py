"""``run`` and ``Runner``: from a coroutine to a program.

At the end, in this order: the remaining tasks are cancelled and awaited, asynchronous generators
are closed, the default executor's threads are joined, the loop is closed.

Source: "Runners" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import functools
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Literal, TypeVar

from runtime.kernel.deadlock import deadlock_of
from runtime.kernel.errors import CancelledError
from runtime.kernel.idle import ordinary_tasks
from runtime.kernel.mistakes import instead_of_awaiting
from runtime.kernel.signal_handlers import get_handler, set_handler
from runtime.kernel.task import cancel_all
from runtime.kernel.types import Future, Task, await_it
from runtime.loop import Loop, new_event_loop

T = TypeVar("T")

_EXECUTOR_PATIENCE = 300.0
"""Seconds that the end of a run waits for the threads of the default executor."""


class _State(enum.Enum):
    CREATED = "created"
    INITIALIZED = "initialized"
    CLOSED = "closed"


class Runner:
    """A loop and a context in which several coroutines are run one after the other.

    Use it in a ``with`` statement. ``debug`` turns debug mode on or off, None leaves it as the
    interpreter's options have it; ``loop_factory`` makes the loop.
    """

    def __init__(
        self, *, debug: bool | None = None, loop_factory: Callable[[], Loop] | None = None
    ) -> None:
        self._state = _State.CREATED
        self._debug = debug
        self._loop_factory = loop_factory
        self._loop: Loop | None = None
        self._context: contextvars.Context | None = None
        self._interrupts = 0

    def __enter__(self) -> Runner:
        self._lazy_init()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what still runs, wait for it, and close the loop. Closing twice is fine."""
        loop = self._loop
        if self._state is not _State.INITIALIZED or loop is None:
            self._state = _State.CLOSED
            return
        try:
            _cancel_remaining_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor(_EXECUTOR_PATIENCE))
        finally:
            loop.close()
            self._loop = None
            self._state = _State.CLOSED

    def get_loop(self) -> Loop:
        """Return the loop."""
        return self._lazy_init()

    def run(
        self,
        coro: Awaitable[T],
        *,
        context: contextvars.Context | None = None,
        until: Literal["done", "idle"] = "done",
    ) -> T:
        """Run a coroutine, or another awaitable, to its end and return its result.

        It runs in ``context``, by default the runner's own. In the main thread the first Ctrl-C
        cancels it, and is raised as KeyboardInterrupt when it has ended; a second one is raised at
        once. With ``until="idle"`` the loop goes on, after that, as in ``runtime.run``; what then
        still waits is left to the next run, or to ``close()``. Raises RuntimeError when a loop is
        running in this thread.
        """
        if until not in ("done", "idle"):
            _close_coroutine(coro)
            raise ValueError(f'until is "done" or "idle", not {until!r}.')
        _refuse_within_a_run("run()", coro)
        if not asyncio.iscoroutine(coro) and not hasattr(coro, "__await__"):
            raise TypeError(
                f"run() needs a coroutine or another awaitable, not {coro!r}"
                + instead_of_awaiting(coro)
            )
        main: Coroutine[Any, Any, T] = coro if asyncio.iscoroutine(coro) else await_it(coro)
        try:
            loop = self._lazy_init()
        except BaseException:
            _close_coroutine(main)
            raise
        task = loop.create_task(main, context=context if context is not None else self._context)
        self._interrupts = 0
        handler = self._install_interrupt_handler(task)
        try:
            result: T
            if until == "idle":
                result = _run_until_idle(loop, task)
            else:
                result = loop.run_until_complete(task)
            return result
        except CancelledError:
            if self._interrupts > 0 and task.uncancel() == 0:
                raise KeyboardInterrupt() from None
            raise
        finally:
            if handler is not None and get_handler(signal.SIGINT) is handler:
                set_handler(signal.SIGINT, signal.default_int_handler)

    def _lazy_init(self) -> Loop:
        if self._state is _State.CLOSED:
            raise RuntimeError("Runner is closed")
        if self._loop is None:
            self._loop = (self._loop_factory or new_event_loop)()
            if self._debug is not None:
                self._loop.set_debug(self._debug)
            self._context = contextvars.copy_context()
            self._state = _State.INITIALIZED
        return self._loop

    def _install_interrupt_handler(self, task: Task[Any]) -> _OnInterrupt | None:
        if (
            threading.current_thread() is not threading.main_thread()
            or get_handler(signal.SIGINT) is not signal.default_int_handler
        ):
            return None
        handler = _OnInterrupt(self, task)
        try:
            set_handler(signal.SIGINT, handler)
        except ValueError:  # A subinterpreter has a main thread, but no signals.
            return None
        return handler

    def on_interrupt(self, task: Task[Any]) -> None:
        """Handle Ctrl-C while ``task`` is the main task."""
        self._interrupts += 1
        if self._interrupts == 1 and not task.done():
            task.cancel()
            task.get_loop().wake()
            return
        raise KeyboardInterrupt()


class _OnInterrupt:
    """The handler of SIGINT while a runner runs a main task.

    It is an object whose ``repr`` looks at nothing: ``signal.getsignal`` takes that of the handler
    on some versions of Python, also where the program asks for it.
    """

    __slots__ = ("_runner", "_task")

    def __init__(self, runner: Runner, task: Task[Any]) -> None:
        self._runner = runner
        self._task = task

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._runner.on_interrupt(self._task)


def run(
    main: Awaitable[T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], Loop] | None = None,
    until: Literal["done", "idle"] = "done",
) -> T:
    """Run a coroutine, or another awaitable, in a new event loop, clean up, and return its result.

    ``debug`` turns debug mode on or off; ``loop_factory`` makes the loop, by default
    ``new_event_loop``. Whatever still runs when ``main`` ends is cancelled and awaited. Ctrl-C
    cancels ``main``; a second one interrupts at once. Raises what ``main`` raises, and RuntimeError
    when a loop is running in this thread.

    With ``until="idle"`` the loop goes on when ``main`` has returned, until nothing can run any
    more: nothing is ready, no timer is set, no descriptor and no signal is watched, no call runs in
    an executor, and no thread lives that was started meanwhile, but for daemon threads. What daemon
    tasks have to do with does not count: see ``create_task``. Daemons, and tasks that wait for what
    can never come, are then cancelled and awaited, as always at the end. If ``main`` is among them,
    DeadlockError is raised. If it fails, the run ends at once.

    >>> async def main():
    ...     return 42
    >>> run(main())
    42
    """
    _refuse_within_a_run("runtime.run()", main)
    runner = Runner(debug=debug, loop_factory=loop_factory)
    try:
        # The loop is made in there, so that the coroutine is closed when that fails.
        return runner.run(main, until=until)
    finally:
        runner.close()


def _run_until_idle(loop: Loop, task: Task[T]) -> T:
    """Run until nothing can run any more, or ``task`` has failed; return its result."""
    on_end = functools.partial(_stop_after_failure, loop)
    task.add_done_callback(on_end)
    try:
        idle = loop.run_until_idle()
    finally:
        task.remove_done_callback(on_end)
    if task.done():
        return task.result()
    if idle:
        raise deadlock_of(ordinary_tasks(loop))
    raise RuntimeError(f"Event loop stopped before {task!r} completed.")


def _stop_after_failure(loop: Loop, task: Task[Any]) -> None:
    if task.cancelled() or task.exception() is not None:
        loop.stop()


def _refuse_within_a_run(function: str, main: object) -> None:
    """Raise RuntimeError, and close the coroutine, where an event loop runs in this thread."""
    running = asyncio._get_running_loop()
    if running is None:
        return
    _close_coroutine(main)
    advice = "await the coroutine instead."
    if not isinstance(running, Loop):
        advice = (
            f"{running!r} runs here, as in a notebook. Run it in a thread: "
            "await asyncio.to_thread(runtime.run, main())."
        )
    raise RuntimeError(f"{function} cannot be called from a running event loop: {advice}")


def _close_coroutine(coro: object) -> None:
    """Close a coroutine that will not be run: a warning that it never was would add nothing."""
    if asyncio.iscoroutine(coro):
        coro.close()


def _cancel_remaining_tasks(loop: Loop) -> None:
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    cancel_all(loop, tasks)
    loop.run_until_complete(_settle(loop, tasks))
    for task in tasks:
        if task.cancelled():
            continue
        error = task.exception()
        if error is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception during runtime.run() shutdown",
                    "exception": error,
                    "task": task,
                }
            )


async def _settle(loop: Loop, tasks: set[Any]) -> None:
    """Wait until every one of ``tasks`` has ended, however."""
    for task in tasks:
        if not task.done():
            ended: Future[None] = loop.create_future()
            task.add_done_callback(functools.partial(_end, ended))
            await ended


def _end(ended: Future[None], task: object) -> None:
    if not ended.done():
        ended.set_result(None)

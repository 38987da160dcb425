"""``run`` and ``Runner``: make a loop, run a coroutine on it, and clean up.

At the end of a run the remaining tasks are cancelled and awaited, asynchronous generators are
closed, the threads of the default executor are joined, and the loop is closed, in this order.

Source: "Runners" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, TypeVar

from runtime.ending import EndOfRun
from runtime.interrupts import InterruptHandler, run_with_sigint_handled
from runtime.kernel.arguments.advice import advice_on_awaitable
from runtime.kernel.diagnostics.reports import report_unraised
from runtime.kernel.errors import CancelledError
from runtime.kernel.public_types import Task, await_it
from runtime.loop import Loop, loop_from_factory, new_event_loop

T = TypeVar("T")


class Runner:
    """A loop and a context in which several coroutines are run one after the other.

    Use it in a ``with`` statement. ``debug`` turns debug mode on or off; with None it depends on
    the interpreter's options. ``loop_factory()`` makes the loop, by default ``new_event_loop``.
    """

    def __init__(
        self, *, debug: bool | None = None, loop_factory: Callable[[], Loop] | None = None
    ) -> None:
        self._is_closed = False
        self._debug = debug
        self._loop_factory = loop_factory
        self._loop: Loop | None = None
        self._context: contextvars.Context | None = None
        # The main task, if it continued after the second Ctrl-C.
        self._refusing: Task[Any] | None = None

    def __enter__(self) -> Runner:
        try:
            self._lazy_init()
        except BaseException:
            self._close_loop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the remaining tasks, wait for their end, and close the loop.

        It can be called more than once. Raises RuntimeError when the loop is running.
        """
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError("Runner.close() cannot be called while its event loop is running")
        run_with_sigint_handled(self._close)

    def get_loop(self) -> Loop:
        """Return the loop of the runner. Raises RuntimeError when the runner is closed."""
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
        cancels its task, and KeyboardInterrupt is raised when the task has ended; a second Ctrl-C
        raises KeyboardInterrupt at once. With ``until="idle"`` the loop continues when the
        coroutine has returned, as in ``runtime.run``; tasks that still wait then are left to the
        next run, or to ``close()``.

        Raises the exception that the coroutine raises, RuntimeError when a loop is running in this
        thread or the runner is closed, and TypeError for an object that is not awaitable.
        """
        work = functools.partial(self._run, coro=coro, context=context, until=until)
        return run_with_sigint_handled(work)

    def _run_and_close(
        self, interrupts: InterruptHandler, *, coro: Awaitable[T], until: Literal["done", "idle"]
    ) -> T:
        try:
            try:
                result = self._run(interrupts, coro=coro, context=None, until=until)
            except BaseException as error:
                self._close(interrupts, error)
                raise
            self._close(interrupts)
            return result
        finally:
            # The handler of another signal may have raised before _close() began.
            self._close_loop()

    def _run(
        self,
        interrupts: InterruptHandler,
        *,
        coro: Awaitable[T],
        context: contextvars.Context | None,
        until: Literal["done", "idle"],
    ) -> T:
        main = _checked_main(coro, until)
        try:
            loop = self._lazy_init()
        except BaseException:
            _close_coroutine(main)
            raise
        task = loop.create_task(main, context=context if context is not None else self._context)
        try:
            return _run_main_task(loop, task, interrupts, until)
        finally:
            interrupts.held = True
            if interrupts.count > 1 and not task.done():
                self._refusing = task
            # The task holds its exception, whose traceback refers to this frame: break the
            # reference cycle.
            del task

    def _close(self, interrupts: InterruptHandler, because: BaseException | None = None) -> None:
        loop = self._loop
        try:
            if loop is not None:
                count = interrupts.count
                interrupts.release(None)
                EndOfRun(loop, lambda: interrupts.count > count, because, self._refusing).run()
        finally:
            interrupts.held = True
            try:
                self._close_loop()
            except BaseException:
                self._close_loop()  # The handler of another signal may have raised within it.
                raise

    def _close_loop(self) -> None:
        """Close the loop, without waiting for anything. It can be called more than once."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        self._is_closed = True

    def _lazy_init(self) -> Loop:
        if self._is_closed:
            raise RuntimeError("Runner is closed")
        if self._loop is None:
            self._context = contextvars.copy_context()
            loop: object = loop_from_factory(self._loop_factory or new_event_loop)
            if not isinstance(loop, Loop):
                if hasattr(loop, "close"):
                    loop.close()
                raise TypeError(
                    f"loop_factory must return a loop of runtime, such as Loop(), got {loop!r}: "
                    "asyncio.Runner runs other loops"
                )
            self._loop = loop
            if self._debug is not None:
                self._loop.set_debug(self._debug)
        return self._loop


def run(
    main: Awaitable[T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], Loop] | None = None,
    until: Literal["done", "idle"] = "done",
) -> T:
    """Run a coroutine, or another awaitable, in a new event loop, clean up, and return its result.

    ``debug`` turns debug mode on or off; ``loop_factory()`` makes the loop, by default
    ``new_event_loop``. Tasks that still run when ``main`` ends are cancelled and awaited. Ctrl-C
    cancels ``main``; a second Ctrl-C raises KeyboardInterrupt at once. Raises the exception that
    ``main`` raises, and RuntimeError when a loop is running in this thread.

    With ``until="idle"`` the loop continues when ``main`` has returned, until it is idle: nothing
    is ready, no timer is set, no descriptor and no signal is watched, no call runs in an executor,
    and no thread that was started during the run is alive, except for daemon threads. Work that
    only daemon tasks wait for does not count: see ``create_task``. Daemon tasks, and tasks that
    wait for an event that can never happen, are then cancelled and awaited, as at the end of every
    run. If ``main`` is among the waiting tasks, DeadlockError is raised. If ``main`` fails, the run
    ends at once.

    >>> async def main():
    ...     return 42
    >>> run(main())
    42
    """
    _refuse_within_a_run("runtime.run()", main)
    runner = Runner(debug=debug, loop_factory=loop_factory)
    work = functools.partial(runner._run_and_close, coro=main, until=until)
    return run_with_sigint_handled(work)


def _checked_main(coro: Awaitable[T], until: object) -> Coroutine[Any, Any, T]:
    """Check the arguments of a run; return a coroutine that awaits ``coro``.

    A coroutine that is refused is closed, so that there is no warning that it was never awaited.
    """
    if until not in ("done", "idle"):
        _close_coroutine(coro)
        raise ValueError(f'until must be "done" or "idle", got {until!r}')
    _refuse_within_a_run("run()", coro)
    if not asyncio.iscoroutine(coro) and not hasattr(coro, "__await__"):
        raise TypeError(
            f"run() expected a coroutine or another awaitable, got {coro!r}"
            + advice_on_awaitable(coro)
        )
    return coro if asyncio.iscoroutine(coro) else await_it(coro)


def _run_main_task(
    loop: Loop, task: Task[T], interrupts: InterruptHandler, until: Literal["done", "idle"]
) -> T:
    """Run the loop until the main task is done, or the loop is idle; return the task's result.

    Ctrl-C cancels the task meanwhile, and that cancellation is raised as KeyboardInterrupt.
    """
    try:
        interrupts.release(task)
        result: T
        if until == "idle":
            result = _run_until_idle(loop, task)
        else:
            result = loop.run_until_complete(task)
        if interrupts.count > 0 and getattr(task, "_must_cancel", False):
            raise KeyboardInterrupt()  # Ctrl-C was pressed when the task had just ended.
        return result
    except CancelledError:
        if interrupts.count > 0 and task.uncancel() == 0:
            raise KeyboardInterrupt() from None
        raise
    except BaseException as error:
        report_unraised(loop, task, error)
        raise
    finally:
        # The task holds its exception, whose traceback refers to this frame: break the reference
        # cycle.
        del task


def _run_until_idle(loop: Loop, task: Task[T]) -> T:
    """Run until the loop is idle, or ``task`` has failed; return the task's result."""
    on_end = functools.partial(_stop_after_failure, loop)
    task.add_done_callback(on_end)
    try:
        idle = loop.run_until_idle()
    finally:
        try:
            loop._remove_stop_callback(task, on_end)
        except BaseException:
            loop._remove_stop_callback(task, on_end)  # A signal handler raised.
            raise
    if task.done():
        try:
            return task.result()
        finally:
            # The task holds its exception, whose traceback refers to this frame: break the
            # reference cycle.
            del task, on_end
    if idle:
        from runtime.kernel.diagnostics.deadlock import deadlock_error
        from runtime.kernel.lifetime.idle import ordinary_tasks

        raise deadlock_error(ordinary_tasks(loop))
    raise RuntimeError(f"event loop stopped before {task!r} completed")


def _stop_after_failure(loop: Loop, task: Task[Any]) -> None:
    if task.cancelled() or task.exception() is not None:
        loop.stop()


def _refuse_within_a_run(function: str, main: object) -> None:
    """Raise RuntimeError, and close the coroutine, if an event loop is running in this thread."""
    running = asyncio._get_running_loop()
    if running is None:
        return
    _close_coroutine(main)
    advice = "await the coroutine instead"
    if not isinstance(running, Loop):
        advice = (
            f"{running!r} runs here, as in a notebook; run it in a thread: "
            "await asyncio.to_thread(runtime.run, main())"
        )
    raise RuntimeError(f"{function} cannot be called from a running event loop: {advice}")


def _close_coroutine(coro: object) -> None:
    """Close a coroutine that will not be run, so that there is no warning about that."""
    if asyncio.iscoroutine(coro):
        coro.close()

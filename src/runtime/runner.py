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
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Literal, TypeVar

from runtime.ending import EndOfRun
from runtime.interrupts import InterruptHandler, with_interrupts_handled
from runtime.kernel.arguments.advice import instead_of_awaiting
from runtime.kernel.diagnostics.deadlock import deadlock_of
from runtime.kernel.errors import CancelledError
from runtime.kernel.lifetime.idle import ordinary_tasks
from runtime.kernel.public_types import Task, await_it
from runtime.loop import Loop, made_by, new_event_loop

T = TypeVar("T")


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
        # A main task that went on after the second Ctrl-C.
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
        """Cancel what still runs, wait for it, and close the loop. Closing twice is fine."""
        if self._loop is not None and self._loop.is_running():
            raise RuntimeError("Runner.close() cannot be called while its event loop is running.")
        with_interrupts_handled(self._close)

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
        work = functools.partial(self._run, coro=coro, context=context, until=until)
        return with_interrupts_handled(work)

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
            self._close_loop()  # If the handler of another signal raised before _close() began.

    def _run(
        self,
        interrupts: InterruptHandler,
        *,
        coro: Awaitable[T],
        context: contextvars.Context | None,
        until: Literal["done", "idle"],
    ) -> T:
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
        try:
            interrupts.release(task)
            result: T
            if until == "idle":
                result = _run_until_idle(loop, task)
            else:
                result = loop.run_until_complete(task)
            if interrupts.count > 0 and getattr(task, "_must_cancel", False):
                raise KeyboardInterrupt()  # It came when the task had just ended.
            return result
        except CancelledError:
            if interrupts.count > 0 and task.uncancel() == 0:
                raise KeyboardInterrupt() from None
            raise
        except BaseException:
            if task.done() and not task.cancelled():
                # The caller gets it. To ask for it would take the frames of the run from it.
                task._log_traceback = False
            raise
        finally:
            interrupts.held = True
            if interrupts.count > 1 and not task.done():
                self._refusing = task
            del task  # It holds what it raised, whose traceback has this frame.

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
                self._close_loop()  # The handler of another signal may have raised.
                raise

    def _close_loop(self) -> None:
        """Close the loop, without waiting for anything. Doing so again is fine."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        self._state = _State.CLOSED

    def _lazy_init(self) -> Loop:
        if self._state is _State.CLOSED:
            raise RuntimeError("Runner is closed")
        if self._loop is None:
            self._context = contextvars.copy_context()
            self._loop = made_by(self._loop_factory or new_event_loop)
            self._state = _State.INITIALIZED
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
    work = functools.partial(runner._run_and_close, coro=main, until=until)
    return with_interrupts_handled(work)


def _run_until_idle(loop: Loop, task: Task[T]) -> T:
    """Run until nothing can run any more, or ``task`` has failed; return its result."""
    on_end = functools.partial(_stop_after_failure, loop)
    task.add_done_callback(on_end)
    try:
        idle = loop.run_until_idle()
    finally:
        task.remove_done_callback(on_end)
    if task.done():
        try:
            return task.result()
        finally:
            del task, on_end  # The task holds what it raises, whose traceback has this frame.
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

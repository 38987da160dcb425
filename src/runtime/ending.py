"""The end of a run: all remaining tasks are cancelled and awaited, whatever they do.

::

    +--> tasks are left, or generators? --no--> end the default executor --> anything new? --no-->
    |              | yes                                                           | yes
    |    cancel the tasks, run the loop until they have ended                      |
    |    close the generators, all at the same time                                |
    +--------------+---------------------------------------------------------------+

A task that ends may begin something new: a ``finally`` block starts another task, or an
asynchronous generator is dropped. The steps are therefore repeated until nothing is left.

An exception that ends a program, such as the SystemExit of ``sys.exit()`` in a task, leaves the
loop. The loop is then run again, and the exception is raised in the end, unless the run had already
ended by another exception. A task that does not end although it was cancelled delays the end of the
run; after some seconds a thread logs the name of the task and the place where it waits. Ctrl-C ends
the wait.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from typing import Any, Final

from runtime.kernel.lifetime.recovery import recover_tasks
from runtime.kernel.reasons import CancelReason
from runtime.kernel.task import TaskCore, cancel_all
from runtime.loop import Loop

EXECUTOR_SHUTDOWN_TIMEOUT: Final = 300.0
"""Seconds that the end of a run waits for the threads of the default executor."""

_ROUNDS: Final = 100
"""How often the tasks that ending tasks have started are cancelled in turn."""

_TURNS: Final = 16
"""Turns of the loop in which tasks may end before a thread watches them."""

_DEPTH: Final = 5
"""Innermost functions of a thread that a report names."""

_logger: Final = logging.getLogger("asyncio")


class EndOfRun:
    """The end of one run of ``loop``, which is left to be closed.

    ``interrupted()`` returns whether an exception that leaves the loop comes from Ctrl-C, which
    ends the wait for the remaining tasks. ``because`` is the exception that ended the run, or None.
    ``refusing`` is a main task that continued although Ctrl-C cancelled it: after a second Ctrl-C
    it is cancelled again, and not waited for.
    """

    def __init__(
        self,
        loop: Loop,
        interrupted: Callable[[], bool],
        because: BaseException | None = None,
        refusing: Any = None,
    ) -> None:
        self._loop = loop
        self._interrupted = interrupted
        self._because = because
        self._refusing = refusing
        # The tasks that are being waited for.
        self._left: set[Any] = set()
        # The first exception that left the loop, and whether its source was not a task.
        self._fatal: BaseException | None = None
        self._from_outside = False
        self._watch: EndWatch | None = None

    def run(self) -> None:
        """End everything that still runs; raise the exception that left the loop meanwhile.

        An exception of a task is not raised if the run had already ended by another one.
        """
        try:
            self._end_everything()
        finally:
            self._loop._ending = set()
            watch = self._watch
            if watch is not None:
                self._watch = None  # It refers to this object: break the reference cycle.
                watch.stop()
        fatal, self._fatal = self._fatal, None
        try:
            if fatal is not None and (self._because is None or self._from_outside):
                raise fatal
        finally:
            del fatal  # Its traceback refers to this frame: break the reference cycle.

    def _end_everything(self) -> None:
        loop = self._loop
        for _ in range(_ROUNDS):
            tasks = self._unfinished()
            if tasks or loop._async_generators().has_unfinished():
                self._end(tasks)
                # The tracebacks of the tasks' exceptions may refer to this frame: break the
                # reference cycle.
                del tasks
                if loop._async_generators().has_unfinished():
                    self._run(loop._close_asyncgens())
                continue
            done = self._run(self._shut_down())
            if done and not self._unfinished() and not loop._async_generators().has_unfinished():
                return
        loop.call_exception_handler(
            {
                "message": "The run ends although tasks are left. All tasks were cancelled "
                f"{_ROUNDS} times, and started others each time: {_names(self._unfinished())}"
            }
        )
        self._run(self._shut_down())

    def _end(self, tasks: set[Any]) -> None:
        """Cancel tasks, wait until they have ended, and report their exceptions.

        If the wait ends by an interrupt, the exceptions of the tasks that have ended are reported.
        """
        loop = self._loop
        to_cancel = tasks - loop._async_generators().closing()
        loop._ending = to_cancel
        interrupt: BaseException | None = None
        try:
            cancel_all(loop, to_cancel, CancelReason("end"))
            self._wait_for(tasks)
        except BaseException as error:
            interrupt = error
            raise
        finally:
            try:
                self._report_errors(to_cancel, interrupt)
            finally:
                del tasks, to_cancel, interrupt  # As in _end_everything().

    def _unfinished(self) -> set[Any]:
        """Return the tasks of any class that have not ended, except for the refusing main task."""
        tasks: set[Any] = asyncio.all_tasks(self._loop)
        if self._refusing is not None:
            self._refusing.cancel()
            tasks.discard(self._refusing)
        return tasks

    async def _shut_down(self) -> None:
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor(EXECUTOR_SHUTDOWN_TIMEOUT)
        if self._refusing is not None:
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    def _run(self, coro: Any) -> bool:
        """Run a coroutine to its end; return False if it was cancelled, and is to be run again.

        It is cancelled by code of the program that cancels all tasks of the loop. Raises the
        exception that the coroutine raises.
        """
        try:
            task = self._loop.create_task(coro)
            # When an interrupt ends all this, a report that the task was pending is of no interest.
            task._log_destroy_pending = False
            self._wait_for({task})
        except BaseException:
            coro.close()  # An interrupt may have come before its first step.
            raise
        if task.cancelled():
            return False
        task.result()
        return True

    def _wait_for(self, tasks: Collection[Any]) -> None:
        """Run the loop until tasks have ended, however often it is stopped or left meanwhile.

        No local variable holds a task afterwards: the traceback of a task's exception may refer to
        this frame, and the loop would become part of a reference cycle.
        """
        loop = self._loop
        self._left = {task for task in tasks if not task.done()}
        self._add_callbacks()
        loop.call_soon(self._count_down, _TURNS)
        while self._left:
            try:
                loop.run_forever()
            except BaseException as error:
                if self._ends_wait(error, tasks):
                    raise
                recover_tasks(loop, self._left)
                if self._from_outside:
                    # The interrupted callback may have been about to wake a task that cleans up.
                    self._cancel_left()
            # The exception may have kept the callback of a task that has ended from being called.
            self._left = {task for task in self._left if not task.done()}
        del tasks

    def _add_callbacks(self) -> None:
        for task in self._left:
            task.add_done_callback(self._on_end)

    def _cancel_left(self) -> None:
        for task in self._left:
            task.cancel()

    def _on_end(self, task: Any) -> None:
        self._left.discard(task)
        if not self._left:
            self._loop.stop()

    def _count_down(self, turns: int) -> None:
        """Start a thread that watches the remaining tasks, once ``turns`` turns have passed."""
        if not self._left or self._watch is not None:
            return
        if turns:
            self._loop.call_soon(self._count_down, turns - 1)
        else:
            self._watch = EndWatch(self._loop, lambda: list(self._left))

    def _ends_wait(self, error: BaseException, tasks: Collection[Any]) -> bool:
        """Return whether an exception that left the loop ends the wait; note it if it does not.

        The exception of a task has ended that task only, and the wait for the other tasks
        continues. So it does after the first exception from any other source, such as a signal
        handler.
        """
        ended = (*tasks, *self._loop._async_generators().just_closed())
        source = next((task for task in ended if _has_raised(task, error)), None)
        outside = source is None
        ends = isinstance(error, Exception) or self._interrupted()
        ends = ends or (outside and self._from_outside)
        is_raised = ends or (self._fatal is None and self._because is None)
        if source is not None and is_raised:
            source.exception()  # It counts as retrieved.
        if ends:
            return True
        if self._fatal is None or (outside and not self._from_outside):
            self._fatal = error
        self._from_outside = self._from_outside or outside
        return False

    def _report_errors(self, tasks: Collection[Any], interrupt: BaseException | None) -> None:
        raised = self._fatal if self._because is None else self._because
        for task in tasks:
            if not task.done() or task.cancelled():
                continue
            error = task.exception()
            if error is not None and error is not raised and error is not interrupt:
                self._loop.call_exception_handler(
                    {
                        "message": "unhandled exception during runtime.run() shutdown",
                        "exception": error,
                        "task": task,
                    }
                )


def _has_raised(task: Any, error: BaseException) -> bool:
    """Return whether a task has ended with ``error``, which does not count as retrieved then."""
    if isinstance(task, TaskCore):
        return task._failed_with() is error
    return task.done() and not task.cancelled() and task.exception() is error


class EndWatch:
    """A thread that logs, after some seconds, the tasks for which the end of a run waits.

    ``left`` returns these tasks. A timer of the loop could not do this: a task may block the loop,
    and a timer would move a virtual clock and hide a deadlock.
    """

    patience = 5.0
    """Seconds until the first report. Each further one takes twice as long as the one before."""

    def __init__(self, loop: Loop, left: Callable[[], list[Any]]) -> None:
        self._loop = loop
        self._left = left
        # Held until the end. A plain lock, because an interrupt within one of the methods of a
        # threading.Event can leave its inner lock locked.
        self._running = threading.Lock()
        self._running.acquire()
        self._thread: threading.Thread | None = threading.Thread(
            target=self._report_repeatedly, name="runtime end of run", daemon=True
        )
        loop._watching_threads.append(self._thread)
        if sys.is_finalizing():
            self._thread = None  # It would never run, and start() would wait for that for ever.
            return
        try:
            self._thread.start()
        except RuntimeError:  # The interpreter refuses new threads, or new daemon threads.
            self._thread = None

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._running.release()
        if self._thread is not None:
            self._thread.join()

    def _report_repeatedly(self) -> None:
        patience = passed = self.patience
        while not self._running.acquire(timeout=patience) and not self._loop.is_closed():
            _logger.warning("%s", self._report(passed))
            patience *= 2
            passed += patience

    def _report(self, seconds: float) -> str:
        tasks = self._left()
        number = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
        lines = [
            f"The end of the run has taken {seconds:g} seconds so far, and waits for {number}:"
        ]
        for task in tasks:
            lines += [f"  {line}" for line in _described(task)]
        if (thread_id := self._loop._thread_id) and not self._loop._waiting:
            lines.append("The loop is not waiting, but running:")
            stack = traceback.format_stack(sys._current_frames().get(thread_id), _DEPTH)
            lines.append("".join(stack).rstrip())
        for thread in self._loop._own_threads():
            if thread is not threading.current_thread() and thread.ident is not None:
                frame = sys._current_frames().get(thread.ident)
                lines.append(f"Thread {thread.name!r} of the loop's executor:")
                lines.append("".join(traceback.format_stack(frame, _DEPTH)).rstrip())
        return "\n".join(lines)


def _described(task: Any) -> list[str]:
    from runtime.kernel.diagnostics.deadlock import describe_wait

    try:
        return describe_wait(task)
    except Exception as error:  # The loop's thread continues with the task meanwhile.
        return [f"{task.get_name()}: {type(error).__name__} while it was looked at"]


def _names(tasks: Collection[Any]) -> str:
    return ", ".join(sorted(str(task.get_name()) for task in tasks))

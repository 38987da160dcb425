"""Ctrl-C during a run: it cancels the main task, and never interrupts making or closing a loop.

The SIGINT handler is installed before a loop is made, and removed when the run is over. Its effect
depends on the phase that the runner is in::

    removed --install()--> held ------release(main)------> main runs
                            |  ^                             |  first Ctrl-C: main is cancelled
                  remove()  |  +------ held = True ----------+  second one: KeyboardInterrupt
                            v          (main has ended)
                         removed       release(None): the loop runs the remaining tasks
                                         any Ctrl-C: KeyboardInterrupt

While the handler is held, Ctrl-C is only noted. It takes effect later: ``release`` cancels the main
task, or ``remove`` raises KeyboardInterrupt. Making and closing a loop is therefore never
interrupted half-way.

Source: "Handling Keyboard Interruption" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from runtime.kernel.public_types import Task
from runtime.kernel.reasons import CancelReason
from runtime.kernel.signals import get_handler, set_handler
from runtime.kernel.task import request_cancel

T = TypeVar("T")


class InterruptHandler:
    """The SIGINT handler of one call of a runner.

    ``count`` is the number of times that Ctrl-C was pressed. Where there are no signals (outside of
    the main thread, in a subinterpreter), or where the program handles SIGINT itself, the handler
    is not installed, and ``count`` stays 0.

    The default ``repr`` is kept on purpose: see ``runtime.kernel.signals``.
    """

    __slots__ = ("_main", "_noted", "count", "held")

    def __init__(self) -> None:
        self.count = 0
        self.held = True
        self._noted = False
        self._main: Task[Any] | None = None

    def install(self) -> None:
        """Replace Python's default SIGINT handler; do nothing if another one is installed."""
        if (
            threading.current_thread() is threading.main_thread()
            and get_handler(signal.SIGINT) is signal.default_int_handler
        ):
            try:
                set_handler(signal.SIGINT, self)
            except ValueError:
                pass  # This is the main thread of an interpreter without signals.

    def release(self, main: Task[Any] | None) -> None:
        """Have Ctrl-C cancel ``main`` from now on; with None, have it raise KeyboardInterrupt."""
        self._main = main
        self.held = False
        if self._noted and main is not None:
            self._noted = False
            _interrupt(main)

    def remove(self) -> None:
        """Put the default handler back; raise KeyboardInterrupt for a Ctrl-C that was only noted.

        It can be called more than once.
        """
        self.held = True
        if get_handler(signal.SIGINT) is self:
            set_handler(signal.SIGINT, signal.default_int_handler)
        self._main = None
        if self._noted:
            self._noted = False
            raise KeyboardInterrupt()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C."""
        self.count += 1
        if self.held:
            self._noted = True
            return
        main = self._main
        if main is None or main.done() or self.count > 1:
            raise KeyboardInterrupt()
        _interrupt(main)
        main.get_loop()._wake()


def _interrupt(main: Task[Any]) -> None:
    request_cancel(main, CancelReason("interrupt"))


def run_with_sigint_handled(work: Callable[[InterruptHandler], T]) -> T:
    """Call ``work(handler)`` with a SIGINT handler installed, if possible; return its result.

    The handler is held at first; ``work`` releases it while its loop runs.
    """
    handler = InterruptHandler()
    try:
        handler.install()
        return work(handler)
    finally:
        handler.held = True
        try:
            handler.remove()
        except BaseException:
            handler.remove()  # The handler of another signal may have raised within remove().
            raise


def _restore_in_child() -> None:
    """Put the default handler back in the child of a fork: the main task is the parent's.

    Otherwise Ctrl-C would be lost in the child, and a run of its own could not handle it.
    """
    if isinstance(get_handler(signal.SIGINT), InterruptHandler):
        with contextlib.suppress(ValueError):  # This is an interpreter without signals.
            set_handler(signal.SIGINT, signal.default_int_handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)

"""Ctrl-C while a runner works: cancelled main tasks, and no interrupt where it would do harm.

The handler of SIGINT is installed before a loop is made, and removed when the run is over. What it
does depends on what the runner does::

    removed --install()--> held ------release(main)------> main runs
                            |  ^                             |  first Ctrl-C: main is cancelled
                  remove()  |  +------ held = True ----------+  second one: KeyboardInterrupt
                            v          (main has ended)
                         removed       release(None): the loop runs what remains
                                         any Ctrl-C: KeyboardInterrupt

While it is held, Ctrl-C is only noted: it cancels the main task as soon as there is one, or is
raised by ``remove``. So making and closing a loop is never interrupted half-way.

Source: "Handling Keyboard Interruption" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from runtime.kernel.public_types import Task
from runtime.kernel.signals import get_handler, set_handler

T = TypeVar("T")


class InterruptHandler:
    """The handler of SIGINT, while one runner runs something.

    ``count`` says how often Ctrl-C was pressed. Where there are no signals (in another thread, in a
    subinterpreter), or the program handles SIGINT itself, it is not installed, and counts nothing.

    Its ``repr`` shows nothing of the program's: see ``runtime.kernel.signals``.
    """

    __slots__ = ("_main", "_noted", "count", "held")

    def __init__(self) -> None:
        self.count = 0
        self.held = True
        self._noted = False
        self._main: Task[Any] | None = None

    def install(self) -> None:
        """Take the place of the default handler, if that is what is installed."""
        if (
            threading.current_thread() is threading.main_thread()
            and get_handler(signal.SIGINT) is signal.default_int_handler
        ):
            try:
                set_handler(signal.SIGINT, self)
            except ValueError:
                pass  # The main thread of an interpreter that has no signals.

    def release(self, main: Task[Any] | None) -> None:
        """Have Ctrl-C cancel ``main`` from now on; or, without one, raise KeyboardInterrupt."""
        self._main = main
        self.held = False
        if self._noted and main is not None:
            self._noted = False
            main.cancel()

    def remove(self) -> None:
        """Put the default handler back; raise KeyboardInterrupt for a Ctrl-C that was only noted.

        Doing so again is fine.
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
        main.cancel()
        main.get_loop()._wake()


def with_interrupts_handled(work: Callable[[InterruptHandler], T]) -> T:
    """Call ``work(handler)`` while the handler is installed, if it can be; return what it returns.

    The handler is held at first: ``work`` releases it while its loop runs.
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
            handler.remove()  # Another signal's handler may have raised before it was removed.
            raise

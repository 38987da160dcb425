"""Handlers of signals, installed and removed without code of the program being run.

``signal.signal`` and ``signal.getsignal`` find out whether a handler is one of the constants
``SIG_DFL`` and ``SIG_IGN``. Python 3.11.7 and 3.12.1 do that by an exception with the ``repr`` of
the handler in its message. That runs code of the program, which may raise, in places where nothing
may: between the moment in which a handler is installed and the one in which it is removed. These
are the functions of the interpreter that they call.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import signal
from collections.abc import Callable
from typing import Any, Final

get_handler: Final[Callable[[int], Any]] = _signal.getsignal
"""Returns the handler of a signal: a callable, or the number that SIG_DFL or SIG_IGN is.

None if it was not installed from Python.
"""

set_handler: Final[Callable[[int, Any], object]] = _signal.signal
"""Installs the handler of a signal, which is given as ``get_handler`` returns it.

Raises ValueError outside the main thread of the main interpreter, and OSError when the system
refuses.
"""


def run_signal_handlers() -> None:
    """Have the interpreter run the handlers of signals that have arrived.

    It does so between two instructions of Python; a loop that is compiled and idle executes none.
    That this function is interpreted, and called, is all that is needed.
    """


set_wakeup_fd: Final[Callable[[int], int]] = functools.partial(
    signal.set_wakeup_fd, warn_on_full_buffer=False
)
"""Has each signal write a byte to a socket, by which a loop is woken; returns the one before.

Without it a signal that arrives while another thread holds the interpreter, or just before the loop
falls asleep, would be handled when the loop next wakes by itself. Raises ValueError where there are
no signals: outside the main thread of the main interpreter.
"""

"""Signal handlers, installed and removed without running code of the program.

``signal.signal`` and ``signal.getsignal`` convert the constants ``SIG_DFL`` and ``SIG_IGN``. Python
3.11.7 and 3.12.1 find out whether a handler is one of them by means of an exception, whose message
has the ``repr`` of the handler. This ``repr`` is code of the program and may raise, at a moment at
which the state of the loop allows no exception: while handlers are being installed or removed. The
functions below are those of the interpreter that the two call.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import signal
from collections.abc import Callable
from typing import Any, Final

get_handler: Final[Callable[[int], Any]] = _signal.getsignal
"""Returns the handler of a signal: a callable, or the number of SIG_DFL or SIG_IGN.

The result is None if the handler was not installed from Python.
"""

set_handler: Final[Callable[[int, Any], object]] = _signal.signal
"""Installs the handler of a signal, in the form that ``get_handler`` returns.

Raises ValueError outside the main thread of the main interpreter, and OSError if the system
refuses.
"""


def run_signal_handlers() -> None:
    """Let the interpreter run the handlers of the signals that have arrived.

    It runs them between two instructions of Python code, and a compiled loop that is idle executes
    no such instruction. To call this interpreted function, which does nothing, is enough.
    """


set_wakeup_fd: Final[Callable[[int], int]] = functools.partial(
    signal.set_wakeup_fd, warn_on_full_buffer=False
)
"""Sets the descriptor to which each signal writes a byte; returns the previous one.

The byte wakes the loop. Without it, a signal that arrives while another thread holds the GIL, or
just before the loop begins to wait, would be handled only when the loop wakes for another reason.
Raises ValueError outside the main thread of the main interpreter, where there are no signals.
"""

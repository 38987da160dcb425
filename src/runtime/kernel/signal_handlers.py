"""Handlers of signals, installed and removed without code of the program being run.

``signal.signal`` and ``signal.getsignal`` find out whether a handler is one of the constants
``SIG_DFL`` and ``SIG_IGN``. Python 3.11.7 and 3.12.1 do that by an exception with the ``repr`` of
the handler in its message. That runs code of the program, which may raise, in places where nothing
may: between the moment in which a handler is installed and the one in which it is removed. These
are the functions of the interpreter that they call.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
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

"""Signal handlers of a loop, which run as ordinary callbacks of the loop.

The interpreter runs a signal handler in the main thread, between any two instructions. The handler
that is installed here for a loop only puts the loop's handle into the ready queue, and wakes the
loop. The callback therefore runs in the loop's next turn, and not in the middle of other code.

The interpreter holds a reference to the installed handler. It must not keep a loop alive that the
program has dropped, and so its own reference to the loop is weak.

Source: "Unix signals" in the standard library's documentation of asyncio's event loop.
"""

from __future__ import annotations

import errno
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import Any, NamedTuple

from runtime.kernel.arguments.callables import check_callback
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.describe import creation_stack
from runtime.kernel.handles import Handle
from runtime.kernel.signals import get_handler, set_handler


class _Delivery:
    """The handler that the interpreter calls when a signal of ``loop`` has arrived."""

    __slots__ = ("_loop",)

    def __init__(self, loop: LoopCore) -> None:
        self._loop = weakref.ref(loop)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        loop = self._loop()
        installed = None
        if loop is not None and not loop.is_closed():
            installed = loop._signal_handlers.get(number)
        if loop is None or installed is None:
            # The loop was closed in another thread, which cannot restore the default handler; or
            # this is a forked child without the loop. Restore the default, and send the signal
            # again, for the default to act.
            set_handler(number, _default_of(number))
            signal.raise_signal(number)
            return
        loop._ready_append(installed.handle)
        loop._wake()


class _Installed(NamedTuple):
    handle: Handle
    delivery: _Delivery


def add(loop: LoopCore, sig: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    """Make ``loop`` call ``callback(*args)`` for each signal ``sig`` that arrives."""
    check_callback(callback, "add_signal_handler")
    _check_number(sig)
    loop._check_open()
    handle = Handle(callback, args, loop, copy_context())
    if loop._debug:
        handle._source_traceback = creation_stack()
    earlier = loop._signal_handlers.get(sig)
    installed = _Installed(handle, _Delivery(loop) if earlier is None else earlier.delivery)
    # Before _install(): the signal may arrive as soon as the handler is installed.
    loop._signal_handlers[sig] = installed
    try:
        _install(sig, installed.delivery)
        # Without this, the signal would interrupt system calls in the whole process.
        signal.siginterrupt(sig, False)
    except BaseException:
        if earlier is None:
            del loop._signal_handlers[sig]
        else:
            loop._signal_handlers[sig] = earlier
        raise


def deliver_overridden(loop: LoopCore, numbers: bytes) -> None:
    """Call the loop's handlers of signals for which the program has since installed another one.

    Both handlers are called, as in asyncio: a server library may install a handler for a while,
    without knowing of the loop's handler. ``numbers`` are the signals that have arrived.
    """
    for number in set(numbers):
        installed = loop._signal_handlers.get(number)
        # A _Delivery belongs to another loop: only the loop that was installed last is notified.
        if installed is not None and not isinstance(get_handler(number), _Delivery):
            loop._ready_append(installed.handle)


def remove(loop: LoopCore, sig: int) -> bool:
    """Restore the default handling of ``sig``; return whether ``loop`` handled it."""
    _check_number(sig)
    installed = loop._signal_handlers.get(sig)
    if installed is None:
        return False
    _put_back(sig, installed)
    del loop._signal_handlers[sig]
    return True


def remove_all(loop: LoopCore) -> None:
    """Remove every handler of a loop that was closed."""
    if sys.is_finalizing():
        warnings.warn(
            f"{loop!r} is closed while the interpreter shuts down: "
            "its signal handlers are not removed any more; close it before",
            ResourceWarning,
            stacklevel=3,
            source=loop,
        )
    else:
        for sig, installed in list(loop._signal_handlers.items()):
            try:
                _put_back(sig, installed)
            except RuntimeError:
                pass  # Not in the main thread: _Delivery restores it when the signal comes.
    loop._signal_handlers.clear()


def _check_number(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, such as SIGTERM, got {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"there is no signal {sig!r} that a program may handle")


def _name(sig: int) -> str:
    try:
        return signal.Signals(sig).name
    except ValueError:  # Most real-time signals have no name.
        return f"signal {sig}"


def _default_of(sig: int) -> Any:
    return signal.default_int_handler if sig == signal.SIGINT else int(signal.SIG_DFL)


def _put_back(sig: int, installed: _Installed) -> None:
    # A handler that the program has installed since stays.
    if get_handler(sig) is installed.delivery:
        _install(sig, _default_of(sig))


def _install(sig: int, handler: Any) -> None:
    """Install a handler; raise RuntimeError if that is not possible."""
    try:
        set_handler(sig, handler)
    except ValueError as error:
        raise RuntimeError(
            f"{_name(sig)} cannot be handled from here: {error}; add and remove "
            "handlers in the main thread"
        ) from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise RuntimeError(f"{_name(sig)} cannot be caught") from None

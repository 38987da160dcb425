"""The connections and the timers of a loop at one moment.

As for tasks, everything is read from the objects that are there, in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from runtime.kernel.arguments.kinds import check_callable
from runtime.kernel.core import LoopCore
from runtime.kernel.diagnostics.awaited_by import waiters_of
from runtime.kernel.diagnostics.describe import describe_callback_briefly
from runtime.net.connection.stream_socket import StreamSocket
from runtime.observe.loop_argument import loop_of
from runtime.observe.task_info import no_pause

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A stream connection at one moment: its descriptor, its addresses and its write buffer."""

    fd: int
    peer: str
    local: str
    protocol: str
    """The name of the class of the protocol; ``"streams"`` if the connection has streams."""

    unsent: int
    """The size of the write buffer, in bytes."""

    state: str
    """``"open"``, or ``"closing"``: the rest of the write buffer is sent, then it is closed."""


@dataclass(frozen=True, slots=True)
class TimerInfo:
    """A timer that is set: the seconds until it is due, and its callback or its sleeping task."""

    due_in: float
    callback: str


def connections(
    loop: LoopCore | None = None, *, pause: Callable[[], object] | None = None
) -> list[ConnectionInfo]:
    """Return the stream connections of ``loop`` that it watches, the fullest write buffer first.

    The loop is by default the running one. A connection whose reading is paused, and whose write
    buffer is empty, is not watched. ``pause()`` is called between two connections, as for
    ``tasks``. Raises RuntimeError if no loop is given and none is running, and TypeError for an
    argument of another type.

    >>> import runtime
    >>> async def main() -> list[runtime.observe.ConnectionInfo]:
    ...     return runtime.observe.connections()
    >>> runtime.run(main())
    []
    """
    check_callable(pause, "connections")
    return fullest_connections(loop_of(loop, "connections"), None, pause)


def fullest_connections(
    loop: LoopCore, most: int | None, pause: Callable[[], object] | None
) -> list[ConnectionInfo]:
    """Return the first ``most`` of the connections that ``connections`` returns; None for all.

    Only these are described. So few objects are kept from one pause to the next that very many
    connections do not cause a full garbage collection, which would stop the program.
    """
    if pause is None:
        pause = no_pause
    found = [each for each in loop._poller.watchers() if isinstance(each, StreamSocket)]
    infos: list[ConnectionInfo] = []
    for place in _in_order([-each.unsent_now() for each in _in_pieces(found, pause)], pause):
        if not found[place].is_closed():
            infos.append(_connection(found[place]))
        if len(infos) == most:
            break
        pause()
    # The loop may have sent bytes meanwhile.
    return sorted(infos, key=lambda info: (-info.unsent, info.fd))


def timers(
    loop: LoopCore | None = None, *, pause: Callable[[], object] | None = None
) -> list[TimerInfo]:
    """Return the timers of ``loop`` that are set, the next one first.

    The loop is by default the running one. ``pause()`` is called between two timers, as for
    ``tasks``. Raises RuntimeError if no loop is given and none is running, and TypeError for an
    argument of another type.

    >>> import runtime
    >>> async def main() -> None:
    ...     runtime.get_running_loop().call_later(60, print)
    ...     for timer in runtime.observe.timers():
    ...         print(round(timer.due_in), timer.callback)
    >>> runtime.run(main())
    60 print
    """
    check_callable(pause, "timers")
    return next_timers(loop_of(loop, "timers"), None, pause)


def next_timers(
    loop: LoopCore, most: int | None, pause: Callable[[], object] | None
) -> list[TimerInfo]:
    """Return the first ``most`` of the timers that ``timers`` returns; None for all."""
    if pause is None:
        pause = no_pause
    now = loop.time()
    found = loop._timers.pending()
    infos: list[TimerInfo] = []
    for place in _in_order([each._due() for each in _in_pieces(found, pause)], pause)[:most]:
        timer = found[place]
        infos.append(TimerInfo(timer._due() - now, _timed(timer)))
        pause()
    return infos


def _in_pieces(found: list[T], pause: Callable[[], object]) -> Iterator[T]:
    """Iterate over a list, for work that takes little time, with a pause after some entries."""
    for place, each in enumerate(found, 1):
        yield each
        if place % _AT_ONCE == 0:
            pause()


_AT_ONCE: Final = 64


def _in_order(values: list[float], pause: Callable[[], object]) -> list[int]:
    """Return the places of the values in the order of these: for many, it takes a millisecond."""
    for _ in range(_AT_ONCE):
        pause()
    return sorted(range(len(values)), key=values.__getitem__)


def _connection(connection: StreamSocket) -> ConnectionInfo:
    protocol = connection.get_protocol()
    return ConnectionInfo(
        fd=connection.fd,
        peer=_address(connection.info("peername")),
        local=_address(connection.info("sockname")),
        protocol="streams" if protocol is None else type(protocol).__name__,
        unsent=connection.unsent_now(),
        state="closing" if connection.is_closing() else "open",
    )


def _address(address: Any) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case bytes() | str():
            return repr(address) if address else "unnamed"
        case _:
            return "unknown"


def _timed(timer: Any) -> str:
    callback = getattr(timer, "_callback", None)
    if callback is not None:
        return describe_callback_briefly(callback)
    sleepers = [str(task.get_name()) for task in waiters_of(timer) if hasattr(task, "get_name")]
    return f"wakes {', '.join(sleepers)}" if sleepers else "ends a future"

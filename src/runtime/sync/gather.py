"""``gather``: wait for several awaitables, and get all their results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar, overload

from runtime.kernel.api.running import get_running_loop
from runtime.kernel.public_types import Future
from runtime.sync.gather_core import GatheringCore, loop_for, start_gathering

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")


class Gathering(GatheringCore, Future[Any]):
    """The future that ``gather`` returns. Its ``cancel()`` cancels the children."""

    __slots__ = ()


_bare_gathering: Final[Callable[[type[Gathering]], Gathering]] = Gathering.__new__


@overload
def gather(
    aw1: Awaitable[T1], /, *, return_exceptions: Literal[False] = False
) -> Future[tuple[T1]]: ...
@overload
def gather(
    aw1: Awaitable[T1], aw2: Awaitable[T2], /, *, return_exceptions: Literal[False] = False
) -> Future[tuple[T1, T2]]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> Future[tuple[T1, T2, T3]]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    aw4: Awaitable[T4],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> Future[tuple[T1, T2, T3, T4]]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    aw4: Awaitable[T4],
    aw5: Awaitable[T5],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> Future[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    aw4: Awaitable[T4],
    aw5: Awaitable[T5],
    aw6: Awaitable[T6],
    /,
    *,
    return_exceptions: Literal[False] = False,
) -> Future[tuple[T1, T2, T3, T4, T5, T6]]: ...
@overload
def gather(*aws: Awaitable[T], return_exceptions: Literal[False] = False) -> Future[list[T]]: ...
@overload
def gather(
    aw1: Awaitable[T1], /, *, return_exceptions: Literal[True]
) -> Future[tuple[T1 | BaseException]]: ...
@overload
def gather(
    aw1: Awaitable[T1], aw2: Awaitable[T2], /, *, return_exceptions: Literal[True]
) -> Future[tuple[T1 | BaseException, T2 | BaseException]]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    /,
    *,
    return_exceptions: Literal[True],
) -> Future[tuple[T1 | BaseException, T2 | BaseException, T3 | BaseException]]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    aw4: Awaitable[T4],
    /,
    *,
    return_exceptions: Literal[True],
) -> Future[
    tuple[T1 | BaseException, T2 | BaseException, T3 | BaseException, T4 | BaseException]
]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    aw4: Awaitable[T4],
    aw5: Awaitable[T5],
    /,
    *,
    return_exceptions: Literal[True],
) -> Future[
    tuple[
        T1 | BaseException,
        T2 | BaseException,
        T3 | BaseException,
        T4 | BaseException,
        T5 | BaseException,
    ]
]: ...
@overload
def gather(
    aw1: Awaitable[T1],
    aw2: Awaitable[T2],
    aw3: Awaitable[T3],
    aw4: Awaitable[T4],
    aw5: Awaitable[T5],
    aw6: Awaitable[T6],
    /,
    *,
    return_exceptions: Literal[True],
) -> Future[
    tuple[
        T1 | BaseException,
        T2 | BaseException,
        T3 | BaseException,
        T4 | BaseException,
        T5 | BaseException,
        T6 | BaseException,
    ]
]: ...
@overload
def gather(
    *aws: Awaitable[T], return_exceptions: Literal[True]
) -> Future[list[T | BaseException]]: ...
@overload
def gather(*aws: Awaitable[Any], return_exceptions: bool) -> Future[Any]: ...
def gather(*aws: Any, return_exceptions: bool = False) -> Any:
    """Run awaitables concurrently; return a future for the list of their results, in their order.

    Coroutines become tasks at once. An awaitable that is given twice is run once, and its result
    is in the list twice. With ``return_exceptions`` an exception is put into the list in the place
    of a result. Without it the first exception of an awaitable ends the future, and **the others
    continue**: they are not awaited any more, and their exceptions are not reported. Most
    programs should use ``TaskGroup`` instead, which cancels the other tasks and waits for them.
    (The annotation is a tuple, for type checkers to know the type of each result; the value is a
    list.)

    Cancelling the future, or the task that awaits it, cancels the awaitables. The future then ends
    with a CancelledError: with ``return_exceptions`` when all of them have ended, and without it
    when the first has ended so, and others may still clean up. An awaitable that other code cancels
    counts as one that raised a CancelledError. Not cancellation safe: the results are lost.

    Raises ValueError when the awaitables belong to different loops, TypeError for an object that
    cannot be awaited, RuntimeError when a loop is needed and none is running.

    Source: the standard library's documentation of ``asyncio.gather``.

    >>> from runtime.runner import run
    >>> from runtime.sync.sleep import sleep
    >>> async def main():
    ...     return await gather(sleep(0.002, "a"), sleep(0.001, "b"))
    >>> run(main())
    ['a', 'b']
    """
    if not aws:
        empty: Future[list[Any]] = get_running_loop().create_future()
        empty.set_result([])
        return empty
    gathering = _bare_gathering(Gathering)
    start_gathering(gathering, loop_for(aws[0]), aws, bool(return_exceptions))
    return gathering

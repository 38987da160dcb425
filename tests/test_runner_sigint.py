"""The handler of SIGINT around a run: installed, removed, and never printed in between."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

import runtime
import runtime.testing
from tests.support.programs import run_code


class Unprintable(Exception):
    def __repr__(self) -> NoReturn:
        raise ZeroDivisionError("from __repr__")

    __str__ = __repr__


class UnprintableHandler:
    """A handler of the program, as `functools.partial` makes them of unprintable objects."""

    def __call__(self, *args: object) -> None: ...

    def __repr__(self) -> NoReturn:
        raise ZeroDivisionError("from __repr__")


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Check that the test leaves the handler of SIGINT as it was."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    yield
    after = signal.signal(signal.SIGINT, signal.default_int_handler)
    assert after is signal.default_int_handler


@pytest.fixture
def unprintable_handler() -> Iterator[Any]:
    # signal.signal() would call the repr of the previous handler on Python 3.11.
    from runtime.kernel.signals import get_handler, set_handler

    handler = UnprintableHandler()
    before = get_handler(signal.SIGUSR1)
    set_handler(signal.SIGUSR1, handler)
    yield handler
    assert get_handler(signal.SIGUSR1) is handler
    set_handler(signal.SIGUSR1, before)


def test_an_unprintable_exception_is_raised_unchanged() -> None:
    async def main() -> None:
        raise Unprintable

    for _ in range(2):
        with pytest.raises(Unprintable):
            runtime.run(main())


def test_an_unprintable_result_is_returned_unchanged() -> None:
    async def main() -> Unprintable:
        return Unprintable()

    assert type(runtime.run(main())) is Unprintable
    with runtime.Runner() as runner:
        assert type(runner.run(main())) is Unprintable


def test_the_program_may_ask_for_the_handler_meanwhile() -> None:
    async def main() -> None:
        # The repr of the main task contains the future that it waits for.
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(Unprintable())
        with pytest.raises(Unprintable):
            await future
        handler = signal.getsignal(signal.SIGINT)
        assert handler is not signal.default_int_handler
        assert "Task" not in repr(handler)

    runtime.run(main())


def test_a_handler_of_the_programs_own_that_cannot_be_printed() -> None:
    from runtime.kernel.signals import set_handler

    handler = UnprintableHandler()
    set_handler(signal.SIGINT, handler)
    try:
        assert runtime.run(runtime.sleep(0, 1)) == 1
    finally:
        set_handler(signal.SIGINT, signal.default_int_handler)


def test_debug_mode_looks_at_no_handler(unprintable_handler: Any) -> None:
    async def main() -> int:
        loop = runtime.get_running_loop()
        # Only the thread can wake the loop, and signal handlers run when it wakes.
        future = loop.create_future()
        threading.Timer(0.01, loop.call_soon_threadsafe, (future.set_result, 1)).start()
        result: int = await future
        return result

    assert runtime.run(main(), debug=True) == 1


def test_signal_handlers_of_a_loop_beside_one(unprintable_handler: Any) -> None:
    from runtime.kernel.signals import get_handler, set_handler

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        set_handler(signal.SIGUSR1, unprintable_handler)
        loop.remove_signal_handler(signal.SIGUSR1)
        assert get_handler(signal.SIGUSR1) is unprintable_handler

    runtime.run(main())


FORKED = """
import os, runtime, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt():
    signal.alarm(30)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
    except KeyboardInterrupt:
        print("interrupted", flush=True)

async def run_in_child():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await runtime.sleep(30)
    finally:
        print("cleaned up", flush=True)

def run():
    signal.alarm(30)
    try:
        runtime.run(run_in_child())
    except KeyboardInterrupt:
        print("interrupted", flush=True)

async def main():
    child = os.fork()
    if not child:
        try:
            {work}()
        finally:
            sys.stdout.flush()
            os._exit(0)
    _, status = os.waitpid(child, 0)
    await runtime.sleep(0)
    print("child", os.waitstatus_to_exitcode(status))

runtime.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("work", "printed"), [("interrupt", ""), ("run", "cleaned up\n")], ids=["work", "run"]
)
def test_ctrl_c_in_a_child_that_was_forked_during_a_run(work: str, printed: str) -> None:
    done = run_code(FORKED.replace("{work}", work))
    assert done.stdout == f"{printed}interrupted\nchild 0\n", done.stderr

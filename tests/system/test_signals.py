"""``add_signal_handler`` and ``remove_signal_handler``: asyncio's rules, on both loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.support.programs import run_code
from tests.system.tools import Loop, run

HANDLED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGCHLD)


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    """Restore the signal handlers after each test."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield
    after = {number: signal.getsignal(number) for number in HANDLED}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


def send(number: int, times: int = 1) -> None:
    """Send this process a signal, and let the interpreter notice each."""
    for _ in range(times):
        os.kill(os.getpid(), number)


def test_a_handler_is_called_with_its_arguments_in_a_later_turn(make_loop: Loop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        called: asyncio.Future[tuple[int, ...]] = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, lambda *args: called.set_result(args), 1, 2)
        send(signal.SIGUSR1)
        assert not called.done()
        assert await called == (1, 2)

    run(make_loop, main())


def test_each_of_several_signals_has_its_own(make_loop: Loop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, "one")
        loop.add_signal_handler(signal.SIGUSR2, calls.append, "two")
        for number, expected in ((signal.SIGUSR2, "two"), (signal.SIGUSR1, "one")):
            calls.clear()
            send(number)
            await all_tasks_blocked()
            assert calls == [expected]

    run(make_loop, main())


def test_a_new_handler_takes_the_place_of_the_old(make_loop: Loop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, "old")
        loop.add_signal_handler(signal.SIGUSR1, calls.append, "new")
        send(signal.SIGUSR1)
        await all_tasks_blocked()
        assert calls == ["new"]
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)

    run(make_loop, main())


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_removal_puts_the_default_back(make_loop: Loop, number: int) -> None:
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(number, lambda: None)
        assert signal.getsignal(number) not in (default, None)
        assert loop.remove_signal_handler(number) is True
        assert signal.getsignal(number) == default

    run(make_loop, main())
    signal.signal(number, default)


def test_closing_the_loop_removes_its_handlers(make_loop: Loop) -> None:
    loop = make_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_between_two_runs_is_handled_in_the_second(make_loop: Loop) -> None:
    loop = make_loop()
    calls: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "handled")
    loop.run_until_complete(asyncio.sleep(0))
    send(signal.SIGUSR1)
    loop.run_until_complete(all_tasks_blocked())
    loop.close()
    assert calls == ["handled"]


async def coroutine_function() -> None: ...


def test_bad_input_raises_at_the_call(make_loop: Loop) -> None:
    loop = make_loop()
    coro = coroutine_function()
    for callback in (coroutine_function, coro):
        with pytest.raises(TypeError, match="corouti"):
            loop.add_signal_handler(signal.SIGUSR1, callback)
    coro.close()
    for number in (0, -1, 10_000):
        with pytest.raises(ValueError, match="signal"):
            loop.add_signal_handler(number, print)
        with pytest.raises(ValueError, match="signal"):
            loop.remove_signal_handler(number)
    with pytest.raises(TypeError, match="int"):
        loop.add_signal_handler("SIGUSR1", print)
    for uncatchable in (signal.SIGKILL, signal.SIGSTOP):
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(uncatchable, print)
        assert not loop.remove_signal_handler(uncatchable)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


def test_only_the_main_thread_may_add_one(make_loop: Loop) -> None:
    errors: list[BaseException] = []

    async def add() -> None:
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=lambda: run(make_loop, add()))
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_a_loop_in_another_thread_gets_the_signal_too(make_loop: Loop) -> None:
    loop = make_loop()
    calls: list[int] = []

    def note() -> None:
        calls.append(threading.get_ident())
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, note)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    send(signal.SIGUSR1)
    thread.join()
    assert calls == [thread.ident]
    loop.close()


def test_the_context_is_that_of_the_call(make_loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> list[str]:
        seen: list[str] = []
        variable.set("as added")
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(variable.get()))
        variable.set("changed")
        send(signal.SIGUSR1)
        await all_tasks_blocked()
        return seen

    assert run(make_loop, main()) == ["as added"]


def test_exceptions_of_a_handler_are_reported_and_the_loop_continues(make_loop: Loop) -> None:
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        loop.add_signal_handler(signal.SIGUSR1, lambda: 1 // 0)
        for _ in range(2):
            send(signal.SIGUSR1)
            await all_tasks_blocked()

    run(make_loop, main())
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2
    assert "Exception in callback" in reports[0]["message"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_end_the_program_propagate(
    make_loop: Loop, kind: type[BaseException]
) -> None:
    def leave() -> None:
        raise kind

    loop = make_loop()
    loop.add_signal_handler(signal.SIGUSR1, leave)
    loop.call_soon(send, signal.SIGUSR1)
    with pytest.raises(kind):
        loop.run_forever()
    loop.run_until_complete(all_tasks_blocked())
    loop.close()


def test_a_signal_during_a_long_callback_waits_for_its_end(make_loop: Loop) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        order: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, order.append, "signal")

        def busy() -> None:
            send(signal.SIGUSR1)
            sum(range(100_000))
            order.append("end of the callback")

        loop.call_soon(busy)
        await all_tasks_blocked()
        return order

    assert run(make_loop, main()) == ["end of the callback", "signal"]


def test_a_signal_that_a_thread_sends(make_loop: Loop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, called.set)
        await loop.run_in_executor(None, send, signal.SIGUSR1)
        # nothing else wakes the loop
        await asyncio.wait_for(called.wait(), 30)

    run(make_loop, main())


def test_a_storm_of_children(make_loop: Loop) -> None:
    number = 40

    async def main() -> None:
        loop = asyncio.get_running_loop()
        children = [subprocess.Popen([sys.executable, "-S", "-c", ""]) for _ in range(4)]
        pending = {child.pid for child in children}
        ended = asyncio.Event()
        calls = 0

        def reap() -> None:
            nonlocal calls
            calls += 1
            pending.difference_update(c.pid for c in children if c.poll() is not None)
            if not pending:
                ended.set()

        loop.add_signal_handler(signal.SIGCHLD, reap)
        send(signal.SIGCHLD, number)
        await asyncio.wait_for(ended.wait(), 60)
        await all_tasks_blocked()
        assert 1 <= calls <= number + len(children)

    run(make_loop, main())


@pytest.mark.parametrize("debug", [False, True])
def test_system_calls_are_not_interrupted(make_loop: Loop, debug: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, called.set)
        # C code that does not handle EINTR continues, because the system restarts the call.
        child = await loop.run_in_executor(
            None,
            lambda: subprocess.run([sys.executable, "-S", "-c", KILL_PARENT], check=True),
        )
        assert child.returncode == 0
        await asyncio.wait_for(called.wait(), 30)

    run(make_loop, main(), debug=debug)


KILL_PARENT = "import os, signal; os.kill(os.getppid(), signal.SIGUSR1)"


# -- Better than asyncio ---------------------------------------------------------------------------


def test_a_handler_installed_by_others_is_left_alone() -> None:
    def theirs(*args: object) -> None: ...

    for remove in (lambda loop: loop.remove_signal_handler(signal.SIGUSR1), lambda loop: None):
        loop = runtime.new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        signal.signal(signal.SIGUSR1, theirs)
        remove(loop)
        loop.close()
        assert signal.getsignal(signal.SIGUSR1) is theirs
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_a_handler_installed_by_others_does_not_silence_the_loop_s(make_loop: Loop) -> None:
    """Both are called, once for each signal: a server may handle the signal for a while."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, calls.append, "loop")
        send(signal.SIGUSR1)
        await all_tasks_blocked()
        assert calls == ["loop"]
        installed = signal.signal(signal.SIGUSR1, lambda *_: calls.append("other"))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            if number == signal.SIGUSR2:
                signal.signal(number, lambda *_: None)
            send(number)
            await all_tasks_blocked()
        assert sorted(calls) == ["loop", "loop", "other"]
        signal.signal(signal.SIGUSR1, installed)
        send(signal.SIGUSR1)
        await all_tasks_blocked()
        assert sorted(calls) == ["loop", "loop", "loop", "other"]
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)

    run(make_loop, main())


def test_of_two_loops_the_last_one_to_ask_gets_the_signal() -> None:
    calls: list[str] = []
    first, second = runtime.new_event_loop(), runtime.new_event_loop()
    first.add_signal_handler(signal.SIGUSR1, calls.append, "first")
    second.add_signal_handler(signal.SIGUSR1, calls.append, "second")
    first.close()
    second.call_soon(send, signal.SIGUSR1)
    second.run_until_complete(all_tasks_blocked())
    second.close()
    assert calls == ["second"]
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_failed_replacement_leaves_the_earlier_handler() -> None:
    loop = runtime.new_event_loop()
    calls: list[str] = []
    errors: list[BaseException] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "earlier")

    def replace() -> None:
        for attempt in (
            lambda: loop.add_signal_handler(signal.SIGUSR1, calls.append, "later"),
            lambda: loop.remove_signal_handler(signal.SIGUSR1),
        ):
            try:
                attempt()
            except RuntimeError as error:
                errors.append(error)

    thread = threading.Thread(target=replace)
    thread.start()
    thread.join()
    assert len(errors) == 2
    send(signal.SIGUSR1)
    loop.run_until_complete(all_tasks_blocked())
    loop.close()
    assert calls == ["earlier"]


def test_a_loop_that_handles_signals_can_be_collected() -> None:
    loop = runtime.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    gone = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    # Python 3.15 needs a second collection for objects whose finalizers have run.
    gc.collect()
    assert gone() is None
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_task_that_waits_for_a_signal_is_no_deadlock() -> None:
    async def main() -> str:
        arrived = runtime.Event()
        runtime.get_running_loop().add_signal_handler(signal.SIGUSR1, arrived.set)
        child = subprocess.Popen([sys.executable, "-S", "-c", KILL_PARENT])
        await arrived.wait()
        child.wait()
        return "arrived"

    assert runtime.run(main(), debug=True) == "arrived"


def test_in_debug_mode_a_report_names_the_line_that_added_the_handler() -> None:
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        loop.add_signal_handler(signal.SIGUSR1, lambda: 1 // 0)
        send(signal.SIGUSR1)
        await all_tasks_blocked()

    runtime.run(main(), debug=True)
    assert "main" in [frame.name for frame in reports[0]["source_traceback"]]


# -- In a process of its own -----------------------------------------------------------------------

CLOSED_ELSEWHERE = """
import os, runtime, signal, threading
loop = runtime.Loop()
loop.add_signal_handler(signal.SIGTERM, print, "handled")
thread = threading.Thread(target=loop.close)
thread.start()
thread.join()
print("closed", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("not reached")
"""


def test_after_a_close_in_another_thread_a_signal_has_its_default_effect() -> None:
    result = run_code(CLOSED_ELSEWHERE)
    assert (result.stdout, result.returncode) == ("closed\n", -signal.SIGTERM), result.stderr


FORKED = """
import os, runtime, signal

async def main():
    loop = runtime.get_running_loop()
    calls = []
    loop.add_signal_handler(signal.SIGTERM, calls.append, "parent")
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    status = await runtime.to_thread(os.waitpid, child, 0)
    print(os.WTERMSIG(status[1]) == signal.SIGTERM, calls)

runtime.run(main())
"""


def test_a_signal_to_a_forked_child_is_the_child_s() -> None:
    result = run_code(FORKED)
    assert result.stdout == "True []\n", result.stderr


INTERRUPT = """
import os, runtime, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    loop = runtime.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, print, "handled", flush)
    {act}
    try:
        await runtime.sleep(60)
    finally:
        print("cleaned up")

def flush(): ...

try:
    runtime.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_ctrl_c_and_another_signal_at_once() -> None:
    both = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1]);"
    both += "os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGINT);"
    both += "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGUSR1])"
    code = INTERRUPT.replace(', "handled", flush)', ', "handled")').format(act=both)
    result = run_code(code)
    lines = result.stdout.splitlines()
    assert lines == ["handled", "cleaned up", "KeyboardInterrupt", "True"], result.stderr


def test_the_loop_s_own_handler_of_sigint_takes_the_place_of_run_s() -> None:
    act = "loop.add_signal_handler(signal.SIGINT, runtime.current_task().cancel);"
    act += "os.kill(os.getpid(), signal.SIGINT)"
    code = INTERRUPT.format(act=act).replace("except KeyboardInterrupt", "except BaseException")
    result = run_code(code.replace('"KeyboardInterrupt"', "'cancelled'"))
    assert result.stdout.splitlines() == ["cleaned up", "cancelled", "True"], result.stderr


AT_THE_END = """
import runtime, signal, warnings
warnings.simplefilter("always")
loop = runtime.Loop()
loop.add_signal_handler(signal.SIGUSR1, print)
"""


def test_at_the_end_of_the_interpreter_there_is_a_warning() -> None:
    result = run_code(AT_THE_END)
    assert "unclosed event loop" in result.stderr
    assert "its signal handlers are not removed any more" in result.stderr
    assert "Traceback" not in result.stderr

"""``print_tasks``, on demand and on a signal."""

from __future__ import annotations

import io
import re
import signal
import threading

import pytest

import runtime
from runtime.observe import format_tasks, print_tasks_on
from tests.support.programs import run_code


async def transfer(source: runtime.Lock, target: runtime.Lock) -> None:
    async with source:
        await runtime.sleep(0)
        async with target:
            pass


async def test_the_text_shows_who_waits_for_whom_and_who_holds_the_locks() -> None:
    alice, bob = runtime.Lock(), runtime.Lock()

    async def main() -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(transfer(alice, bob), name="alice to bob")
            group.create_task(transfer(bob, alice), name="bob to alice")

    task = runtime.create_task(main(), name="main")
    for _ in range(3):
        await runtime.sleep(0)
    lines = re.sub(r"\d+\.\d\d s old", "N s old", format_tasks()).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("main: "))
    here = lines[start:]
    assert here[0].endswith(".main(), waiting, N s old")
    assert here[1].startswith("  in test_the_text_shows")
    assert here[2] == "  waits for <TaskGroup tasks=2 entered>, in TaskGroup.__aexit__()"
    assert here[3] == "  alice to bob: transfer(), waiting, N s old"
    assert here[4] == f"    in transfer() at {__file__}:{transfer.__code__.co_firstlineno + 3}"
    assert here[5].endswith("[locked, waiters:1]>, in Lock.__aenter__()")
    assert here[6] == "    which is held by bob to alice"
    assert here[10] == "    which is held by alice to bob"
    task.cancel()
    await runtime.wait([task])


@pytest.mark.variation
async def test_tasks_that_wait_for_one_another_and_long_chains_are_shown_once() -> None:
    chain: list[runtime.Task[None]] = []

    async def wait_for_next(number: int) -> None:
        await runtime.sleep(0)
        await chain[(number + 1) % len(chain)]

    chain.extend(runtime.create_task(wait_for_next(number)) for number in range(2000))
    for _ in range(3):
        await runtime.sleep(0)
    text = format_tasks()
    assert text.count(".wait_for_next(), waiting") == 2000
    assert text.count("see above or below") == 1
    for task in chain:
        task.cancel()
    await runtime.wait(chain)


async def test_print_tasks_prints_to_stderr_or_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    for file in (None, out):
        runtime.print_tasks(file=file)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == out.getvalue()
    assert ", running, " in out.getvalue()


PROGRAM = """
import os, signal, sys, time
import runtime

async def block() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0)

async def main() -> None:
    runtime.observe.print_tasks_on(signal.SIGUSR1, file=sys.stdout)
    sleeper = runtime.create_task(runtime.sleep_forever(), name="sleeper")
    await runtime.create_task(block(), name="blocking")
    os.kill(os.getpid(), signal.SIGUSR1)

runtime.run(main())
"""


def test_a_signal_prints_the_tasks_of_all_loops_also_in_a_callback() -> None:
    done = run_code(PROGRAM)
    assert done.stderr == ""
    first, _, second = done.stdout.partition("Loop running")[2].partition("Loop running")
    assert " in thread 'MainThread': 3 tasks" in first
    assert "blocking: block(), running" in first
    assert "sleeper: sleep_forever(), waiting" in first
    assert " in thread 'MainThread': 2 tasks" in second


def test_the_handler_of_the_signal_does_not_hide_a_deadlock() -> None:
    done = run_code(
        "import runtime, signal\n"
        "runtime.observe.print_tasks_on(signal.SIGUSR1)\n"
        "try:\n"
        "    runtime.run(runtime.sleep_forever(), debug=True)\n"
        "except runtime.DeadlockError:\n"
        "    print('reported')\n"
    )
    assert done.stdout == "reported\n", done.stderr


def test_another_thread_cannot_set_a_handler_and_the_previous_one_is_returned() -> None:
    before = print_tasks_on(signal.SIGUSR1)
    assert callable(signal.signal(signal.SIGUSR1, before))
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            print_tasks_on(signal.SIGUSR1)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_loops_in_several_threads_and_closed_ones() -> None:
    from runtime.observe.printing import all_loops_as_text

    loop = runtime.new_event_loop()
    assert "Loop not running: 0 tasks" in all_loops_as_text()
    loop.close()
    found: list[str] = []

    async def look() -> None:
        found.append(await runtime.to_thread(all_loops_as_text))

    thread = threading.Thread(target=lambda: runtime.run(look()), name="other")
    thread.start()
    thread.join()
    assert "Loop running in thread 'other': " in found[0]

"""Runs without signals, in a thread that `threading` takes for the main thread."""

from __future__ import annotations

import pytest

from tests.support import build
from tests.support.programs import run_code

RUNS = """
import runtime

async def main():
    await runtime.to_thread(int)
    with_signals = []
    try:
        runtime.get_running_loop().add_signal_handler(2, print)
    except RuntimeError as error:
        print("refused:", str(error)[:6])
    return 1

def runs():
    for options in ({}, {"debug": True}, {"until": "idle"}):
        print(runtime.run(main(), **options))
    with runtime.Runner() as runner:
        print(runner.run(main()))
    loop = runtime.new_event_loop()
    print(loop.run_until_complete(main()), loop.is_running())
    loop.close()
"""

THREAD = """
import _thread, os, threading

def thread():
    # So it is where `threading` is first imported by another thread than the interpreter's first.
    threading._main_thread = threading.current_thread()
    try:
        runs()
    finally:
        print("done", flush=True)
        os._exit(0)  # The end of the interpreter would wait for its main thread.

done = _thread.allocate_lock()
done.acquire()
_thread.start_new_thread(thread, ())
done.acquire()
"""

SUBINTERPRETER = """
import sys
code = f"import sys; sys.path[:] = {sys.path!r}" + RUNS + "runs()"
if sys.version_info < (3, 13):
    import _xxsubinterpreters as interpreters
    number = interpreters.create(isolated=False)
    interpreters.run_string(number, code)
else:
    import _interpreters as interpreters
    number = interpreters.create("legacy")
    assert (failure := interpreters.exec(number, code)) is None, failure
interpreters.destroy(number)
print("done")
"""

EXPECTED = "refused: SIGINT\n1\n" * 4 + "refused: SIGINT\n1 False\ndone\n"


def test_a_thread_that_is_taken_for_the_main_one() -> None:
    done = run_code(RUNS + THREAD)
    assert done.stdout == EXPECTED, done.stderr
    assert done.returncode == 0


@pytest.mark.skipif("sys.version_info < (3, 12)", reason="its threads outlive a subinterpreter")
@pytest.mark.skipif(build.is_compiled(), reason="compiled modules belong to one interpreter")
def test_a_subinterpreter() -> None:
    done = run_code(f"RUNS = {RUNS!r}\n{SUBINTERPRETER}")
    assert done.stdout == EXPECTED, done.stderr
    assert done.returncode == 0

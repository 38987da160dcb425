"""Signals that arrive while the loop sleeps or a thread runs, which must be handled at once.

See https://github.com/MagicStack/uvloop/issues/295.
"""

from __future__ import annotations

import pytest

from tests.support.programs import run_code

PROGRAM = """
import os, runtime, signal, subprocess, sys, threading

async def main():
    loop = runtime.get_running_loop()
    arrived = loop.create_future()
    signal.signal(signal.SIGUSR1, lambda *_: arrived.done() or arrived.set_result("arrived"))
    stop = threading.Event()
    {meanwhile}
    # Another process sends it, so that nothing in this one wakes the loop.
    sender = subprocess.Popen([sys.executable, "-c",
        "import os, signal, sys, time; time.sleep(0.2);"
        "os.kill(int(sys.argv[1]), signal.SIGUSR1)", str(os.getpid())])
    # Without the wake-up it would be seen when the timeout ends the loop's sleep.
    print(await runtime.wait_for(arrived, 20))
    stop.set()
    sender.wait()

runtime.run(main())
"""
MEANWHILE = {
    "the loop sleeps": "",
    "a thread runs": (
        "threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(stop.is_set, True)])"
        ".start()"
    ),
    "the signal goes to a thread": (
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]);"
        "threading.Thread(target=stop.wait).start();"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])"
    ),
}


@pytest.mark.parametrize("meanwhile", list(MEANWHILE))
def test_it_is_handled_in_the_next_turn(meanwhile: str) -> None:
    result = run_code(PROGRAM.format(meanwhile=MEANWHILE[meanwhile]))
    assert result.stdout == "arrived\n", result.stderr

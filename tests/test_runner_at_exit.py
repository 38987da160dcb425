"""Runners and loops that a finalizer closes at interpreter exit."""

from __future__ import annotations

import pytest

from tests.support.programs import run_code

PROGRAM = """
import runtime, time

class Holder:
    def __init__(self, closes):
        self.closes = closes

    def __del__(self):
        print("closing", flush=True)
        self.closes.close()
        print("closed", flush=True)

{what}
print("end", flush=True)
"""

CALL_IN_THE_EXECUTOR = """
async def main():
    runtime.get_running_loop().run_in_executor(None, time.sleep, 0.1)

runner = runtime.Runner()
holder = Holder(runner)
runner.run(main())
"""

WATCHED_LOOP = """
loop = runtime.new_event_loop()
holder = Holder(loop)
loop.watch_slow_callbacks(0.05)
loop.run_until_complete(runtime.sleep(0.1))
"""


@pytest.mark.parametrize("what", [CALL_IN_THE_EXECUTOR, WATCHED_LOOP])
def test_it_comes_to_an_end(what: str) -> None:
    done = run_code(PROGRAM.format(what=what))
    assert done.stdout == "end\nclosing\nclosed\n", done.stderr
    assert done.stderr == ""
    assert done.returncode == 0

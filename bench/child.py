"""A contender's process: ``python -m bench.child API KIND ARGUMENT...``.

It speaks as bench/lines.py says. First it says which build it is, then, by its kind:

``hello``
    nothing more.
``case NAME``
    for each count that it reads, it runs the case so often, and says what an operation cost.
``streams SIZE``
    it serves until its input ends, and says what it has used for each line that it reads.
``memory NAME SCALES``
    it says what one object costs.

A contender that lacks what a case needs (NotImplementedError) says ``unsupported``.
"""

from __future__ import annotations

import gc
import sys
import time
import traceback

from bench.apis import facts, load
from bench.cases.echo import serve_streams
from bench.cases.memory import MEMORY_CASES, Scales
from bench.cases.scheduler import SCHEDULER_CASES
from bench.lines import say, usage


def run_case(api_name: str, name: str) -> None:
    """Run a case of the scheduler for each count that is read."""
    api, run = load(api_name)
    body = SCHEDULER_CASES[name].body

    async def main(count: int) -> None:
        gc.collect()
        user, kernel = usage()
        started = time.perf_counter()
        await body(api, count)
        seconds = time.perf_counter() - started
        user_after, kernel_after = usage()
        say(
            {
                "seconds": seconds / count,
                "user": (user_after - user) / count,
                "kernel": (kernel_after - kernel) / count,
            }
        )

    for line in sys.stdin:
        run(main(int(line)))


def do(api_name: str, kind: str, arguments: list[str]) -> None:
    """Do what the command line says."""
    if kind == "case":
        run_case(api_name, arguments[0])
    elif kind == "streams":
        api, run = load(api_name)
        run(serve_streams(api, int(arguments[0])))
    elif kind == "memory":
        name, scales = arguments
        api, run = load(api_name)
        run(MEMORY_CASES[name].body(api, Scales(scales)))


def main() -> None:
    """Greet, and do what the command line says."""
    api_name, kind, *arguments = sys.argv[1:]
    try:
        say(facts(api_name))
    except ImportError as error:
        say({"error": str(error)})
        return
    try:
        do(api_name, kind, arguments)
    except NotImplementedError as error:
        say({"unsupported": _where(error)})


def _where(error: BaseException) -> str:
    """Return which function raised an error."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.name}() is not implemented"


if __name__ == "__main__":
    main()

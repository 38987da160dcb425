"""A contender's process: ``python -m bench.child API KIND ARGUMENT...``.

It speaks as bench/lines.py says. First it says which build it is, then, by its kind:

``hello``
    nothing more.
``case NAME``
    for each count that it reads, it runs the case so often, and says what an operation cost.
``serve NAME SIZE STATE``
    it serves until its input ends, and says what it has used for each line that it reads. STATE is
    that of the allocator: ``as-started`` or ``freed``.
``memory NAME SCALES``
    it says what one object costs.

A contender that lacks what a case needs says ``unsupported``, and what that is.
"""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import asdict

from bench.apis import Api, Run, facts, lacking, load
from bench.cases.foreign import body_of, serve, weighing_of
from bench.cases.memory import Scales
from bench.cases.scheduler import Body
from bench.lines import say, usage


def run_case(api: Api, run: Run, body: Body) -> None:
    """Run a case of the scheduler for each count that is read."""

    async def main(count: int) -> None:
        gc.collect()
        before = usage()
        started = time.perf_counter()
        await body(api, count)
        seconds = time.perf_counter() - started
        say({"seconds": seconds / count, **asdict(usage().since(before, count))})

    for line in sys.stdin:
        run(main(int(line)))


def do(api_name: str, api: Api, run: Run, kind: str, arguments: list[str]) -> None:
    """Do what the command line says."""
    if kind == "case":
        run_case(api, run, body_of(api_name, arguments[0]))
    elif kind == "serve":
        name, size, state = arguments
        run(serve(api_name, api, name, int(size), state))
    elif kind == "memory":
        name, scales = arguments
        run(weighing_of(api_name, name)(api, Scales(scales)))


def main() -> None:
    """Greet, and do what the command line says."""
    api_name, kind, *arguments = sys.argv[1:]
    try:
        say(facts(api_name))
    except ImportError as error:
        say({"error": str(error)})
        return
    api, run = load(api_name)
    try:
        do(api_name, api, run, kind, arguments)
    except (NotImplementedError, AttributeError) as error:
        if not (lack := lacking(api, error)):
            raise
        say({"unsupported": lack})


if __name__ == "__main__":
    main()

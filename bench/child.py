"""A contender's process: ``python -m bench.child API KIND ARGUMENT...``.

It speaks as bench/lines.py says. First it says which build it is, then, by its kind:

``hello``
    nothing more.
``queries FOLDER``
    for each count that it reads, it asks the PostgreSQL whose socket is there so often, and says
    what a query cost.
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

import contextlib
import gc
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict

from bench.apis import Api, Run, facts, lacking, load
from bench.cases.foreign import FOREIGN, body_of, serve, weighing_of
from bench.cases.memory import Scales
from bench.cases.queries import Queries
from bench.cases.scheduler import Body
from bench.lines import say, usage

Prepared = Callable[[], AbstractAsyncContextManager[None]]


def run_case(api: Api, run: Run, body: Body, prepared: Prepared = contextlib.nullcontext) -> None:
    """Run a case for each count that is read, ``prepared`` for it: that is not measured."""

    async def main(count: int) -> None:
        async with prepared():
            gc.collect()
            before = usage()
            started = time.perf_counter()
            waited = await body(api, count)
            seconds = time.perf_counter() - started
            used = usage().since(before, count)
            if waited is None:
                say({"seconds": seconds / count, **asdict(used)})
            else:
                # The CPU time is that of waiting, too.
                say({"seconds": (seconds - waited) / count, "waited": waited / count})

    for line in sys.stdin:
        run(main(int(line)))


def do(api_name: str, api: Api, run: Run, kind: str, arguments: list[str]) -> None:
    """Do what the command line says."""
    if kind == "case":
        run_case(api, run, body_of(api_name, arguments[0]))
    elif kind == "queries":
        if api_name in FOREIGN:
            raise NotImplementedError("asyncpg needs an asyncio loop")
        queries = Queries(arguments[0])
        run_case(api, run, queries.ask, queries.connected)
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

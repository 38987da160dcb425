"""Process of a contender: ``python -m bench.child API KIND ARGUMENT...``.

The process exchanges messages in the format of bench/lines.py. It first reports its build, and then
acts by its kind:

``hello``
    does nothing more.
``queries FOLDER``
    for each count that it reads, runs that many queries on the PostgreSQL whose socket is in
    FOLDER, and reports the cost of one query.
``case NAME``
    for each count that it reads, performs the operation of the case that many times, and reports
    the cost of one operation.
``serve NAME SIZE STATE``
    serves until its input ends, and reports its usage for each line that it reads. STATE is the
    state of the allocator: ``as-started`` or ``freed``.
``memory NAME SCALES``
    reports the memory of one object.

A contender that lacks a feature of the case reports ``unsupported`` with the name of the feature.
One that fails reports ``failed`` with the exception, whose traceback goes to standard error.
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
    """Run a case for each count that is read. Entering ``prepared`` is not measured."""

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
                # No CPU time is reported here, because it would contain the time of waiting.
                say({"seconds": (seconds - waited) / count, "waited": waited / count})

    for line in sys.stdin:
        run(main(int(line)))


def do(api_name: str, api: Api, run: Run, kind: str, arguments: list[str]) -> None:
    """Run the case or the server that the command line asks for."""
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
    """Report the build, then run the case or the server that the command line asks for."""
    api_name, kind, *arguments = sys.argv[1:]
    try:
        say(facts(api_name))
    except ImportError as error:
        say({"error": str(error)})
        return
    api, run = load(api_name)
    try:
        do(api_name, api, run, kind, arguments)
    except Exception as error:
        if isinstance(error, (NotImplementedError, AttributeError)) and (
            lack := lacking(api, error)
        ):
            say({"unsupported": lack})
            return
        say({"failed": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    main()

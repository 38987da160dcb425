"""hypercorn server that runs until a signal arrives: ``hypercorn_server LOOP``."""

from __future__ import annotations

import asyncio
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

import runtime
from tests.ecosystem.programs.web import starlette_app


def main() -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    run = runtime.run if sys.argv[1] == "runtime" else asyncio.run
    run(serve(starlette_app, config))


if __name__ == "__main__":
    main()

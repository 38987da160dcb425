"""Application under ``aiohttp.web.run_app``: ``aiohttp_app LOOP UNIX_SOCKET``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiohttp import web

import runtime


async def slow(request: Any) -> Any:
    """Answer once the shutdown has begun."""
    print("working")
    await request.app[STOPPING].wait()
    return web.Response(text="finished")


async def prepare(app: Any) -> None:
    loop = asyncio.get_running_loop()
    print("loop", "runtime" if isinstance(loop, runtime.Loop) else "asyncio")
    app[STOPPING] = asyncio.Event()


async def stop(app: Any) -> None:
    app[STOPPING].set()


async def clean_up(_: Any) -> None:
    print("clean")


STOPPING = web.AppKey("stopping", asyncio.Event)


def main() -> None:
    name, path = sys.argv[1:]
    app = web.Application()
    app.router.add_get("/slow", slow)
    app.on_startup.append(prepare)
    app.on_shutdown.append(stop)
    app.on_cleanup.append(clean_up)
    loop = runtime.new_event_loop() if name == "runtime" else asyncio.new_event_loop()
    web.run_app(app, path=path, loop=loop, print=lambda *_: print("ready"), shutdown_timeout=30)


if __name__ == "__main__":
    main()

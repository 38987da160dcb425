"""Two equivalent web applications for ASGI servers: ``starlette_app`` and ``fastapi_app``.

They print their events for the tests.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

import runtime


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Print the class of the running loop at the start, and a message at an orderly end."""
    loop = asyncio.get_running_loop()
    print("loop", "runtime" if isinstance(loop, runtime.Loop) else "asyncio", flush=True)
    yield
    print("ended in good order", flush=True)


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"hello, {request.path_params['name']}")


async def digest(request: Request) -> Response:
    """Read the body as it arrives."""
    total = hashlib.sha256()
    async for chunk in request.stream():
        total.update(chunk)
    return JSONResponse({"sum": total.hexdigest()})


async def download(_: Request) -> Response:
    async def blocks() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 65_537

    return StreamingResponse(blocks())


async def endless(_: Request) -> Response:
    async def blocks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65_536)
                await asyncio.sleep(0)
        finally:
            print("nobody listens", flush=True)

    return StreamingResponse(blocks())


async def slow(_: Request) -> Response:
    """Take longer than a test waits for a shutdown to begin."""
    print("working", flush=True)
    await asyncio.sleep(0.5)
    return PlainTextResponse("finished")


async def never(_: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


async def in_a_thread(request: Request) -> Response:
    number = int(request.path_params["name"])
    return PlainTextResponse(str(await asyncio.to_thread(pow, number, 2)))


async def afterwards(_: Request) -> Response:
    return PlainTextResponse(
        "soon", background=BackgroundTask(print, "done afterwards", flush=True)
    )


async def fail(_: Request) -> Response:
    raise LookupError("the application's own")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text((await websocket.receive_text()).upper())
    except WebSocketDisconnect as error:
        print("disconnected", error.code, flush=True)


GET = {
    "/hello/{name}": hello,
    "/download": download,
    "/endless": endless,
    "/slow": slow,
    "/never": never,
    "/thread/{name}": in_a_thread,
    "/afterwards": afterwards,
    "/fail": fail,
}

starlette_app = Starlette(
    lifespan=lifespan,
    routes=[
        *(Route(path, handler) for path, handler in GET.items()),
        Route("/digest", digest, methods=["POST"]),
        WebSocketRoute("/echo", echo),
    ],
)

fastapi_app = FastAPI(lifespan=lifespan)
for each_path, each_handler in GET.items():
    fastapi_app.add_api_route(each_path, each_handler, response_model=None)
fastapi_app.add_api_route("/digest", digest, methods=["POST"], response_model=None)
fastapi_app.add_api_websocket_route("/echo", echo)

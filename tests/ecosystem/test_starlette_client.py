"""Starlette's TestClient: the application runs in a thread, on a runtime loop."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.ecosystem.runners import LoopRunner

with warnings.catch_warnings():
    # Newer versions warn that they prefer another version of httpx.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


def module_of_loop() -> str:
    """Return the module of the running loop's class."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


async def hello(request: Request) -> PlainTextResponse:
    """Answer with the module of the loop."""
    await asyncio.sleep(0)
    return PlainTextResponse(module_of_loop())


def in_thread(request: Request) -> PlainTextResponse:
    """Answer from a thread."""
    return PlainTextResponse("from a thread")


async def failing(request: Request) -> PlainTextResponse:
    """Fail."""
    raise ZeroDivisionError


async def talk(websocket: WebSocket) -> None:
    """Echo a message."""
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def test_requests_web_sockets_and_lifespan(runner: LoopRunner) -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append(module_of_loop())
        yield
        events.append("stopped")

    routes = [
        Route("/", hello),
        Route("/thread", in_thread),
        Route("/failing", failing),
        WebSocketRoute("/talk", talk),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    options = {"loop_factory": runner.loop_factory}
    with TestClient(app, backend_options=options) as client:
        assert client.get("/").text == runner.name
        assert client.get("/thread").text == "from a thread"
        with pytest.raises(ZeroDivisionError):
            client.get("/failing")
        with client.websocket_connect("/talk") as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "hello"
    assert events == [runner.name, "stopped"]
    # Without the ``with`` block, each request has a loop of its own.
    assert TestClient(app, backend_options=options).get("/").text == runner.name

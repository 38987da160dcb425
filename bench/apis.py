"""APIs that the cases are written for, gathered under one set of names."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import ssl
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Main: TypeAlias = Coroutine[Any, Any, T]


class Api(Protocol):
    """Functions and classes that the cases use. ``asyncio`` and ``runtime`` both provide them."""

    Event: Any
    Lock: Any
    Queue: Any
    Semaphore: Any
    TaskGroup: Any

    def create_task(self, coro: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...
    def gather(self, *awaitables: Awaitable[Any]) -> Awaitable[list[Any]]: ...
    def get_running_loop(self) -> asyncio.AbstractEventLoop: ...
    def sleep(self, delay: float, /) -> Awaitable[None]: ...
    def timeout(self, delay: float | None) -> AbstractAsyncContextManager[Any]: ...
    def to_thread(self, func: Callable[[], T], /) -> Awaitable[T]: ...
    def create_subprocess_exec(self, program: str, /) -> Awaitable[Any]: ...
    def open_connection(
        self, host: str, port: int
    ) -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]: ...
    def start_server(
        self,
        client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Main[None]],
        host: str,
        port: int,
        *,
        limit: int,
        backlog: int,
        ssl: ssl.SSLContext | None = None,
    ) -> Awaitable[asyncio.Server]: ...
    def start_unix_server(
        self,
        client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Main[None]],
        path: str,
        *,
        limit: int,
        backlog: int,
    ) -> Awaitable[asyncio.Server]: ...


class Run(Protocol):
    """Function that runs a coroutine on a new loop of a contender and returns its result."""

    def __call__(self, main: Main[T], /) -> T: ...


def load(name: str) -> tuple[Api, Run]:
    """Return an API and the function that runs a coroutine with it.

    ``asyncio``, ``runtime-asyncio`` and the packages of ``bench.contenders.LOOPS`` are asyncio's
    functions on the loop of the named package, and ``runtime-joined`` is that with
    ``join_all_writes()``; ``runtime`` is runtime's own functions on its own loop. ``trio`` and
    ``curio`` use other names for everything, so their cases are written separately: see
    ``bench.cases.foreign``.
    """
    api: Any = asyncio
    if name == "asyncio":
        return api, asyncio.run
    package: Any = importlib.import_module(name.partition("-")[0])
    if name == "runtime":
        return package, package.run
    if name == "curio":
        return package, package.run
    if name == "trio":

        async def wait_for(main: Main[T]) -> T:
            return await main

        def run_in_trio(main: Main[T]) -> T:
            done: T = package.run(wait_for, main)
            return done

        return package, run_in_trio

    def new_loop() -> asyncio.AbstractEventLoop:
        loop: Any = package.new_event_loop()
        if name == "runtime-joined":
            loop.join_all_writes()
        made: asyncio.AbstractEventLoop = loop
        return made

    def run(main: Main[T]) -> T:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    return api, run


def lacking(api: Api, error: NotImplementedError | AttributeError) -> str:
    """Return the feature that a contender lacks, or an empty string if ``error`` is another fault.

    An AttributeError counts as a missing feature only if the attribute was looked up on an API or
    on a loop; any other AttributeError is a fault.
    """
    if isinstance(error, AttributeError):
        asked = error.obj
        if asked is not api and not isinstance(asked, asyncio.AbstractEventLoop):
            return ""
        return f"{error.name} is not there"
    if error.args:
        return str(error)
    return f"{traceback.extract_tb(error.__traceback__)[-1].name}() is not implemented"


def facts(name: str) -> dict[str, Any]:
    """Return the version and the build of the package behind an API."""
    package_name = name.partition("-")[0]
    if package_name == "asyncio":
        return {"version": "of the standard library"}
    package: Any = importlib.import_module(package_name)
    version = getattr(package, "__version__", "") or importlib.metadata.version(package_name)
    found: dict[str, Any] = {"version": version}
    if package_name == "runtime":
        accelerator: Any = importlib.import_module("runtime.kernel.native.accelerator")
        found |= {
            "compiled": bool(package.compiled),
            "accelerator": bool(accelerator.has_accelerator),
            "folder": str(Path(package.__file__).parent),
        }
    return found

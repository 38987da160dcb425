"""Program that ends with objects of the package alive: ``python alive_at_exit.py KIND PLACE``.

``KIND`` names the objects (see ``KINDS``), and ``PLACE`` the place that refers to them when the
interpreter ends (see ``PLACES``). In all cases, the program ends with status 0 and prints nothing
but ResourceWarnings. The third argument is a folder for files.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import runtime

FOLDER = Path(sys.argv[-1])


# -- The objects -----------------------------------------------------------------------------------


async def sleeper() -> None:
    await runtime.sleep(3600)


async def kernel(loop: Any) -> list[Any]:
    """Create tasks, futures, handles, and pending waits."""
    done = loop.create_future()
    done.set_result(1)
    generator = ticks()
    await anext(generator)
    lock = runtime.Lock()
    await lock.acquire()
    tasks = [loop.create_task(sleeper()), loop.create_task(lock.acquire())]
    queue: runtime.Queue[int] = runtime.Queue()
    tasks.append(loop.create_task(queue.get()))
    tasks.append(loop.create_task(waits_for_many(tasks[:])))
    tasks.append(loop.create_task(waits_in_a_group()))
    tasks.append(loop.create_task(asyncio.wait(tasks[:])))
    tasks.append(loop.create_task(runtime.Event().wait()))
    ended = loop.create_task(runtime.sleep(0))
    await runtime.sleep(0)
    await ended
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    tasks.append(loop.create_task(loop.sock_recv(reading, 1)))
    loop.add_writer(writing, int)
    await runtime.sleep(0.01)
    handles = [loop.call_soon(int), loop.call_later(3600, int), loop.call_soon_threadsafe(int)]
    with contextlib.suppress(RuntimeError):  # no new threads can be started during atexit
        handles.append(loop.run_in_executor(None, int))
    futures = [done, loop.create_future(), *tasks, ended]
    return [loop, futures, handles, generator, queue, reading, writing]


async def ticks() -> Any:
    try:
        while True:
            yield 1
    finally:
        await runtime.sleep(0)


async def waits_for_many(others: list[Any]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await runtime.gather(*others)


async def waits_in_a_group() -> None:
    async with runtime.timeout(3600), runtime.TaskGroup() as group:
        group.create_task(sleeper())


async def transports(loop: Any) -> list[Any]:
    """Create a server and connections with protocols."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    client, protocol = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname()
    )
    client.write(b"x" * 4_000_000)
    unix = await loop.create_unix_server(asyncio.Protocol, FOLDER / "protocols")
    local, other = await loop.create_unix_connection(asyncio.Protocol, FOLDER / "protocols")
    tasks = [loop.create_task(server.serve_forever()), loop.create_task(unix.wait_closed())]
    await runtime.sleep(0.01)
    return [server, client, protocol, unix, local, other, tasks]


async def streams(loop: Any) -> list[Any]:
    """Create a server and connections with streams, runtime's and asyncio's."""
    kept: list[Any] = []

    async def handler(reader: Any, writer: Any) -> None:
        kept.extend((reader, writer))
        await reader.read()

    server = await runtime.start_server(handler, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await runtime.open_connection(*address)
    theirs = await asyncio.open_connection(*address)
    writer.write(b"x" * 8_000_000)
    tasks = [loop.create_task(reader.readline()), loop.create_task(writer.drain())]
    unix = await runtime.start_unix_server(handler, FOLDER / "streams")
    local = await runtime.open_unix_connection(FOLDER / "streams")
    await runtime.sleep(0.01)
    return [kept, server, reader, writer, tasks, theirs, unix, local]


async def encrypted(loop: Any) -> list[Any]:
    """Create connections over TLS, with protocols and with streams."""
    import ssl

    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(FOLDER / "server")
    outside = ssl.create_default_context(cafile=str(FOLDER / "authority"))

    async def handler(reader: Any, writer: Any) -> None:
        writer.write(b"x" * 1_000_000)
        await reader.read()

    server = await runtime.start_server(handler, "127.0.0.1", 0, ssl=inside)
    host, port = server.sockets[0].getsockname()
    options: dict[str, Any] = {"ssl": outside, "server_hostname": "localhost"}
    reader, writer = await runtime.open_connection(host, port, **options)
    transport, protocol = await loop.create_connection(asyncio.Protocol, host, port, **options)
    shaking, silent = socket.socketpair()
    handshake = loop.create_task(loop.create_connection(asyncio.Protocol, sock=shaking, **options))
    await runtime.sleep(0.01)
    return [server, reader, writer, transport, protocol, handshake, silent]


async def datagrams(loop: Any) -> list[Any]:
    """Create datagram endpoints of both kinds."""
    endpoint = await runtime.open_datagram(local_addr=("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    task = loop.create_task(endpoint.receive())
    await runtime.sleep(0)
    return [endpoint, transport, protocol, task]


async def pipes(loop: Any) -> list[Any]:
    """Create the transports of both ends of a pipe."""
    reading, writing = os.pipe()
    reader = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(reading, "rb", 0))
    writer = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    writer[0].write(b"x" * 1_000_000)
    return [reader, writer]


async def processes(loop: Any) -> list[Any]:
    """Create processes: with streams, with a protocol, and one that has ended."""
    pipe = asyncio.subprocess.PIPE
    program = ("sleep", "0.2")
    process = await runtime.create_subprocess_exec(*program, stdin=pipe, stdout=pipe)
    transport, protocol = await loop.subprocess_exec(
        asyncio.SubprocessProtocol, *program, stdin=pipe, stdout=pipe
    )
    ended = await runtime.create_subprocess_exec("true", stdin=None)
    await ended.wait()
    waiting = loop.create_task(process.wait())
    theirs = await asyncio.create_subprocess_exec(*program, stdout=pipe)
    await runtime.sleep(0)
    return [process, transport, protocol, ended, waiting, theirs]


KINDS: dict[str, Callable[[Any], Awaitable[list[Any]]]] = {
    "kernel": kernel,
    "transports": transports,
    "streams": streams,
    "encrypted": encrypted,
    "datagrams": datagrams,
    "pipes": pipes,
    "processes": processes,
}


async def everything(loop: Any) -> list[Any]:
    """Create the objects that the first argument names, or all objects."""
    loop.slow_callback_duration = 60.0  # debug mode must not report a slow callback
    names = list(KINDS) if sys.argv[1] == "all" else [sys.argv[1]]
    return [await KINDS[name](loop) for name in names]


# -- The places at exit ----------------------------------------------------------------------------

kept: list[Any] = []


def made() -> list[Any]:
    """Create everything on a new loop, which is then neither running nor closed."""
    loop = runtime.new_event_loop()
    return [loop, loop.run_until_complete(everything(loop))]


def in_a_global() -> None:
    kept.extend(made())


def in_the_current_loop() -> None:
    loop = runtime.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(everything(loop))


def in_another_module() -> None:
    """Keep the objects in the module that is cleared last."""
    sys.kept = made()  # type: ignore[attr-defined]


def in_a_type() -> None:
    gc.disable()
    list_type = type("Kept", (list,), {})
    list_type.kept = made()  # type: ignore[attr-defined]


def in_a_cycle() -> None:
    gc.disable()
    nested: list[Any] = made()
    nested.append(nested)


def in_a_closed_loop() -> None:
    kept.extend(made())
    # Tasks that are pending when a program closes its loop are rightly reported.
    kept[0].set_exception_handler(lambda loop, context: None)
    kept[0].close()


def in_a_thread() -> None:
    local = threading.local()

    def work() -> None:
        local.kept = made()
        sys.kept = local  # type: ignore[attr-defined]

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_a_daemon_thread() -> None:
    """Have a thread sleep, with all objects in its frame."""
    ready = threading.Event()

    def work() -> None:
        kept = made()
        ready.set()
        while kept:
            time.sleep(0.001)

    threading.Thread(target=work, daemon=True).start()
    ready.wait()


def in_a_loop_that_runs_in_a_daemon_thread() -> None:
    """Keep the loop busy, so that it needs the interpreter again and again."""
    ready = threading.Event()

    def work() -> None:
        loop = runtime.new_event_loop()
        kept = loop.run_until_complete(everything(loop))

        def tick() -> None:
            loop.call_later(0.0001, tick)

        tick()
        loop.call_soon(ready.set)
        loop.run_forever()
        print(kept)

    threading.Thread(target=work, daemon=True).start()
    ready.wait()


def in_a_loop_that_waits_in_a_daemon_thread() -> None:
    ready = threading.Event()

    async def main() -> None:
        kept = await everything(asyncio.get_running_loop())
        ready.set()
        await asyncio.get_running_loop().create_future()
        print(kept)

    threading.Thread(target=runtime.run, args=[main()], daemon=True).start()
    ready.wait()


def in_a_loop_that_an_exit_left() -> None:
    """Have SystemExit leave the loop from a callback."""
    loop = runtime.new_event_loop()
    kept.extend((loop, loop.run_until_complete(everything(loop))))
    loop.call_soon(sys.exit, 0)
    loop.run_forever()


def in_a_running_loop() -> None:
    """End the main thread inside a task."""

    async def main() -> None:
        kept.extend(await everything(asyncio.get_running_loop()))
        sys.exit(0)

    loop = runtime.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())


def made_by_atexit() -> None:
    atexit.register(in_a_global)


def run_by_atexit() -> None:
    """Run the loop once more at exit, and close it with everything open."""

    def end() -> None:
        loop, things = kept
        loop.run_until_complete(runtime.sleep(0.01))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(runtime.sleep(0.01))
        loop.set_exception_handler(lambda loop, context: None)  # as in in_a_closed_loop()
        loop.close()
        print(end="" if things else "nothing was kept")

    in_a_global()
    atexit.register(end)


class Finalizer:
    """Uses its objects in its finalizer, without globals, which may have been cleared before."""

    suppress = contextlib.suppress
    problems = BaseException
    uses = ("cancel", "close", "abort", "is_closing", "result", "resume_reading", "write_eof")

    def __init__(self, loop: Any, things: list[Any]) -> None:
        self.loop = loop
        self.things = list(flat(things))

    def __del__(self) -> None:
        loop = self.loop
        for thing in self.things:
            for name in self.uses:
                with self.suppress(self.problems):
                    getattr(thing, name)()
            with self.suppress(self.problems):
                repr(thing)
            with self.suppress(self.problems):
                thing.write(b"x")
        with self.suppress(self.problems):
            loop.call_soon(int)
        with self.suppress(self.problems):
            loop.run_until_complete(loop.create_future())
        with self.suppress(self.problems):
            loop.close()


def flat(things: Any) -> Iterator[Any]:
    """Yield the elements of nested lists."""
    for thing in things:
        if isinstance(thing, (list, tuple)):
            yield from flat(thing)
        else:
            yield thing


def in_a_finalizer() -> None:
    kept.append(Finalizer(*made()))


def in_a_finalizer_in_a_cycle() -> None:
    gc.disable()
    nested: list[Any] = [Finalizer(*made())]
    nested.append(nested)


def in_a_finalizer_in_another_module() -> None:
    sys.kept = Finalizer(*made())  # type: ignore[attr-defined]


PLACES: dict[str, Callable[[], None]] = {
    name: place
    for name, place in list(globals().items())
    if name.startswith(("in_", "made_by", "run_by"))
}


if __name__ == "__main__":
    PLACES[sys.argv[2]]()

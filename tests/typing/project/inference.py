"""Types that a checker infers for the generics of ``runtime``, by ``assert_type``; never run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal, assert_type

import runtime
import runtime.testing


async def number() -> int:
    return 1


async def text() -> str:
    return ""


async def data() -> bytes:
    return b""


async def nothing() -> None:
    return None


async def as_any_other(task: runtime.Task[object]) -> None:
    """Accept a task with any result type: a task is only read."""
    assert_type(await task, object)


async def tasks() -> None:
    task = runtime.create_task(number())
    assert_type(task, runtime.Task[int])
    assert_type(await task, int)
    assert_type(task.result(), int)
    assert_type(task.exception(), BaseException | None)
    assert_type(task.cancel(), bool)
    assert_type(task.cancelling(), int)
    assert_type(task.get_name(), str)
    assert_type(task.get_coro(), Coroutine[Any, Any, int] | None)
    assert_type(task.get_context(), contextvars.Context)
    assert_type(runtime.create_task(text(), name="named", eager_start=True), runtime.Task[str])
    assert_type(runtime.create_task(data(), daemon=True), runtime.Task[bytes])
    assert_type(runtime.Task(number()), runtime.Task[int])
    assert_type(runtime.current_task(), runtime.Task[Any] | None)
    assert_type(runtime.ensure_future(number()), runtime.Task[int])
    assert_type(runtime.ensure_future(task), runtime.Task[int])
    await as_any_other(task)

    def on_task_done(done: runtime.Task[int]) -> None:
        assert_type(done.result(), int)

    def on_done(done: runtime.Future[int]) -> None:
        assert_type(done.result(), int)

    task.add_done_callback(on_task_done)
    task.add_done_callback(on_done)
    assert_type(task.remove_done_callback(on_task_done), int)


async def futures() -> None:
    future: runtime.Future[int] = runtime.Future()
    assert_type(await future, int)
    assert_type(future.result(), int)
    assert_type(future.done(), bool)
    future.add_done_callback(lambda done: print(done.result() + 1))
    assert_type(runtime.ensure_future(future), runtime.Future[int])
    theirs: concurrent.futures.Future[str] = concurrent.futures.Future()
    assert_type(runtime.wrap_future(theirs), runtime.Future[str])
    unknown: object = future
    if runtime.isfuture(unknown):
        assert_type(unknown, runtime.Future[Any])


async def waiting_for_several(task: runtime.Task[int], future: runtime.Future[str]) -> None:
    assert_type(await runtime.gather(number()), tuple[int])
    assert_type(await runtime.gather(number(), text()), tuple[int, str])
    assert_type(await runtime.gather(task, future, data()), tuple[int, str, bytes])
    assert_type(
        await runtime.gather(number(), text(), data(), number()), tuple[int, str, bytes, int]
    )
    assert_type(
        await runtime.gather(number(), text(), data(), number(), text()),
        tuple[int, str, bytes, int, str],
    )
    assert_type(
        await runtime.gather(number(), text(), data(), number(), text(), data()),
        tuple[int, str, bytes, int, str, bytes],
    )
    assert_type(await runtime.gather(*[number(), number()]), list[int])
    assert_type(
        await runtime.gather(number(), text(), return_exceptions=True),
        tuple[int | BaseException, str | BaseException],
    )
    assert_type(
        await runtime.gather(*[number()], return_exceptions=True), list[int | BaseException]
    )
    assert_type(runtime.gather(number(), text()), runtime.Future[tuple[int, str]])

    done, pending = await runtime.wait([task], return_when=runtime.FIRST_COMPLETED)
    assert_type(done, set[runtime.Task[int]])
    assert_type(pending, set[runtime.Task[int]])
    some, _ = await runtime.wait({future}, timeout=1)
    assert_type(some, set[runtime.Future[str]])

    async for finished in runtime.as_completed([number(), number()]):
        assert_type(finished, runtime.Future[int])
        assert_type(await finished, int)
    for upcoming in runtime.as_completed([text()], timeout=1):
        assert_type(await upcoming, str)


async def waiting_for_one(task: runtime.Task[int]) -> None:
    assert_type(await runtime.wait_for(number(), 1), int)
    assert_type(await runtime.wait_for(task, None), int)
    assert_type(runtime.shield(text()), runtime.Future[str])
    assert_type(await runtime.shield(task), int)
    assert_type(await runtime.sleep(1), None)
    assert_type(await runtime.sleep(1, "woken"), str)
    async with runtime.timeout(1) as deadline:
        assert_type(deadline, runtime.Timeout)
        assert_type(deadline.when(), float | None)
        assert_type(deadline.expired(), bool)
    async with runtime.timeout_at(None) as deadline:
        assert_type(deadline, runtime.Timeout)


async def groups() -> None:
    async with runtime.TaskGroup() as group:
        assert_type(group, runtime.TaskGroup)
        assert_type(group.create_task(number()), runtime.Task[int])
        assert_type(group.create_task(text(), name="named"), runtime.Task[str])
        assert_type(group.create_task(number(), daemon=True), runtime.Task[int])


async def serve_number(started: runtime.Started[int], name: str) -> None:
    started(len(name))


async def serve_nothing(started: runtime.Started[None]) -> None:
    started()


async def started_tasks() -> None:
    async with runtime.TaskGroup() as group:
        assert_type(await group.start(serve_number, "name"), int)
        assert_type(await runtime.gather(group.start(serve_nothing)), tuple[None])
        assert_type(group.cancel_scope, runtime.CancelScope)
        group.cancel("enough")


async def scopes() -> None:
    with runtime.CancelScope(deadline=5, shield=True) as scope:
        assert_type(scope, runtime.CancelScope)
        assert_type(scope.deadline, float)
        assert_type(scope.shield, bool)
        assert_type(scope.cancel_called, bool)
        assert_type(scope.cancelled_caught, bool)
        assert_type(scope.cancel_reason, runtime.CancelReason | None)
        scope.deadline = 7
        scope.cancel("enough")
    with runtime.move_on_after(1) as scope:
        assert_type(scope, runtime.CancelScope)
    with runtime.fail_at(1.5) as scope:
        assert_type(scope, runtime.CancelScope)
    assert_type(runtime.current_effective_deadline(), float)
    assert_type(runtime.cancel_reason(LookupError()), runtime.CancelReason | None)
    assert_type(await runtime.checkpoint(), None)
    assert_type(await runtime.checkpoint_if_cancelled(), None)
    assert_type(await runtime.cancel_shielded_checkpoint(), None)


async def channels() -> None:
    send, receive = runtime.open_channel[int](10)
    assert_type(send, runtime.SendChannel[int])
    assert_type(receive, runtime.ReceiveChannel[int])
    assert_type(await receive.receive(), int)
    assert_type(receive.receive_nowait(), int)
    assert_type(receive.clone(), runtime.ReceiveChannel[int])
    await send.send(1)
    send.send_nowait(2)
    async for item in receive:
        assert_type(item, int)
    with send as end:
        assert_type(end, runtime.SendChannel[int])
    assert_type(send.statistics().items, int)
    narrower: runtime.SendChannel[bool] = send
    wider: runtime.ReceiveChannel[object] = receive
    del narrower, wider


async def limits() -> None:
    limiter = runtime.CapacityLimiter(3)
    async with limiter as entered:
        assert_type(entered, None)
    assert_type(limiter.total, float)
    assert_type(limiter.statistics(), runtime.LimiterStatistics)
    assert_type(await runtime.to_thread(len, "name", limiter=limiter), int)
    assert_type(runtime.current_default_thread_limiter(), runtime.CapacityLimiter)


def work(count: int, *, label: str = "") -> list[str]:
    return [label] * count


async def threads(loop: runtime.Loop) -> None:
    assert_type(await runtime.to_thread(work, 3, label="x"), list[str])
    assert_type(await loop.run_in_executor(None, work, 3), list[str])
    assert_type(runtime.run_coroutine_threadsafe(number(), loop), concurrent.futures.Future[int])


def running() -> None:
    assert_type(runtime.run(number()), int)
    assert_type(runtime.run(nothing(), debug=True), None)
    assert_type(runtime.run(number(), until="idle"), int)
    with runtime.Runner() as runner:
        assert_type(runner, runtime.Runner)
        assert_type(runner.run(text()), str)
        assert_type(runner.get_loop(), runtime.Loop)
    assert_type(runtime.new_event_loop(), runtime.Loop)
    assert_type(runtime.testing.run(number()), int)
    assert_type(runtime.testing.VirtualClock().new_event_loop(), runtime.Loop)
    with asyncio.Runner(loop_factory=runtime.Loop) as theirs:
        assert_type(theirs.run(number()), int)


def loops(loop: runtime.Loop) -> None:
    assert_type(loop.create_task(number()), runtime.Task[int])
    assert_type(loop.run_until_complete(number()), int)
    assert_type(loop.call_soon(print, 1, "two"), runtime.Handle)
    assert_type(loop.call_later(1.5, work, 1), runtime.TimerHandle)
    assert_type(loop.call_at(1.5, work, 1), runtime.TimerHandle)
    assert_type(loop.call_soon_threadsafe(work, 1), runtime.Handle)
    assert_type(loop.time(), float)
    future: runtime.Future[int] = loop.create_future()
    future.set_result(1)
    as_asyncio_s: asyncio.AbstractEventLoop = loop
    assert_type(as_asyncio_s.is_running(), bool)


async def queues(items: runtime.Queue[int]) -> None:
    await items.put(1)
    items.put_nowait(2)
    assert_type(await items.get(), int)
    assert_type(items.get_nowait(), int)
    assert_type(items.qsize(), int)
    assert_type(await items.join(), None)
    assert_type(runtime.Queue[str](maxsize=3), runtime.Queue[str])
    ordered: runtime.PriorityQueue[tuple[int, str]] = runtime.PriorityQueue()
    assert_type(await ordered.get(), tuple[int, str])
    stack = runtime.LifoQueue[bytes]()
    assert_type(stack.get_nowait(), bytes)
    any_of_them: runtime.Queue[bytes] = stack
    assert_type(await any_of_them.get(), bytes)


async def locks(condition: runtime.Condition) -> None:
    async with runtime.Lock() as entered:
        assert_type(entered, None)
    assert_type(await runtime.Semaphore(2).acquire(), Literal[True])
    assert_type(await runtime.Event().wait(), Literal[True])
    assert_type(await condition.wait_for(lambda: [1]), list[int])
    async with runtime.Barrier(2) as position:
        assert_type(position, int)


async def streams() -> None:
    reader, writer = await runtime.open_connection("localhost", 80, ssl=True)
    assert_type(reader, runtime.StreamReader)
    assert_type(writer, runtime.StreamWriter)
    assert_type(await reader.read(10), bytes)
    assert_type(await reader.readline(), bytes)
    assert_type(await reader.readexactly(10), bytes)
    assert_type(await reader.readuntil((b"\r", b"\n")), bytes)
    async for line in reader:
        assert_type(line, bytes)
    writer.write(bytearray(b"x"))
    writer.writelines([b"x", memoryview(b"y")])
    assert_type(await writer.drain(), None)
    pair: tuple[runtime.StreamReader, runtime.StreamWriter]
    pair = await runtime.open_unix_connection("/socket")
    async with await runtime.open_connection("localhost", 80) as (reader, writer):
        assert_type(reader, runtime.StreamReader)
        assert_type(writer, runtime.StreamWriter)
    async with pair[1] as writer:
        assert_type(writer, runtime.StreamWriter)


async def serve(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    writer.write(await reader.read())


async def servers() -> None:
    async with await runtime.start_server(serve, "localhost", 0) as server:
        assert_type(server, runtime.Server)
        assert_type(server.sockets, tuple[TransportSocket, ...])
        assert_type(server.is_serving(), bool)
        assert_type(await server.shutdown(timeout=1), None)
    assert_type(await runtime.start_unix_server(serve, "/socket"), runtime.Server)


class Chat(asyncio.Protocol):
    lines: int = 0


async def protocols(loop: runtime.Loop) -> None:
    transport, chat = await loop.create_connection(Chat, "localhost", 80)
    assert_type(chat, Chat)
    as_asyncio_s: asyncio.Transport = transport
    assert_type(as_asyncio_s.is_closing(), bool)
    assert_type(await loop.create_server(Chat, "localhost", 0), runtime.Server)


async def datagrams() -> None:
    async with await runtime.open_datagram(remote_addr=("localhost", 53)) as endpoint:
        assert_type(endpoint, runtime.DatagramEndpoint)
        assert_type(await endpoint.receive(), tuple[bytes, Any])
        async for received, _ in endpoint:
            assert_type(received, bytes)


async def processes() -> None:
    process = await runtime.create_subprocess_exec("ls", "-l", stdout=runtime.PIPE)
    assert_type(process, runtime.Process)
    assert_type(process.stdin, runtime.StreamWriter | None)
    assert_type(process.stdout, runtime.StreamReader | None)
    assert_type(await process.wait(), int)
    assert_type(process.returncode, int | None)
    assert_type(await process.communicate(), tuple[bytes | None, bytes | None])
    assert_type(await runtime.create_subprocess_shell("ls | wc"), runtime.Process)


async def descriptors(one: socket.socket) -> None:
    assert_type(await runtime.wait_readable(one), None)
    received, fds, _, _ = await runtime.recv_fds(one, 10, 1)
    assert_type(received, bytes)
    assert_type(fds, list[int])


def answer_later(resume: runtime.Resume[int]) -> None:
    resume(1)


def ask(resume: runtime.Resume[str]) -> Callable[[], None]:
    def take_back() -> None:
        resume(error=OSError("not any more"))

    return take_back


async def suspension() -> None:
    assert_type(await runtime.suspend(answer_later), int)
    assert_type(await runtime.suspend(ask), str)


class Eventually:
    """Another awaitable."""

    def __await__(self) -> Generator[Any, None, int]:
        return number().__await__()


async def other_awaitables() -> None:
    assert_type(await runtime.wait_for(Eventually(), 1), int)
    assert_type(await runtime.gather(Eventually(), text()), tuple[int, str])
    assert_type(await runtime.shield(Eventually()), int)
    assert_type(runtime.run(Eventually()), int)

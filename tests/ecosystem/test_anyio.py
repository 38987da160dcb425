"""anyio, whose asyncio backend gets a runtime loop."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_process
import anyio.to_thread
import pytest
from anyio.streams.tls import TLSListener, TLSStream

import runtime
from tests.ecosystem.runners import LoopRunner
from tests.support.certificates import Certificates, client_context, server_context

T = TypeVar("T")


def run(runner: LoopRunner, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run with anyio's own ``run``."""

    async def watched() -> T:
        with anyio.fail_after(60):
            return await runner.watched(main)

    options = {} if runner.name == "asyncio" else {"loop_factory": runner.loop_factory}
    result: T = anyio.run(watched, backend="asyncio", backend_options=options)
    assert runner.reports == []
    return result


def test_a_task_group_ends_with_all_of_its_tasks(runner: LoopRunner) -> None:
    async def main() -> tuple[list[int], str]:
        results: list[int] = []

        async def work(number: int, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
            await anyio.sleep(0)
            task_status.started(number * 10)
            await anyio.sleep(0)
            results.append(number)

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(work, number)
            results.append(await group.start(work, 99))
        names: list[str] = []

        async def fail(error: type[Exception]) -> None:
            raise error

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(fail, LookupError)
                group.start_soon(fail, ValueError)
                group.start_soon(anyio.sleep_forever)
        except* (LookupError, ValueError) as errors:
            names = sorted(type(each).__name__ for each in errors.exceptions)
        return sorted(results), " ".join(names)

    assert run(runner, main) == (sorted([*range(50), 99, 990]), "LookupError ValueError")


def test_cancel_scopes(runner: LoopRunner) -> None:
    async def main() -> list[Any]:
        events: list[Any] = []
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        events.append(scope.cancelled_caught)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()
        with anyio.CancelScope() as outer:
            with anyio.CancelScope(shield=True) as inner:
                outer.cancel()
                await anyio.sleep(0.001)
                events.append("shielded")
            events.append(inner.cancelled_caught)
            await anyio.sleep(0)
            events.append("never")
        events.append(outer.cancelled_caught)

        async def stubborn() -> None:
            for _ in range(3):
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    events.append("again")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
                events.append("cleaned up")

        async with anyio.create_task_group() as group:
            group.start_soon(stubborn)
            await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        with anyio.move_on_after(30) as deadline:
            deadline.deadline = anyio.current_time() - 1
            await anyio.sleep_forever()
        events.append(deadline.cancelled_caught)
        await anyio.lowlevel.checkpoint()
        return events

    assert run(runner, main) == [
        True,
        "shielded",
        False,
        True,
        "again",
        "again",
        "again",
        "cleaned up",
        True,
    ]


def test_a_cancellation_loses_nothing_that_was_received(runner: LoopRunner) -> None:
    """A task whose future is done gets the result first, and is cancelled at its next await."""

    async def main() -> list[str]:
        events: list[str] = []
        send, receive = anyio.create_memory_object_stream[str](0)
        event = anyio.Event()

        async def take() -> None:
            await event.wait()
            events.append("the event was seen")
            await anyio.sleep(0)
            events.append("never")

        async def listen() -> None:
            events.append(await receive.receive())
            await anyio.sleep(0)
            events.append("never")

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            event.set()
            send.send_nowait("received")
            group.cancel_scope.cancel()
        send.close()
        receive.close()
        return sorted(events)

    assert run(runner, main) == ["received", "the event was seen"]


def test_locks_conditions_semaphores_and_limiters(runner: LoopRunner) -> None:
    async def main() -> tuple[int, int, list[int], int]:
        lock, semaphore = anyio.Lock(), anyio.Semaphore(3)
        limiter, condition = anyio.CapacityLimiter(2), anyio.Condition()
        inside = most = most_limited = 0
        order: list[int] = []
        ready = False

        async def work(number: int) -> None:
            nonlocal inside, most, most_limited
            async with semaphore:
                inside += 1
                most = max(most, inside)
                await anyio.sleep(0)
                inside -= 1
            async with limiter:
                most_limited = max(most_limited, int(limiter.borrowed_tokens))
                await anyio.sleep(0)
            async with condition:
                while not ready:
                    await condition.wait()
            async with lock:
                order.append(number)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(work, number)
            await anyio.wait_all_tasks_blocked()
            async with condition:
                ready = True
                condition.notify_all()
        with anyio.move_on_after(0.01) as scope:
            async with lock:
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with lock:
            return most, most_limited, sorted(order), lock.statistics().tasks_waiting

    assert run(runner, main) == (3, 2, list(range(20)), 0)


def test_memory_object_streams(runner: LoopRunner) -> None:
    async def main() -> tuple[list[int], str]:
        send, receive = anyio.create_memory_object_stream[int](5)
        results: list[int] = []

        async def produce(stream: Any, start: int) -> None:
            async with stream:
                for number in range(start, start + 100):
                    await stream.send(number)

        async def consume(stream: Any) -> None:
            async with stream:
                results.extend([number async for number in stream])

        async with anyio.create_task_group() as group, send, receive:
            for start in range(0, 500, 100):
                group.start_soon(produce, send.clone(), start)
            for _ in range(3):
                group.start_soon(consume, receive.clone())
        with pytest.raises(anyio.ClosedResourceError) as raised:
            await send.send(1)
        return sorted(results), type(raised.value).__name__

    assert run(runner, main) == (list(range(500)), "ClosedResourceError")


def test_threads(runner: LoopRunner) -> None:
    async def main() -> tuple[list[int], list[int], int, bool]:
        async def in_the_loop(number: int) -> int:
            await anyio.sleep(0)
            return number + 1

        def in_a_thread(number: int) -> int:
            result: int = anyio.from_thread.run(in_the_loop, number * 2)
            return result

        results: list[int] = []

        async def call(number: int) -> None:
            results.append(await anyio.to_thread.run_sync(in_a_thread, number))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call, number)
        seen: list[int] = []

        def until_cancelled() -> None:
            try:
                while True:
                    anyio.from_thread.check_cancelled()
                    anyio.from_thread.run(anyio.sleep, 0.001)
            finally:
                seen.append(1)

        with anyio.move_on_after(0.05) as scope:
            await anyio.to_thread.run_sync(until_cancelled)
        with pytest.raises(LookupError):
            await anyio.to_thread.run_sync({}.__getitem__, "missing")
        limiter = anyio.to_thread.current_default_thread_limiter()
        return sorted(results), seen, int(limiter.borrowed_tokens), scope.cancelled_caught

    assert run(runner, main) == ([number * 2 + 1 for number in range(100)], [1], 0, True)


def test_a_portal_from_another_thread(runner: LoopRunner) -> None:
    async def add(one: int, two: int) -> int:
        await anyio.sleep(0)
        return one + two

    options = {} if runner.name == "asyncio" else {"loop_factory": runner.loop_factory}
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        futures = [portal.start_task_soon(add, number, 1) for number in range(20)]
        assert [future.result() for future in futures] == list(range(1, 21))
        forever = portal.start_task_soon(anyio.sleep_forever)
        assert forever.cancel()
        assert portal.call(add, 1, 2) == 3


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_tcp_listeners(runner: LoopRunner, certificates: Certificates, tls: bool) -> None:
    async def main() -> list[bytes]:
        async def shout(stream: Any) -> None:
            async with stream:
                async for data in stream:
                    await stream.send(data.upper())

        listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        if tls:
            listener = TLSListener(listener, server_context(certificates))
        answers: list[bytes] = []

        async def talk(number: int) -> None:
            stream: Any = await anyio.connect_tcp("localhost", port)
            if tls:
                stream = await TLSStream.wrap(
                    stream, hostname="localhost", ssl_context=client_context(certificates)
                )
            async with stream:
                text = b"number %d" % number
                await stream.send(text)
                answer = b""
                while len(answer) < len(text):
                    answer += await stream.receive()
                answers.append(answer)

        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, shout)
            async with anyio.create_task_group() as clients:
                for number in range(20):
                    clients.start_soon(talk, number)
            group.cancel_scope.cancel()
        await listener.aclose()
        return sorted(answers)

    assert run(runner, main) == sorted(b"NUMBER %d" % number for number in range(20))


def test_sockets_of_other_kinds(runner: LoopRunner, tmp_path: Path) -> None:
    async def main() -> tuple[bytes, bytes, str]:
        listener = await anyio.create_unix_listener(tmp_path / "socket")
        async with (
            listener,
            await anyio.connect_unix(tmp_path / "socket") as client,
            await listener.accept() as server,
        ):
            await client.send(b"over a Unix socket")
            unix = await server.receive()
            await client.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await server.receive()
            with pytest.raises(TimeoutError), anyio.fail_after(0.01):
                await client.receive()
        async with await anyio.create_udp_socket(
            family=socket.AF_INET, local_host="127.0.0.1"
        ) as one:
            port = one.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as two:
                await two.send(b"a datagram")
                packet, _ = await one.receive()
        with pytest.raises(OSError, match="All connection attempts failed") as raised:
            await anyio.connect_tcp("127.0.0.1", 1)
        return unix, packet, type(raised.value.__cause__).__name__

    expected = (b"over a Unix socket", b"a datagram", "ConnectionRefusedError")
    assert run(runner, main) == expected


def test_waiting_for_a_socket(runner: LoopRunner) -> None:
    async def main() -> bytes:
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            with anyio.move_on_after(0.01) as scope:
                await anyio.wait_readable(one)
            assert scope.cancelled_caught
            two.send(b"here")
            await anyio.wait_readable(one)
            await anyio.wait_writable(one)
            return one.recv(10)

    assert run(runner, main) == b"here"


def test_files(runner: LoopRunner, tmp_path: Path) -> None:
    async def main() -> tuple[str, list[str]]:
        path = anyio.Path(tmp_path) / "file"
        async with await anyio.open_file(path, "w") as file:
            await file.write("one\ntwo\n")
        async with await anyio.open_file(path) as file:
            lines = [line async for line in file]
        return await path.read_text(), lines

    assert run(runner, main) == ("one\ntwo\n", ["one\n", "two\n"])


def test_processes(runner: LoopRunner) -> None:
    async def main() -> tuple[bytes, int, bytes, int]:
        code = "import sys; sys.stdout.write(sys.stdin.read().upper())"
        done = await anyio.run_process([sys.executable, "-c", code], input=b"shout")
        endless = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]
        async with await anyio.open_process(endless) as process:
            assert process.stdout is not None
            said = b""
            while not said.endswith(b"\n"):
                said += await process.stdout.receive()
            process.terminate()
            status = await process.wait()
        with anyio.move_on_after(0.2) as scope:
            await anyio.run_process(endless)
        assert scope.cancelled_caught
        return done.stdout, done.returncode, said, status

    assert run(runner, main) == (b"SHOUT", 0, b"up\n", -15)


def test_worker_processes(runner: LoopRunner) -> None:
    async def main() -> list[int]:
        return [await anyio.to_process.run_sync(pow, number, 2) for number in range(3)]

    assert run(runner, main) == [0, 1, 4]


def test_signals(runner: LoopRunner) -> None:
    async def main() -> list[int]:
        received = []
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGTERM) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            async for number in signals:
                received.append(int(number))
                if number == signal.SIGTERM:
                    return received
                os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the receiver ended by itself")

    assert run(runner, main) == [signal.SIGUSR1, signal.SIGTERM]


def test_a_tls_error_reaches_the_client(runner: LoopRunner, certificates: Certificates) -> None:
    async def main() -> str:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        context = server_context(certificates, certificates.expired)

        async def never(stream: Any) -> None:
            raise AssertionError("no handshake should succeed")

        async with anyio.create_task_group() as group:
            serving = TLSListener(listener, context)
            group.start_soon(serving.serve, never)
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                await anyio.connect_tcp(
                    "127.0.0.1",
                    port,
                    tls=True,
                    ssl_context=client_context(certificates),
                    tls_hostname="localhost",
                )
            group.cancel_scope.cancel()
        await serving.aclose()
        return raised.value.verify_message

    assert run(runner, main) == "certificate has expired"


def test_scopes_of_this_package_around_and_inside() -> None:
    """Each scope ends its own cancellation, and the requests are counted as before."""

    async def main() -> list[Any]:
        events: list[Any] = []
        task = runtime.current_task()
        assert task is not None

        async def child(name: str) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
                events.append(name)

        with runtime.move_on_after(0.01) as outer:
            with anyio.CancelScope() as inner:
                async with anyio.create_task_group() as group:
                    group.start_soon(child, "in a group of anyio")
        events.append((outer.cancelled_caught, inner.cancelled_caught, task.cancelling()))
        with anyio.move_on_after(0.01) as around:
            with runtime.CancelScope() as within:
                async with runtime.TaskGroup() as own:
                    own.create_task(child("in a group of runtime"))
        events.append((around.cancelled_caught, within.cancelled_caught, task.cancelling()))
        with anyio.CancelScope() as around:
            with runtime.CancelScope() as within:
                around.cancel()
                within.cancel()
                await anyio.sleep(1)
            await anyio.sleep(1)
        events.append((around.cancelled_caught, task.cancelling()))
        with runtime.CancelScope() as outer:
            with anyio.CancelScope() as inner:
                inner.cancel()
                outer.cancel()
                await anyio.sleep(1)
            await anyio.sleep(1)
        events.append((outer.cancelled_caught, task.cancelling()))
        with runtime.move_on_after(0.01) as outer:
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0):
                    await anyio.sleep(1)
            await anyio.sleep(1)
        events.append((outer.cancelled_caught, task.cancelling()))
        await anyio.sleep(0)
        return events

    options = {"loop_factory": runtime.new_event_loop}
    assert anyio.run(main, backend="asyncio", backend_options=options) == [
        "in a group of anyio",
        (True, False, 0),
        "in a group of runtime",
        (True, False, 0),
        (True, 0),
        (True, 0),
        (True, 0),
    ]


def test_the_call_graph_of_a_task_in_a_group() -> None:
    async def main() -> list[str]:
        async def child() -> list[str]:
            graph = runtime.capture_call_graph()
            names: list[str] = []
            while graph is not None:
                task: Any = graph.future
                names.append(task.get_name())
                (graph,) = graph.awaited_by or (None,)
            return names

        async def parent() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(collect, name="child")

        async def collect() -> None:
            found.extend(await child())

        found: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(parent, name="parent")
        return found

    options = {"loop_factory": runtime.new_event_loop}
    names = anyio.run(main, backend="asyncio", backend_options=options)
    assert names[:2] == ["child", "parent"]
    assert len(names) == 3

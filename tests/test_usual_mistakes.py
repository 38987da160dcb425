"""Common mistakes with the API: each error message says how to write it correctly."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import runtime

Mistake = Callable[[], Awaitable[object]]

MISTAKES: dict[str, tuple[Mistake, type[Exception], str]] = {}


def mistake(error: type[Exception], advice: str) -> Callable[[Mistake], Mistake]:
    """Register a function that makes a mistake, for which the message must contain ``advice``."""

    def add(function: Mistake) -> Mistake:
        MISTAKES[function.__name__] = function, error, advice
        return function

    return add


async def answer() -> int:
    return 42


def ordinary() -> Any: ...


async def numbers() -> Any:
    yield 1


wrong: Any = runtime
"""The package without its types: a type checker would find these mistakes."""


@mistake(TypeError, r"gather\(\*awaitables\)")
async def a_list_for_gather() -> None:
    await wrong.gather([wrong.create_task(answer())])


@mistake(TypeError, r"call the coroutine function, as in answer\(\)")
async def a_coroutine_function_for_gather() -> None:
    await wrong.gather(answer)


@mistake(TypeError, "ordinary is an ordinary function; 'async def' makes")
async def an_ordinary_function_for_gather() -> None:
    await wrong.gather(ordinary)


@mistake(TypeError, "the function that was called returned None")
async def the_result_of_an_ordinary_function_for_gather() -> None:
    await wrong.gather(ordinary())


@mistake(TypeError, r"a coroutine was expected, got .*: call .*, as in answer\(\)")
async def a_coroutine_function_for_create_task() -> None:
    wrong.create_task(answer)


@mistake(TypeError, r"a coroutine was expected, got .*: call .*, as in answer\(\)")
async def a_partial_for_create_task() -> None:
    wrong.create_task(functools.partial(answer))


@mistake(TypeError, "a coroutine was expected, got .*: ordinary is an ordinary function")
async def an_ordinary_function_for_create_task() -> None:
    wrong.create_task(ordinary)


@mistake(
    TypeError, "a coroutine was expected, got None: the function that was called returned None"
)
async def the_result_of_an_ordinary_function_for_create_task() -> None:
    wrong.create_task(ordinary())


@mistake(TypeError, "a coroutine was expected, got .*: it is a future already; await it")
async def a_task_for_create_task() -> None:
    task = wrong.create_task(answer())
    await task
    wrong.create_task(task)


@mistake(TypeError, "iterate over an asynchronous generator with 'async for'")
async def an_asynchronous_generator_for_create_task() -> None:
    wrong.create_task(numbers())


@mistake(TypeError, r"call the coroutine function, as in answer\(\)")
async def a_coroutine_function_for_wait_for() -> None:
    await wrong.wait_for(answer, 1)


@mistake(TypeError, r"wait_for\(\) expected an awaitable, got 5$")
async def a_number_for_wait_for() -> None:
    await wrong.wait_for(5, 1)


@mistake(TypeError, r"call the coroutine function, as in answer\(\)")
async def a_coroutine_function_for_shield() -> None:
    await wrong.shield(answer)


@mistake(TypeError, r"call the coroutine function, as in answer\(\)")
async def a_coroutine_function_for_another_thread_s_loop() -> None:
    wrong.run_coroutine_threadsafe(answer, wrong.get_running_loop())


@mistake(TypeError, "make it a task with create_task")
async def coroutines_for_wait() -> None:
    coro = answer()
    try:
        await wrong.wait([coro])
    finally:
        coro.close()


@mistake(TypeError, r"wait\(\) expected a collection of futures, got one Task")
async def one_task_for_wait() -> None:
    task = wrong.create_task(answer())
    await task
    await wrong.wait(task)


@mistake(TypeError, r"as_completed\(\) expected an iterable of futures")
async def one_task_for_as_completed() -> None:
    task = wrong.create_task(answer())
    await task
    for each in wrong.as_completed(task):
        await each


@mistake(ValueError, "at least one future: the collection is empty")
async def nothing_for_wait() -> None:
    await wrong.wait([])


@mistake(TypeError, r"sleep\(\) expected a number of seconds, got None$")
async def sleeping_for_none() -> None:
    await wrong.sleep(None)


@mistake(TypeError, r"sleep\(\) expected a number of seconds, got '1': convert it with float\(\)")
async def sleeping_for_a_text() -> None:
    await wrong.sleep("1")


@mistake(TypeError, r"sleep\(\) expected .*: pass its total_seconds\(\)")
async def sleeping_for_a_timedelta() -> None:
    await wrong.sleep(timedelta(seconds=1))


@mistake(ValueError, r"sleep\(\) expected a number of seconds, got NaN")
async def sleeping_for_no_number() -> None:
    await wrong.sleep(float("nan"))


@mistake(TypeError, r"timeout\(\) expected .*: convert it with float\(\)")
async def a_text_for_a_timeout() -> None:
    wrong.timeout("1")


@mistake(TypeError, r"timeout\(\) expected .*: pass its total_seconds\(\)")
async def a_timedelta_for_a_timeout() -> None:
    wrong.timeout(timedelta(seconds=1))


@mistake(TypeError, r"call_later\(\) expected .*: convert it with float\(\)")
async def a_text_for_call_later() -> None:
    wrong.get_running_loop().call_later("1", ordinary)


@mistake(TypeError, r"call_later\(\) expected a number of seconds, got <function ordinary")
async def the_arguments_of_call_later_swapped() -> None:
    wrong.get_running_loop().call_later(ordinary, 1)


@mistake(TypeError, r"call_soon\(\) expected a callable object, got None")
async def the_result_of_a_function_for_call_soon() -> None:
    wrong.get_running_loop().call_soon(ordinary())


@mistake(TypeError, r"coroutines cannot be used with call_soon\(\).*create_task\(\)")
async def a_coroutine_for_call_soon() -> None:
    coro = answer()
    try:
        wrong.get_running_loop().call_soon(coro)
    finally:
        coro.close()


@mistake(TypeError, r"coroutines cannot be used with add_signal_handler\(\).*create_task\(\)")
async def a_coroutine_function_for_a_signal() -> None:
    wrong.get_running_loop().add_signal_handler(15, answer)


@mistake(TypeError, "write 'async with'")
async def with_for_a_timeout() -> None:
    with wrong.timeout(1):
        pass


@mistake(TypeError, "write 'async with'")
async def with_for_a_group() -> None:
    with wrong.TaskGroup():
        pass


@mistake(TypeError, "write 'async with'")
async def with_for_a_lock() -> None:
    with wrong.Lock():
        pass


@mistake(TypeError, "write 'async with'")
async def with_for_a_semaphore() -> None:
    with wrong.Semaphore():
        pass


@mistake(TypeError, "write 'async with'")
async def with_for_a_condition() -> None:
    with wrong.Condition():
        pass


@mistake(RuntimeError, "has not been entered")
async def a_group_that_was_not_entered() -> None:
    coro = answer()
    try:
        wrong.TaskGroup().create_task(coro)
    finally:
        coro.close()


@mistake(RuntimeError, "await the coroutine instead")
async def running_within_a_run() -> None:
    wrong.run(answer())


@mistake(TypeError, "got 8080: the host comes before the port")
async def a_port_for_the_host_of_a_server() -> None:
    await wrong.start_server(ordinary, 8080)


@mistake(TypeError, "client_connected_cb must be callable, got '127.0.0.1'")
async def a_server_without_a_handler() -> None:
    await wrong.start_server("127.0.0.1", 0)


@mistake(TypeError, "got 8080: the host comes before the port")
async def a_port_for_the_host_of_a_connection() -> None:
    await wrong.open_connection(8080, "127.0.0.1")


@mistake(OverflowError, "port must be 0-65535, got 70000")
async def a_number_that_is_no_port() -> None:
    await wrong.open_connection("127.0.0.1", 70000)


@mistake(RuntimeError, "is not acquired: it cannot be released")
async def releasing_a_free_lock() -> None:
    wrong.Lock().release()


@mistake(ValueError, "must be >= 0, got -1")
async def a_semaphore_below_zero() -> None:
    wrong.Semaphore(-1)


@mistake(runtime.QueueEmpty, r"'await get\(\)' waits until there is an item")
async def taking_from_an_empty_queue() -> None:
    wrong.Queue[int]().get_nowait()


@mistake(runtime.InvalidStateError, "is not set yet; await it first")
async def asking_a_pending_future() -> None:
    wrong.get_running_loop().create_future().result()


@mistake(runtime.InvalidStateError, "is already done; its result cannot be set")
async def a_second_result() -> None:
    future = wrong.get_running_loop().create_future()
    future.set_result(1)
    future.set_result(2)


@mistake(TypeError, r"set_exception\(\) expected an exception, .* or a class, got 'text'")
async def a_text_for_an_exception() -> None:
    wrong.get_running_loop().create_future().set_exception("text")


@mistake(TypeError, r"got \['ls', '-l'\]: convert it")
async def a_list_for_a_program() -> None:
    await wrong.create_subprocess_exec(["ls", "-l"])


@mistake(ValueError, r"cmd must be a string, got \['ls', '-l'\]")
async def a_list_for_the_shell() -> None:
    await wrong.create_subprocess_shell(["ls", "-l"])


async def streams(data: bytes) -> tuple[Any, Any, Any]:
    """Return the streams of a connection, which has received ``data``, and its server."""

    def send(reader: Any, writer: Any) -> None:
        writer.write(data)
        writer.close()

    server = await wrong.start_server(send, "127.0.0.1", 0)
    reader, writer = await wrong.open_connection(*server.sockets[0].getsockname())
    return reader, writer, server


async def with_streams(data: bytes, use: Callable[[Any, Any], Awaitable[object]]) -> None:
    reader, writer, server = await streams(data)
    try:
        await use(reader, writer)
    finally:
        writer.close()
        server.close()


@mistake(TypeError, r"got '\\n': write b'\\n'")
async def a_text_for_a_separator() -> None:
    await with_streams(b"line\n", lambda reader, _: reader.readuntil("\n"))


@mistake(TypeError, r"got '\\n': write b'\\n'")
async def texts_for_separators() -> None:
    await with_streams(b"line\n", lambda reader, _: reader.readuntil((b"\r\n", "\n")))


@mistake(TypeError, r"bytes-like object or a tuple of them, got \[b'\\n'\]")
async def a_list_of_separators() -> None:
    await with_streams(b"line\n", lambda reader, _: reader.readuntil([b"\n"]))


@mistake(TypeError, "must be a bytes-like object.*not str")
async def a_text_to_write() -> None:
    async def use(_: Any, writer: Any) -> None:
        writer.write("text")

    await with_streams(b"", use)


@mistake(ValueError, r"limit=65536, in bytes.*limit= of open_connection\(\), start_server\(\)")
async def a_line_that_is_too_long() -> None:
    await with_streams(bytes(100_000), lambda reader, _: reader.readline())


@mistake(runtime.LimitOverrunError, r"limit=65536, in bytes.*limit= of open_connection\(\)")
async def a_message_that_is_too_long() -> None:
    await with_streams(bytes(100_000) + b"\n", lambda reader, _: reader.readuntil())


@pytest.mark.parametrize("name", MISTAKES)
def test_the_message_names_the_remedy(name: str) -> None:
    function, error, advice = MISTAKES[name]
    with pytest.raises(error, match=advice):
        runtime.run(function())


@pytest.mark.parametrize(
    ("main", "advice"),
    [
        (answer, r"call the coroutine function, as in answer\(\)"),
        (ordinary, "ordinary is an ordinary function"),
        (None, "the function that was called returned None"),
        (numbers, "'async for'"),
    ],
)
def test_run_refuses_other_objects(main: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        runtime.run(main)


def test_awaitables_without_a_hash_can_be_gathered() -> None:
    class Unhashable(list[int]):
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return sum(self)

    async def main() -> list[int]:
        return list(await runtime.gather(Unhashable([1, 2]), Unhashable([3])))

    assert runtime.run(main()) == [3, 3]


def test_a_notebook_is_advised_to_use_threads() -> None:
    """The loop that runs in a notebook is asyncio's."""

    async def main() -> int:
        with pytest.raises(
            RuntimeError, match=r"await asyncio\.to_thread\(runtime\.run, main\(\)\)"
        ):
            runtime.run(answer())
        with pytest.raises(RuntimeError, match="to_thread"):
            runtime.Runner().run(answer())
        return await asyncio.to_thread(runtime.run, answer())

    assert asyncio.run(main()) == 42

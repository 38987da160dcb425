"""Mistakes that a type checker must find: each marked line, with these codes, and no other.

The marks name mypy's code and pyright's rule. This is never run. Pyright's basic rules avoid
follow-up reports about types that a mistake leaves unknown.
"""

# pyright: basic

from __future__ import annotations

import runtime


async def number() -> int:
    return 1


async def text() -> str:
    return ""


def work(count: int, *, label: str = "") -> list[str]:
    return [label] * count


async def a_forgotten_await() -> None:
    runtime.sleep(1)  # -> unused-coroutine, reportUnusedCoroutine
    number()  # -> unused-coroutine, reportUnusedCoroutine
    1 + number()  # -> operator, reportOperatorIssue, reportUnusedExpression


async def the_wrong_result(task: runtime.Task[int], future: runtime.Future[int]) -> None:
    word: str = await task  # -> assignment, reportAssignmentType
    word = task.result()  # -> assignment, reportAssignmentType
    word = await runtime.wait_for(number(), 1)  # -> arg-type, reportAssignmentType
    word = await runtime.shield(task)  # -> arg-type, reportAssignmentType
    word, size = await runtime.gather(number(), text())  # -> assignment, reportAssignmentType
    one, two, three = await runtime.gather(number(), text())  # -> misc, reportAssignmentType
    print(word, size, one, two, three)
    future.set_result("one")  # -> arg-type, reportArgumentType
    task.add_done_callback(print_text)  # -> arg-type, reportArgumentType
    as_text: runtime.Task[str] = task  # -> assignment, reportAssignmentType
    wider: runtime.Future[object] = future  # -> assignment, reportAssignmentType
    print(as_text, wider)


def print_text(future: runtime.Future[str]) -> None:
    print(future.result())


async def results_that_may_be_exceptions() -> None:
    first, second = await runtime.gather(number(), text(), return_exceptions=True)
    print(first + 1)  # -> operator, reportOperatorIssue
    print(second.upper())  # -> union-attr, reportAttributeAccessIssue


async def no_coroutine() -> None:
    runtime.create_task(number)  # -> arg-type, reportArgumentType
    runtime.create_task(1)  # -> arg-type, reportArgumentType
    async with runtime.TaskGroup() as group:
        group.create_task(number)  # -> arg-type, reportArgumentType
    await runtime.wait([number()])  # -> type-var, reportArgumentType
    await runtime.gather(1, 2)  # -> call-overload, reportCallIssue, reportArgumentType
    await runtime.wait_for(1, 1)  # -> arg-type, reportArgumentType
    await runtime.to_thread(work(1))  # -> call-overload, reportCallIssue, reportArgumentType


async def wrong_arguments(loop: runtime.Loop) -> None:
    await runtime.sleep("1")  # -> call-overload, reportArgumentType
    await runtime.to_thread(work, "3")  # -> call-overload, reportArgumentType
    await runtime.to_thread(work, 3, label=1)  # -> arg-type, reportArgumentType
    await loop.run_in_executor(None, work, "3")  # -> arg-type, reportArgumentType
    loop.call_soon(work, "3")  # -> arg-type, reportArgumentType
    loop.call_soon(work)  # -> arg-type, reportArgumentType
    loop.call_later(1, work, 3, 4)  # -> arg-type, reportArgumentType
    loop.call_later("1", work, 3)  # -> arg-type, reportArgumentType
    runtime.run_coroutine_threadsafe(number, loop)  # -> arg-type, reportArgumentType
    runtime.run(main=number)  # -> arg-type, reportArgumentType


async def without_async() -> None:
    with runtime.timeout(1):  # -> attr-defined, reportGeneralTypeIssues
        pass
    with runtime.Lock():  # -> attr-defined, reportGeneralTypeIssues
        pass
    async with runtime.start_server(serve):  # -> attr-defined, reportGeneralTypeIssues
        pass
    reader, _ = await runtime.open_connection("localhost", 80)
    for line in reader:  # -> attr-defined, reportGeneralTypeIssues
        print(line)


async def serve(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    writer.write("text")  # -> arg-type, reportArgumentType
    writer.write(reader.readline())  # -> arg-type, reportArgumentType
    line: str = await reader.readline()  # -> assignment, reportAssignmentType
    print(line)


async def serve_one(reader: runtime.StreamReader) -> None:
    await reader.read()


async def servers_and_processes() -> None:
    await runtime.start_server(serve_one, "localhost", 0)  # -> arg-type, reportArgumentType
    await runtime.start_server(serve, "localhost", 0, ssl=True)  # -> arg-type, reportArgumentType
    process = await runtime.create_subprocess_exec("ls", 1)  # -> arg-type, reportArgumentType
    await process.stdout.read()  # -> union-attr, reportOptionalMemberAccess


async def queues(items: runtime.Queue[int]) -> None:
    await items.put("one")  # -> arg-type, reportArgumentType
    items.put_nowait(None)  # -> arg-type, reportArgumentType
    word: str = items.get_nowait()  # -> assignment, reportAssignmentType
    words: runtime.Queue[str] = items  # -> assignment, reportAssignmentType
    print(word, words)


async def suspension(resume: runtime.Resume[int]) -> None:
    resume("one")  # -> call-overload, reportArgumentType
    resume(error="late")  # -> call-overload, reportArgumentType
    await runtime.suspend(lambda _: 1)  # -> arg-type, return-value, reportArgumentType
    await runtime.suspend()  # -> call-arg, reportCallIssue


def no_such_name() -> None:
    runtime.get_event_loop()  # -> attr-defined, reportAttributeAccessIssue
    runtime.run(number(), dbug=True)  # -> call-arg, reportCallIssue
    runtime.run(number(), until="done soon")  # -> arg-type, reportArgumentType

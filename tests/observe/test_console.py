"""The console ``top``, operated by its keys. The observed process is the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.observe import listen
from runtime.observe.top_view import SORTS
from tests.support.leaks import open_descriptors

pytest.importorskip("textual", reason="the console needs textual")

from runtime.observe.console import Console

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets"),
    pytest.mark.slow,
]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@contextlib.asynccontextmanager
async def console(pid: int | None = None) -> AsyncIterator[tuple[Any, Any]]:
    """Run a console that observes this process; yield it and its pilot."""
    before = open_descriptors()
    listener = listen()
    app = Console(os.getpid() if pid is None else pid, interval=0.4)
    try:
        async with app.run_test(size=(140, 40)) as pilot:
            yield app, pilot
    finally:
        listener.close()
        for _ in range(500):  # The last question may still be on its way, in a thread.
            if not open_descriptors() - before:
                break
            await asyncio.sleep(0.01)


async def until(pilot: Any, condition: Callable[[], object]) -> None:
    """Let the console continue until a condition is met."""
    async with asyncio.timeout(60):
        while not condition():
            await pilot.pause(0.02)


def cells(app: Any, table: str, column: int) -> list[str]:
    found = app.screen_stack[0].query_one(f"#{table}")
    return [str(found.get_row_at(index)[column]) for index in range(found.row_count)]


def text(app: Any, name: str) -> str:
    return str(app.screen.query_one(f"#{name}").render())


async def hold(lock: runtime.Lock) -> None:
    async with lock:
        await runtime.sleep_forever()  # the innermost line


@contextlib.asynccontextmanager
async def holders() -> AsyncIterator[list[runtime.Task[None]]]:
    lock = runtime.Lock()
    tasks = [runtime.create_task(hold(lock), name=f"order {number}") for number in (1, 2)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await runtime.wait(tasks)


async def test_tasks_are_shown_with_what_they_wait_for_and_who_holds_it() -> None:
    async with holders(), console() as (app, pilot):
        await until(pilot, lambda: "order 2" in cells(app, "tasks", 2))
        row = cells(app, "tasks", 2).index("order 2")
        assert cells(app, "tasks", 0)[row] == "waiting"
        waits = cells(app, "tasks", 5)[row]
        assert waits.startswith("held by order 1: <runtime.sync.locks.Lock object")
        assert "[locked, waiters:1]" in waits
        assert text(app, "title").startswith(f"process {os.getpid()}   Loop in thread 'MainThread'")
        assert "utilization" in text(app, "summary")
        await until(pilot, lambda: text(app, "utilization"))


async def test_the_view_is_renewed_until_it_is_paused() -> None:
    async with console() as (app, pilot):
        await until(pilot, lambda: app.views)
        late = runtime.create_task(runtime.sleep_forever(), name="late")
        await until(pilot, lambda: "late" in cells(app, "tasks", 2))
        await pilot.press("p")
        assert "paused" in text(app, "title")
        await until(pilot, lambda: not app.workers)
        late.cancel()
        await runtime.wait([late])
        before = app.views
        await pilot.pause(1.0)
        assert app.views is before
        assert "late" in cells(app, "tasks", 2)
        await pilot.press("p")
        await until(pilot, lambda: "late" not in cells(app, "tasks", 2))


async def test_keys_sort_and_filter_and_show_the_tree() -> None:
    async with holders(), console() as (app, pilot):
        await until(pilot, lambda: "order 2" in cells(app, "tasks", 2))
        orders = {}
        for sort in (*SORTS[1:], SORTS[0]):
            await pilot.press("s")
            assert f"by {sort}" in text(app, "title")
            shown = cells(app, "tasks", 2)
            orders[sort] = [name for name in shown if name.startswith("order")]
        assert orders["age"] == orders["name"] == ["order 1", "order 2"]
        assert orders["newest"] == ["order 2", "order 1"]
        await pilot.press("t")
        assert "tree" in text(app, "title")
        await pilot.press("t")
        await pilot.press("slash")
        await pilot.press(*"order")
        assert cells(app, "tasks", 2) == ["order 1", "order 2"]
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is app.query_one("#tasks"))
        await pilot.press("l")
        assert "order 1" in cells(app, "tasks", 2)


async def test_brackets_in_names_are_shown_as_they_are() -> None:
    task = runtime.create_task(runtime.sleep_forever(), name="[/red] client [bold]")
    async with console() as (app, pilot):
        await until(pilot, lambda: "[/red] client [bold]" in cells(app, "tasks", 2))
    task.cancel()
    await runtime.wait([task])


async def test_the_cursor_stays_on_its_task() -> None:
    async with holders() as tasks, console() as (app, pilot):
        await until(pilot, lambda: "order 2" in cells(app, "tasks", 2))
        table = app.query_one("#tasks")
        table.move_cursor(row=cells(app, "tasks", 2).index("order 2"))
        tasks[0].cancel()
        await until(pilot, lambda: "order 1" not in cells(app, "tasks", 2))
        assert table.cursor_row == cells(app, "tasks", 2).index("order 2")


async def test_enter_shows_the_stack_with_its_source() -> None:
    async with holders(), console() as (app, pilot):
        await until(pilot, lambda: "order 1" in cells(app, "tasks", 2))
        app.query_one("#tasks").move_cursor(row=cells(app, "tasks", 2).index("order 1"))
        await pilot.press("enter")
        await until(pilot, lambda: "the innermost line" in text(app, "stack"))
        assert "waits for" in text(app, "stack")
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)


async def test_a_task_is_cancelled_only_if_it_is_confirmed() -> None:
    async with holders() as tasks, console() as (app, pilot):
        await until(pilot, lambda: "order 1" in cells(app, "tasks", 2))
        app.query_one("#tasks").move_cursor(row=cells(app, "tasks", 2).index("order 1"))
        await pilot.press("c")
        assert "Cancel order 1: hold()?" in text(app, "box")
        await pilot.press("n")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        await pilot.pause(0.2)
        assert not tasks[0].done()
        assert not tasks[0].cancelling()
        await pilot.press("c")
        await pilot.press("y")
        await until(pilot, tasks[0].cancelled)
        with pytest.raises(runtime.CancelledError, match="cancelled in runtime top"):
            await tasks[0]
        assert not tasks[1].done()


async def test_connections_and_timers_have_tables() -> None:
    mine, other = socket.socketpair()
    _, writer = await runtime.open_connection(sock=mine)
    writer.write(bytes(1 << 20))
    async with console() as (app, pilot):
        await until(pilot, lambda: str(mine.fileno()) in cells(app, "connections", 0))
        assert int(cells(app, "connections", 2)[0]) > 0
        await until(pilot, lambda: cells(app, "timers", 1))
    writer.transport.abort()
    other.close()
    await runtime.sleep(0)


async def test_a_process_that_is_not_there_is_named_and_the_console_stays() -> None:
    async with console(2**22 + 5) as (app, pilot):
        await until(pilot, lambda: "there is no process 4194309" in text(app, "title"))
        for key in "stlc":
            await pilot.press(key)
        assert app.is_running
        await pilot.press("q")

"""The texts and rows of the console ``top``, without the library that shows them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

import runtime
from runtime.observe import listening
from runtime.observe.top_view import MOST_ROWS, SORTS, LoopView, bars, views
from tests.support.programs import run_program


def answer() -> dict[str, Any]:
    """Return an answer of this process as a client receives it."""
    found: dict[str, Any] = json.loads("".join(listening.answer_to({"command": "top"}, [])))
    return found


def mine(found: list[LoopView]) -> LoopView:
    (view,) = [view for view in found if view.id == id(runtime.get_running_loop())]
    return view


def names(view: LoopView, **options: Any) -> list[str]:
    return [row.cells[2] for row in view.task_rows(**options)]


async def hold(lock: runtime.Lock) -> None:
    async with lock:
        await runtime.sleep_forever()


async def stop(*tasks: runtime.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await runtime.wait(tasks)


async def test_tasks_are_sorted_and_filtered() -> None:
    lock = runtime.Lock()
    tasks = [runtime.create_task(hold(lock), name=name) for name in ("b", "a", "c")]
    await runtime.sleep(0)
    await runtime.sleep(0)
    view = mine(views(answer()))
    me = view.tasks[0].name
    assert names(view) == [me, "b", "a", "c"]
    assert names(view, sort="newest") == ["c", "a", "b", me]
    assert names(view, sort="name") == sorted([me, "a", "b", "c"])
    assert names(view, sort="state")[0] == me
    assert set(SORTS) == {"age", "newest", "name", "state"}
    assert names(view, wanted="HOLD") == ["b", "a", "c"]
    assert names(view, wanted="lock object") == ["a", "c"]
    assert names(view, wanted="no such text") == []
    (row,) = view.task_rows(wanted="test_tasks_are")
    assert row.cells[0] == "running"
    blocked = view.task_rows(wanted="lock object")[0]
    assert blocked.key == f"{id(tasks[1]):x}"
    assert blocked.cells[4].startswith("test_top_view.py:")
    assert blocked.cells[5].startswith("held by b: <runtime.sync.locks.Lock object")
    await stop(*tasks)


async def test_a_name_cannot_control_the_terminal() -> None:
    task = runtime.create_task(runtime.sleep(60), name="a\x1b[31m\nb")
    await runtime.sleep(0)
    view = mine(views(answer()))
    assert "a\\x1b[31m\\nb" in names(view)
    assert "wakes a\\x1b[31m\\nb" in [row.cells[1] for row in view.timer_rows()]
    await stop(task)


async def test_in_the_tree_a_task_is_below_the_one_that_waits_for_it() -> None:
    async def inner() -> None:
        await runtime.sleep_forever()

    async def outer() -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(inner(), name="first")
            group.create_task(inner(), name="second")

    task = runtime.create_task(outer(), name="outer")
    await runtime.sleep(0)
    await runtime.sleep(0)
    view = mine(views(answer()))
    assert names(view, tree=True) == [view.tasks[0].name, "outer", "  first", "  second"]
    assert names(view, tree=True, wanted="inner") == ["  first", "  second"]
    await stop(task)


async def test_tasks_that_wait_for_one_another_are_in_the_tree_once() -> None:
    tasks: list[runtime.Task[None]] = []

    async def wait_for(index: int) -> None:
        await runtime.wait([tasks[index]])

    tasks += [runtime.create_task(wait_for(index), name=f"{index}") for index in (1, 0)]
    await runtime.sleep(0)
    await runtime.sleep(0)
    view = mine(views(answer()))
    assert names(view, tree=True) == [view.tasks[0].name, "1", "  0"]
    await stop(*tasks)


async def test_figures_are_those_since_the_last_moment() -> None:
    first = views(answer())
    tasks = [runtime.create_task(runtime.sleep(0)) for _ in range(7)]
    await runtime.wait(tasks)
    await runtime.sleep(0.02)
    second = views(answer(), first)
    change = mine(second).changes
    assert change["tasks_created"] == 7
    assert (
        change["lag"].count == mine(second).metrics["lag"].count - mine(first).metrics["lag"].count
    )
    assert change["lag"].count >= 1
    assert change["running"] >= 0.02
    assert 0 <= mine(second).utilization <= 1
    assert mine(second).metrics["lag"] == runtime.get_running_loop().metrics().lag
    summary = mine(second).summary()
    assert [line.split()[0] for line in summary] == [
        "utilization",
        "tasks",
        "connections",
        "executor",
    ]


async def test_very_many_tasks_are_cut() -> None:
    tasks = [runtime.create_task(runtime.sleep_forever()) for _ in range(MOST_ROWS + 10)]
    await runtime.sleep(0)
    view = mine(views(answer()))
    assert len(view.tasks) > MOST_ROWS
    assert len(view.task_rows()) == len(view.task_rows(tree=True)) == MOST_ROWS
    await stop(*tasks)


async def test_timers_and_connections_are_rows() -> None:
    later = runtime.get_running_loop().call_later(1000, print)
    view = mine(views(answer()))
    assert view.timer_rows()[-1].cells[1] == "print"
    assert view.connection_rows() == []
    later.cancel()


def test_the_bars_have_a_fixed_scale() -> None:
    assert bars([]) == ""
    assert bars([0.0, 0.12, 0.13, 0.5, 0.99, 1.0]) == "\u2581\u2581\u2582\u2585\u2588\u2588"


def test_a_loop_that_does_not_run_comes_last() -> None:
    loop = runtime.new_event_loop()
    try:

        async def see() -> list[str]:
            return [view.title for view in views(answer())]

        titles = runtime.run(see())
        assert titles[0] == "Loop in thread 'MainThread'"
        assert "Loop does not run" in titles[1:]
    finally:
        loop.close()


def test_without_its_library_top_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['textual'] = None\n"
        "sys.argv = ['runtime', 'top', '1']\n"
        "from runtime.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = run_program("-c", code)
    assert done.returncode == 1
    assert done.stderr == (
        "runtime: top needs the library textual: pip install 'runtime-loop[observe]'\n"
    )


def test_without_a_terminal_top_says_what_does_without() -> None:
    pytest.importorskip("textual", reason="the console needs textual")
    done = run_program("-m", "runtime", "top", "1")
    assert done.returncode == 1
    assert done.stderr == "runtime: top needs a terminal: ps, tree and metrics do without\n"


@pytest.mark.parametrize("interval", ["0", "nan", "x"])
def test_an_interval_that_makes_no_sense_is_refused(interval: str) -> None:
    done: subprocess.CompletedProcess[str] = run_program(
        "-m", "runtime", "top", "1", "--interval", interval
    )
    assert done.returncode == 2
    assert "interval" in done.stderr

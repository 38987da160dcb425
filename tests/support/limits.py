"""Time limit of each test, and the task stacks that a test shows when it exceeds its limit.

pytest-timeout interrupts a test that takes longer than its limit, and shows the stacks of the other
threads. A test of an event loop usually waits in a task, so that the stacks of tasks are shown as
well. A test that not even a signal can interrupt ends the whole run: see
``faulthandler_exit_on_timeout`` in pyproject.toml, and the limit of a pass in ``tests/matrix.py``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from runtime.kernel.compat.registry import running_loops

SLOW = 600.0
"""Limit in seconds of a test that is marked as slow, or that builds the package."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the limit of slow tests and of builds; pyproject.toml has the usual limit."""
    for item in items:
        takes_long = item.get_closest_marker("slow") or item.get_closest_marker("build")
        if takes_long and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW))


def stacks_of_tasks() -> str:
    """Return the stacks of all tasks of the running loops, in all threads."""
    text = io.StringIO()
    for thread, loop in list(running_loops.items()):
        print(f"Tasks of {loop!r} in thread {thread}:", file=text)
        for task in list(loop._tasks):
            print(f"{task!r}", file=text)
            task.print_stack(file=text)
    return text.getvalue()


def with_stacks_of_tasks(dump_stacks: Callable[[Any], None]) -> Callable[[Any], None]:
    """Make pytest-timeout's ``dump_stacks`` show the stacks of tasks as well."""

    def dump_all(terminal: Any) -> None:
        dump_stacks(terminal)
        terminal.sep("~", title="Tasks")
        terminal.write(stacks_of_tasks())

    return dump_all


def pytest_configure(config: pytest.Config) -> None:
    """Extend the report of pytest-timeout."""
    plugin: Any = config.pluginmanager.get_plugin("timeout")
    if plugin is None:
        raise pytest.UsageError("pytest-timeout is not installed: a hang would not be a failure.")
    plugin.dump_stacks = with_stacks_of_tasks(plugin.dump_stacks)

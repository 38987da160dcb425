"""Tools to see inside a running program.

They know everything below them and change nothing: a program behaves alike with and without them.
The counters themselves belong to the kernel, which keeps them always.
"""

from __future__ import annotations

from runtime.kernel.diagnostics.collector import CollectorMetrics
from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.diagnostics.metrics import LoopMetrics
from runtime.observe.log_context import LogContext
from runtime.observe.printing import format_tasks, print_tasks, print_tasks_on
from runtime.observe.task_info import Place, TaskInfo, tasks

__all__ = [
    "CollectorMetrics",
    "Histogram",
    "LogContext",
    "LoopMetrics",
    "Place",
    "TaskInfo",
    "format_tasks",
    "print_tasks",
    "print_tasks_on",
    "tasks",
]

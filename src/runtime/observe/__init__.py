"""Tools to see inside a running program.

They know everything below them and change nothing: a program behaves alike with and without them.
The counters themselves belong to the kernel, which keeps them always.
"""

from __future__ import annotations

from runtime.kernel.diagnostics.blocking_calls import BlockingCall
from runtime.kernel.diagnostics.collector import CollectorMetrics
from runtime.kernel.diagnostics.coroutine_meter import CoroutineMetrics
from runtime.kernel.diagnostics.histogram import Histogram
from runtime.kernel.diagnostics.metrics import LoopMetrics
from runtime.kernel.diagnostics.recorder import RecordedEvent, Recording
from runtime.kernel.diagnostics.slow_callbacks import BlockedPlace
from runtime.observe.blocked_places import blocked
from runtime.observe.endpoint import ObserveError
from runtime.observe.forbidding import BlockingCallError, allow_blocking, forbid_blocking
from runtime.observe.listening import Listener, listen
from runtime.observe.log_context import LogContext
from runtime.observe.loop_info import ConnectionInfo, TimerInfo, connections, timers
from runtime.observe.opentelemetry import export_to_opentelemetry
from runtime.observe.printing import format_tasks, print_tasks, print_tasks_on
from runtime.observe.prometheus import export_to_prometheus
from runtime.observe.task_info import Place, TaskInfo, tasks
from runtime.observe.traces import chrome_trace, save_recordings, trace_page, write_trace

__all__ = [
    "BlockedPlace",
    "BlockingCall",
    "BlockingCallError",
    "CollectorMetrics",
    "ConnectionInfo",
    "CoroutineMetrics",
    "Histogram",
    "Listener",
    "LogContext",
    "LoopMetrics",
    "ObserveError",
    "Place",
    "RecordedEvent",
    "Recording",
    "TaskInfo",
    "TimerInfo",
    "allow_blocking",
    "blocked",
    "chrome_trace",
    "connections",
    "export_to_opentelemetry",
    "export_to_prometheus",
    "forbid_blocking",
    "format_tasks",
    "listen",
    "print_tasks",
    "print_tasks_on",
    "save_recordings",
    "tasks",
    "timers",
    "trace_page",
    "write_trace",
]

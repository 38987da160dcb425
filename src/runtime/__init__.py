"""An asyncio-compatible runtime: an event loop, tasks, synchronization, network and processes.

``runtime.run(main())`` runs a coroutine. The package has its own event loop, futures and tasks,
with asyncio's semantics; ``Loop`` is an asyncio event loop too. This module holds the public names
and nothing else. A name that ``run()`` does not need is imported when it is first used: the other
modules are most of the package, and no program needs all of them.
"""

from __future__ import annotations

import importlib
import os as _os
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING

from runtime.kernel import core as _core
from runtime.kernel.api.running import all_tasks, current_task
from runtime.kernel.errors import (
    BrokenBarrierError,
    CancelledError,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    SendfileNotAvailableError,
    TimeoutError,
)
from runtime.kernel.handles import Handle
from runtime.kernel.public_types import Future, Task
from runtime.kernel.reasons import CancelReason, cancel_reason
from runtime.kernel.timers import TimerHandle
from runtime.loop import Loop, get_running_loop, new_event_loop
from runtime.runner import Runner, run

if TYPE_CHECKING:
    from runtime.kernel.api.awaitables import (
        create_task,
        ensure_future,
        isfuture,
        run_coroutine_threadsafe,
        wrap_future,
    )
    from runtime.kernel.api.call_graph import (
        FrameCallGraphEntry,
        FutureCallGraph,
        capture_call_graph,
        format_call_graph,
        print_call_graph,
    )
    from runtime.kernel.api.eager_tasks import create_eager_task_factory, eager_task_factory
    from runtime.kernel.diagnostics.deadlock import DeadlockError
    from runtime.net.connection.streams import StreamReader, StreamWriter
    from runtime.net.datagrams.endpoint import DatagramEndpoint, open_datagram
    from runtime.net.setup.server import Server
    from runtime.net.setup.stream_api import (
        open_connection,
        open_unix_connection,
        start_server,
        start_unix_server,
    )
    from runtime.net.sockets.descriptor_passing import recv_fds, send_fds
    from runtime.net.sockets.readiness import wait_exceptional, wait_readable, wait_writable
    from runtime.observe.printing import print_tasks
    from runtime.policy import EventLoopPolicy, install
    from runtime.subprocess import Process, create_subprocess_exec, create_subprocess_shell
    from runtime.sync.as_completed import as_completed
    from runtime.sync.barrier import Barrier
    from runtime.sync.channels import (
        BrokenChannel,
        ChannelStatistics,
        ClosedChannel,
        EndOfChannel,
        ReceiveChannel,
        SendChannel,
        open_channel,
    )
    from runtime.sync.checkpoints import (
        cancel_shielded_checkpoint,
        checkpoint,
        checkpoint_if_cancelled,
    )
    from runtime.sync.gather import gather
    from runtime.sync.limiter import (
        CapacityLimiter,
        LimiterStatistics,
        current_default_thread_limiter,
    )
    from runtime.sync.locks import BoundedSemaphore, Condition, Event, Lock, Semaphore
    from runtime.sync.queues import LifoQueue, PriorityQueue, Queue
    from runtime.sync.scopes import (
        CancelScope,
        current_effective_deadline,
        fail_after,
        fail_at,
        move_on_after,
        move_on_at,
    )
    from runtime.sync.shield import shield
    from runtime.sync.sleep import sleep, sleep_forever
    from runtime.sync.started import Started
    from runtime.sync.suspend import Resume, suspend
    from runtime.sync.taskgroup import TaskGroup
    from runtime.sync.timeouts import Timeout, timeout, timeout_at
    from runtime.sync.waiting import (
        ALL_COMPLETED,
        FIRST_COMPLETED,
        FIRST_EXCEPTION,
        wait,
        wait_for,
    )
    from runtime.system.threads import to_thread
else:
    _WHERE = {
        "runtime.kernel.api.awaitables": (
            "create_task",
            "ensure_future",
            "isfuture",
            "run_coroutine_threadsafe",
            "wrap_future",
        ),
        "runtime.kernel.api.call_graph": (
            "FrameCallGraphEntry",
            "FutureCallGraph",
            "capture_call_graph",
            "format_call_graph",
            "print_call_graph",
        ),
        "runtime.kernel.api.eager_tasks": ("create_eager_task_factory", "eager_task_factory"),
        "runtime.kernel.diagnostics.deadlock": ("DeadlockError",),
        "runtime.net.datagrams.endpoint": ("DatagramEndpoint", "open_datagram"),
        "runtime.net.setup.stream_api": (
            "open_connection",
            "open_unix_connection",
            "start_server",
            "start_unix_server",
        ),
        "runtime.net.sockets.readiness": ("wait_exceptional", "wait_readable", "wait_writable"),
        "runtime.net.setup.server": ("Server",),
        "runtime.net.connection.streams": ("StreamReader", "StreamWriter"),
        "runtime.net.sockets.descriptor_passing": ("recv_fds", "send_fds"),
        "runtime.observe.printing": ("print_tasks",),
        "runtime.policy": ("EventLoopPolicy", "install"),
        "runtime.subprocess": ("Process", "create_subprocess_exec", "create_subprocess_shell"),
        "runtime.sync.as_completed": ("as_completed",),
        "runtime.sync.barrier": ("Barrier",),
        "runtime.sync.channels": (
            "BrokenChannel",
            "ChannelStatistics",
            "ClosedChannel",
            "EndOfChannel",
            "ReceiveChannel",
            "SendChannel",
            "open_channel",
        ),
        "runtime.sync.checkpoints": (
            "cancel_shielded_checkpoint",
            "checkpoint",
            "checkpoint_if_cancelled",
        ),
        "runtime.sync.gather": ("gather",),
        "runtime.sync.limiter": (
            "CapacityLimiter",
            "LimiterStatistics",
            "current_default_thread_limiter",
        ),
        "runtime.sync.locks": (
            "BoundedSemaphore",
            "Condition",
            "Event",
            "Lock",
            "Semaphore",
        ),
        "runtime.sync.queues": (
            "LifoQueue",
            "PriorityQueue",
            "Queue",
        ),
        "runtime.sync.scopes": (
            "CancelScope",
            "current_effective_deadline",
            "fail_after",
            "fail_at",
            "move_on_after",
            "move_on_at",
        ),
        "runtime.sync.shield": ("shield",),
        "runtime.sync.sleep": (
            "sleep",
            "sleep_forever",
        ),
        "runtime.sync.started": ("Started",),
        "runtime.sync.suspend": (
            "Resume",
            "suspend",
        ),
        "runtime.sync.taskgroup": ("TaskGroup",),
        "runtime.sync.timeouts": (
            "Timeout",
            "timeout",
            "timeout_at",
        ),
        "runtime.sync.waiting": (
            "ALL_COMPLETED",
            "FIRST_COMPLETED",
            "FIRST_EXCEPTION",
            "wait",
            "wait_for",
        ),
        "runtime.system.threads": ("to_thread",),
    }

    _SUBMODULES = ("observe", "policy", "simulation", "subprocess")
    """Submodules that can be used as attributes without an import, as those of asyncio can."""

    def __getattr__(name):
        """Import the module of a name that is used for the first time (PEP 562)."""
        if name in _SUBMODULES:
            return importlib.import_module(f"runtime.{name}")
        for module, names in _WHERE.items():
            if name in names:
                found = getattr(importlib.import_module(module), name)
                # An object that a test has patched in for a while is not kept.
                if getattr(found, "__module__", module) == module:
                    globals()[name] = found
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)

    def __dir__():
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

compiled: bool = not str(_core.__file__).endswith(".py")
"""Whether the kernel runs as compiled code, or interpreted."""

if not compiled:
    from runtime.kernel.native.installation import (
        warn_of_foreign_libraries as _warn_of_foreign_libraries,
    )

    _warn_of_foreign_libraries(_os.path.dirname(__file__))

__all__ = [
    "ALL_COMPLETED",
    "DEVNULL",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "PIPE",
    "STDOUT",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BrokenChannel",
    "CancelReason",
    "CancelScope",
    "CancelledError",
    "CapacityLimiter",
    "ChannelStatistics",
    "ClosedChannel",
    "Condition",
    "DatagramEndpoint",
    "DeadlockError",
    "EndOfChannel",
    "Event",
    "EventLoopPolicy",
    "FrameCallGraphEntry",
    "Future",
    "FutureCallGraph",
    "Handle",
    "IncompleteReadError",
    "InvalidStateError",
    "LifoQueue",
    "LimitOverrunError",
    "LimiterStatistics",
    "Lock",
    "Loop",
    "PriorityQueue",
    "Process",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "ReceiveChannel",
    "Resume",
    "Runner",
    "Semaphore",
    "SendChannel",
    "SendfileNotAvailableError",
    "Server",
    "Started",
    "StreamReader",
    "StreamWriter",
    "Task",
    "TaskGroup",
    "Timeout",
    "TimeoutError",
    "TimerHandle",
    "__version__",
    "all_tasks",
    "as_completed",
    "cancel_reason",
    "cancel_shielded_checkpoint",
    "capture_call_graph",
    "checkpoint",
    "checkpoint_if_cancelled",
    "compiled",
    "create_eager_task_factory",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "current_default_thread_limiter",
    "current_effective_deadline",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "fail_after",
    "fail_at",
    "format_call_graph",
    "gather",
    "get_running_loop",
    "install",
    "isfuture",
    "move_on_after",
    "move_on_at",
    "new_event_loop",
    "open_channel",
    "open_connection",
    "open_datagram",
    "open_unix_connection",
    "print_call_graph",
    "print_tasks",
    "recv_fds",
    "run",
    "run_coroutine_threadsafe",
    "send_fds",
    "shield",
    "sleep",
    "sleep_forever",
    "start_server",
    "start_unix_server",
    "suspend",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait",
    "wait_exceptional",
    "wait_for",
    "wait_readable",
    "wait_writable",
    "wrap_future",
]

if _os.environ.get("RUNTIME_OBSERVE", "0") not in ("", "0"):
    from runtime.observe.listening import listen_if_possible as _listen_if_possible

    _listen_if_possible()

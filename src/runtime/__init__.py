"""An async runtime: ``runtime.run(main())``.

Its own event loop, futures and tasks, with asyncio's semantics; ``Loop`` is an asyncio event loop
too. This module holds the public names and nothing else.
"""

from __future__ import annotations

from runtime.kernel import future as _future
from runtime.kernel.deadlock import DeadlockError
from runtime.kernel.errors import (
    BrokenBarrierError,
    CancelledError,
    IncompleteReadError,
    InvalidStateError,
    LimitOverrunError,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    TimeoutError,
)
from runtime.kernel.handles import Handle
from runtime.kernel.interop import (
    create_task,
    ensure_future,
    isfuture,
    run_coroutine_threadsafe,
    wrap_future,
)
from runtime.kernel.running import all_tasks, current_task
from runtime.kernel.timers import TimerHandle
from runtime.kernel.types import Future, Task
from runtime.loop import Loop, get_running_loop, new_event_loop
from runtime.net.readiness import wait_exceptional, wait_readable, wait_writable
from runtime.net.server import Server
from runtime.net.streams import StreamReader, StreamWriter, open_connection, start_server
from runtime.runner import Runner, run

__version__ = "0.1.0"

compiled: bool = not str(_future.__file__).endswith(".py")
"""Whether the kernel runs as compiled code, or interpreted."""

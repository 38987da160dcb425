"""Titles of the cases in words, for pictures, pages and the summary on the terminal."""

from __future__ import annotations

from bench import grid

_TITLES = {
    "switch": "Switch between two tasks",
    "switch_1k": "Switch between 1,000 tasks",
    "switch_100k": "Switch between 100,000 tasks",
    "spawn": "Start a task and await it",
    "futures": "Wake a task through a future",
    "call_soon": "Callback that schedules the next",
    "call_soon_100": "100 callbacks in one turn",
    "gather_100": "Gather 100 coroutines",
    "gather_10k": "Gather 10,000 coroutines",
    "task_group_100": "Task group of 100 tasks",
    "queue": "Pass an item through a queue",
    "lock": "Take a contended lock",
    "semaphore": "Take a contended semaphore",
    "event": "Set an event and wait for one",
    "timeout": "Enter and leave a timeout",
    "timer_cancel": "Set a timer and cancel it",
    "timers_1": "A single timer",
    "timers_1k": "1,000 timers",
    "timers_100k": "100,000 timers",
    "timers_1m": "1,000,000 timers",
    "to_thread": "Run a function in a thread",
    "subprocess_spawn": "Start a process and await it",
    "readline_x10": "A line of 100 B",
    "accept_close_x10": "Accept, echo 1 KiB and close",
    "readline_10_x10": "Ten lines that arrive together",
    "http_aiohttp_x10": "HTTP: aiohttp",
    "http_uvicorn_h11_x10": "HTTP: uvicorn with h11",
    "http_uvicorn_httptools_x10": "HTTP: uvicorn with httptools",
    "asyncpg_select_x10": "PostgreSQL: SELECT 1 with asyncpg",
    "latency_10k": "p99 latency, 10,000 requests/s",
    "latency_computing": "p99 beside a task that computes",
    "latency_slow_readers": "p99 beside slow readers",
    "latency_accepts": "p99 beside bursts of connections",
    "latency_timers": "p99 beside 10,000 sleeping tasks",
    "latency_flood": "p99 beside a flooding connection",
    "latency_mixed": "p99 beside all of these but the flood",
    "idle_10k": "10,000 silent connections",
    "watch_echo_1k_x10": "Echo, watched for slow callbacks",
    "start_import": "Import the package",
    "start_run": "Start, run nothing and end",
    "memory_task": "A waiting task",
    "memory_sleeper": "A sleeping task",
    "memory_timer": "A pending timer",
    "memory_protocol": "An accepted protocol connection",
    "memory_stream_server": "An accepted stream connection",
    "memory_stream_client": "An opened stream connection",
}
_SERVERS = {
    "echo": "Streams",
    "readline": "Lines",
    "protocol": "Protocol",
    "buffered": "Buffered protocol",
    "sock": "Sockets",
    "datagram": "Datagrams",
    "tls": "TLS",
    "unix": "Unix socket",
}
_SIZES = {"100": "100 B", "1k": "1 KiB", "64k": "64 KiB", "1m": "1 MiB"}
_USUAL = 10
"""Number of connections that a title does not mention."""


def title(case: str) -> str:
    """Return the title of a case, or its name if it has no title."""
    if case in _TITLES:
        return _TITLES[case]
    name, freed = case.removesuffix("_freed"), case.endswith("_freed")
    kind, _, load = name.partition("_")
    size, _, number = load.rpartition("x")
    size = size.rstrip("_") or str(grid.SIZES["100"])
    if kind not in _SERVERS or size not in _SIZES or not number.isdecimal():
        return case
    words = [_SERVERS[kind], _SIZES[size]]
    if int(number) != _USUAL:
        words.append(f"{int(number):,} connection{'s' if int(number) > 1 else ''}")
    return ", ".join(words) + (", block freed" if freed else "")

"""Differences between releases of asyncio, and the answer of ``runtime`` to each of them.

The first test fails on a Python whose asyncio has anything that ``asyncio_surface.json`` does not
record. Record it with ``python -m tests.dropin.asyncio_surface``, and add an entry to
``DIFFERENCES`` for each difference. Changes of behaviour show in no name and no signature: find
them in "What's New", in the changelog and in the changes of asyncio's sources.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import pytest

import runtime
from tests.dropin.asyncio_surface import (
    DATA,
    Release,
    Surface,
    difference,
    load,
    read_surface,
    running_release,
    text,
    unrecorded,
)

ANSWERED_SINCE: Release = (3, 13, 0)
"""The release whose surface ``runtime`` had as a whole: ``DIFFERENCES`` begins after it."""

Answer: TypeAlias = Literal["given", "inherited", "left out"]
"""The answer of ``runtime`` to a difference.

given: ``runtime`` has it on every Python, or never had the fault that was fixed.
inherited: it is a matter of the running Python's own modules, and works on a ``runtime.Loop``.
left out: it has no place in ``runtime``; the entry says why.
"""


class Difference(NamedTuple):
    """A difference between a release of asyncio and the one before, and the answer to it."""

    since: str
    """The version: a minor one, as 3.14, if the entry is about the recorded surface of that."""
    names: str
    """The names in the surface, separated by spaces; those of a class stand for its members too."""
    change: str
    answer: Answer
    here: str


DIFFERENCES = [
    # -- Python 3.13.18 ----------------------------------------------------------------------------
    Difference(
        "3.13.18",
        "AbstractEventLoop.create_task BaseEventLoop.create_task",
        "loop.create_task passes keywords that it does not know on to the task factory.",
        "given",
        "runtime.Loop.create_task does so.",
    ),
    # -- Python 3.14: names and signatures ---------------------------------------------------------
    Difference(
        "3.14",
        "BaseEventLoop.create_task TaskGroup.create_task create_task",
        "All keywords go to the task factory, name, context and eager_start among them.",
        "given",
        "runtime.Loop.create_task, runtime.TaskGroup.create_task and runtime.create_task do so; a "
        "factory without a parameter for the name has the task named afterwards.",
    ),
    Difference(
        "3.14",
        "eager_task_factory",
        "Eager task factories take eager_start and any other keyword.",
        "given",
        "runtime.eager_task_factory and runtime.create_eager_task_factory do.",
    ),
    Difference(
        "3.14",
        "capture_call_graph format_call_graph print_call_graph FrameCallGraphEntry FutureCallGraph",
        "The call graph of a task can be captured and printed.",
        "given",
        "runtime.capture_call_graph, runtime.format_call_graph, runtime.print_call_graph, "
        "runtime.FrameCallGraphEntry and runtime.FutureCallGraph; asyncio's functions work too.",
    ),
    Difference(
        "3.14",
        "future_add_to_awaited_by future_discard_from_awaited_by",
        "Code that waits for a future without awaiting it can record so for the call graph.",
        "left out",
        "runtime keeps no record: it finds the waiting tasks in the callbacks of the future.",
    ),
    Difference(
        "3.14",
        "AbstractChildWatcher FastChildWatcher MultiLoopChildWatcher PidfdChildWatcher "
        "SafeChildWatcher ThreadedChildWatcher get_child_watcher set_child_watcher "
        "AbstractEventLoopPolicy.get_child_watcher AbstractEventLoopPolicy.set_child_watcher "
        "DefaultEventLoopPolicy.get_child_watcher DefaultEventLoopPolicy.set_child_watcher",
        "Child watchers are gone.",
        "left out",
        "runtime.Loop never used one: it waits for processes with a pidfd or a thread.",
    ),
    Difference(
        "3.14",
        "AbstractEventLoopPolicy DefaultEventLoopPolicy",
        "Event loop policies are deprecated, and so are the functions that get and set one.",
        "inherited",
        "runtime.install() passes asyncio's warning on; runtime.EventLoopPolicy stays for tools "
        "that ask for a policy; runtime.run needs none.",
    ),
    # -- Python 3.14: behaviour --------------------------------------------------------------------
    Difference(
        "3.14",
        "",
        "get_event_loop() raises RuntimeError if no loop is set, instead of making one.",
        "inherited",
        "runtime has runtime.get_running_loop only, which always raised; after runtime.install() "
        "asyncio.get_event_loop() does as in the running Python.",
    ),
    Difference(
        "3.14",
        "",
        "iscoroutinefunction() is deprecated in favour of inspect.iscoroutinefunction().",
        "left out",
        "runtime never had it, and does not call it.",
    ),
    Difference(
        "3.14",
        "",
        "run() and Runner.run() take any awaitable; for anything else they raise TypeError.",
        "given",
        "runtime.run and runtime.Runner.run do.",
    ),
    Difference(
        "3.14",
        "",
        "Timeout is no longer marked as final for type checkers.",
        "left out",
        "runtime.Timeout stays final for type checkers; at run time a subclass works.",
    ),
    Difference(
        "3.14",
        "",
        "Handle.cancel() in another thread than the loop's waits for the callback if it is running "
        "(handles of call_soon_threadsafe).",
        "given",
        "runtime.Loop.call_soon_threadsafe returns such a handle on every Python.",
    ),
    Difference(
        "3.14",
        "",
        "all_tasks() is exact while other threads create tasks.",
        "given",
        "runtime.all_tasks copies the set of tasks in one step; so does asyncio.all_tasks().",
    ),
    Difference(
        "3.14",
        "",
        "python -m asyncio ps and pstree show the tasks of another process.",
        "left out",
        "They read the C structure of asyncio.Task, and show no tasks of runtime. Inside the "
        "process, runtime.print_call_graph works.",
    ),
    Difference(
        "3.14",
        "",
        "pdb has the current task as $_asynctask; the REPL of python -m asyncio keeps one context.",
        "inherited",
        "pdb asks asyncio.current_task(), which knows the tasks of runtime.",
    ),
    Difference(
        "3.14",
        "",
        "On free-threaded builds, loops in several threads run in parallel and safely.",
        "left out",
        "runtime makes no promise for free-threaded builds.",
    ),
    Difference(
        "3.14",
        "",
        "A task of a TaskGroup that fails in its eager first step no longer cancels its creator "
        "at once, in the middle of another step.",
        "given",
        "runtime.TaskGroup learns of each end through the loop.",
    ),
    Difference(
        "3.14",
        "",
        "create_task(), TaskGroup and create_connection() leave no reference cycles through "
        "exceptions.",
        "given",
        "runtime.TaskGroup and runtime.open_connection leave none.",
    ),
    Difference(
        "3.14",
        "",
        "run_forever() inside a running loop raises without having changed the state of either.",
        "given",
        "runtime.Loop.run_forever refuses first.",
    ),
    Difference(
        "3.14",
        "",
        "The message of Barrier for too few parties says >= 1.",
        "given",
        "runtime.Barrier says so, and names the argument.",
    ),
    Difference(
        "3.14",
        "",
        "Happy Eyeballs works with eager tasks, and leaks no attempt.",
        "given",
        "runtime.open_connection and runtime.Loop.create_connection await the attempts that lost.",
    ),
    Difference(
        "3.14",
        "",
        "create_connection() without a single reason for its failure raises TimeoutError, not "
        "IndexError.",
        "given",
        "runtime.Loop.create_connection has a reason for each attempt that failed.",
    ),
    Difference(
        "3.14",
        "",
        "accept() goes on after ECONNABORTED, and takes one connection more than the backlog.",
        "given",
        "runtime.Server goes on, and takes as many in one turn as its own batch size says.",
    ),
    Difference(
        "3.14",
        "",
        "reuse_port is left out for families other than IPv4 and IPv6, where Linux refuses it.",
        "given",
        "runtime.start_server and runtime.Loop.create_server bind IPv4 and IPv6 only.",
    ),
    Difference(
        "3.14",
        "",
        "writelines() pauses the protocol at the high-water mark.",
        "given",
        "runtime.StreamWriter.writelines and the transports of runtime.Loop count every chunk.",
    ),
    Difference(
        "3.14",
        "",
        "A transport that is closed with unsent data sends it, and raises nothing later.",
        "given",
        "runtime.Loop's transports do: see docs/differences.md.",
    ),
    Difference(
        "3.14",
        "",
        "shield() no longer hides an exception that comes after the wait was cancelled.",
        "given",
        "runtime.shield leaves it with its future: reported if it is never retrieved (3.14.9).",
    ),
    Difference(
        "3.14",
        "",
        "sendfile() without os.sendfile() waits after each block until enough of it was sent.",
        "given",
        "runtime.Loop.sendfile does.",
    ),
    Difference(
        "3.14",
        "",
        "write() names the types that it takes: bytes, bytearray and memoryview.",
        "given",
        "runtime.StreamWriter.write and the transports of runtime.Loop take every bytes-like "
        "object, and name what they were given if it is none.",
    ),
    Difference(
        "3.14",
        "",
        "Crashes of the C implementation of Future and Task are fixed.",
        "given",
        "runtime.Future and runtime.Task share no code with it.",
    ),
    Difference(
        "3.14",
        "",
        "On Windows, the proactor's datagrams, sock_connect() and sock_recvfrom_into() are fixed.",
        "left out",
        "Windows only.",
    ),
    Difference(
        "3.14",
        "",
        "The pipes of a process are left alone if the loop is closed already.",
        "given",
        "runtime.Process and asyncio's can be dropped after a runtime.Loop was closed.",
    ),
    Difference(
        "3.14",
        "",
        "send_signal() does not race with the end of the process; none goes to a process that "
        "took over the number (also 3.14.7).",
        "given",
        "runtime.Process.send_signal uses the pidfd, or holds the status back.",
    ),
    Difference(
        "3.14.1",
        "",
        "DatagramTransport.get_write_buffer_size() counts 8 bytes of header for each datagram.",
        "given",
        "runtime.Loop.create_datagram_endpoint counts them when they are kept and when they leave.",
    ),
    Difference(
        "3.14.1",
        "",
        "writelines() after the connection was lost warns as write() does.",
        "given",
        "runtime.StreamWriter.writelines treats a lost connection as write() does.",
    ),
    Difference(
        "3.14.1",
        "",
        "A forked child does not see the current task of its parent.",
        "given",
        "runtime.current_task has none there: a child forgets the loops that ran.",
    ),
    Difference(
        "3.14.1",
        "",
        "Cancelling the start of a process neither hangs nor leaks its pipes (also 3.14.4).",
        "given",
        "runtime.create_subprocess_exec and runtime.create_subprocess_shell kill and clean up.",
    ),
    Difference(
        "3.14.3",
        "",
        "Cancelling the future of run_coroutine_threadsafe() cancels the task in any case.",
        "given",
        "runtime.run_coroutine_threadsafe does, in the loop's own thread as well.",
    ),
    Difference(
        "3.14.4",
        "",
        "start_tls() on a server's stream takes bytes received ahead as the beginning of TLS.",
        "given",
        "runtime.StreamWriter.start_tls does, and so do asyncio's streams on runtime.Loop.",
    ),
    Difference(
        "3.14.6",
        "",
        "sendfile() and sock_sendfile() send from offset 0 and leave the position behind what was "
        "sent, for files that are read as well as for os.sendfile().",
        "given",
        "runtime.Loop.sendfile and runtime.Loop.sock_sendfile do.",
    ),
    Difference(
        "3.14.7",
        "",
        "serve_forever(), when cancelled, closes the connections of clients before it waits.",
        "given",
        "runtime.Server.serve_forever does so on every Python.",
    ),
    Difference(
        "3.14.7",
        "",
        "Process.wait() returns when the process ends, though another one holds its pipes open.",
        "given",
        "runtime.Process.wait does.",
    ),
    Difference(
        "3.14.7",
        "",
        "Cancelling sock_accept() loses no connection.",
        "given",
        "runtime.Loop.sock_accept takes one only for a caller that still waits.",
    ),
    Difference(
        "3.14.7",
        "",
        "On macOS, data in a named FIFO is not taken for the end of its reader.",
        "given",
        "runtime.Loop.connect_write_pipe asks whether the reader is gone before it ends.",
    ),
    Difference(
        "3.14.7",
        "",
        "StreamWriter.start_tls() gives the reader the new transport, so that flow control works.",
        "given",
        "runtime.StreamReader reads from the connection itself, with or without TLS.",
    ),
    Difference(
        "3.14.7",
        "",
        "Task(coro, eager_start=True) needs no loop argument.",
        "given",
        "runtime.Task takes the running loop.",
    ),
    Difference(
        "3.14.8",
        "",
        "A client with check_hostname needs server_hostname for start_tls(), and may not give an "
        "empty one: ValueError.",
        "given",
        "runtime.Loop.start_tls and all the others refuse it on every Python.",
    ),
    Difference(
        "3.14.8",
        "",
        "A connection that resume_writing() closes is lost once, not twice.",
        "given",
        "runtime.Loop's transports lose it once.",
    ),
    Difference(
        "3.14.8",
        "",
        "start_server() reports a plain function that raises, and closes the connection.",
        "given",
        "runtime.start_server does; asyncio.start_server on runtime.Loop as well.",
    ),
    Difference(
        "3.14.8",
        "",
        "writelines() with an empty last chunk does not hang the transport.",
        "given",
        "runtime.StreamWriter.writelines drops empty chunks.",
    ),
    Difference(
        "3.14.8",
        "",
        "create_connection() closes its socket if the protocol factory raises.",
        "given",
        "runtime.Loop.create_connection does, also with the socket of sock=.",
    ),
    Difference(
        "3.14.8",
        "",
        "gather(), wait(), wait_for(), shield() and as_completed() give the call graph true edges.",
        "given",
        "runtime.gather, runtime.wait, runtime.wait_for, runtime.shield and runtime.as_completed "
        "keep no edges: they are found in what waits at the moment.",
    ),
    Difference(
        "3.14.9",
        "",
        "as_completed() yields every awaitable though a step of the iteration was cancelled.",
        "given",
        "runtime.as_completed does.",
    ),
    Difference(
        "3.14.9",
        "",
        "A TLS handshake that fails leaves no reference cycles.",
        "given",
        "runtime.Loop.create_connection and runtime.Loop.start_tls leave none.",
    ),
    Difference(
        "3.14.10",
        "",
        "ssl_shutdown_timeout holds also for a peer that does not read what is still to be sent.",
        "given",
        "runtime.Loop's TLS transports time out whenever the peer does nothing.",
    ),
    Difference(
        "3.14.10",
        "",
        "On macOS, stopping a child process (SIGSTOP) does not block the loop.",
        "given",
        "runtime.create_subprocess_exec: where there are no pidfds, the thread that waits for the "
        "child goes on after a stop.",
    ),
    # -- Python 3.15 -------------------------------------------------------------------------------
    Difference(
        "3.15",
        "TaskGroup.cancel",
        "A task group can be cancelled, and left without an exception.",
        "given",
        "runtime.TaskGroup.cancel",
    ),
    Difference(
        "3.15",
        "",
        "TaskGroup lets a lone GeneratorExit of its body pass, not as an exception group.",
        "given",
        "runtime.TaskGroup does.",
    ),
    Difference(
        "3.15",
        "",
        "TaskGroup raises a cancellation from outside that comes while it aborts.",
        "given",
        "runtime.TaskGroup does.",
    ),
    Difference(
        "3.15",
        "",
        "Each connection of a server runs in a copy of the context in which the server was made, "
        "and each connection of a client in the context of its maker.",
        "given",
        "runtime.start_server, runtime.Loop.create_server, runtime.Loop.create_connection do so.",
    ),
    Difference(
        "3.15",
        "",
        "Future and Task can be initialised only once: RuntimeError.",
        "given",
        "runtime.Future and runtime.Task refuse a second __init__() on every Python.",
    ),
    Difference(
        "3.15",
        "",
        "Task refuses a context that is not a contextvars.Context; an eager start in a context "
        "that is entered already raises, and does not hang.",
        "given",
        "runtime.Task and runtime.create_task raise TypeError and RuntimeError.",
    ),
    Difference(
        "3.15",
        "",
        "Timers fire on time where the resolution of the clock vanishes beside the time.",
        "given",
        "runtime.Loop.call_at queues every timer whose moment is reached; no resolution is added.",
    ),
    Difference(
        "3.15",
        "",
        "time.sleep(), select() and others take any real number, a Decimal too, as a timeout; "
        "asyncio's own functions do not yet.",
        "given",
        "runtime.sleep, runtime.timeout, runtime.wait_for and all others take any real number.",
    ),
    Difference(
        "3.15",
        "",
        "get_write_buffer_size() takes constant time.",
        "given",
        "runtime.Loop's transports keep the number of unsent bytes.",
    ),
    Difference(
        "3.15",
        "",
        "StreamReader gives its buffer away without copying it.",
        "given",
        "runtime.StreamReader.readexactly receives large amounts straight into the result.",
    ),
    Difference(
        "3.15",
        "",
        "python -m asyncio ps and pstree try again after transient errors (--retries).",
        "left out",
        "They show no task of runtime: see 3.14.",
    ),
    Difference(
        "3.15",
        "",
        "On Windows, a datagram transport reports ConnectionResetError to its protocol.",
        "left out",
        "Windows only.",
    ),
]


# -- The running Python is as recorded -------------------------------------------------------------


@functools.cache
def records() -> dict[Release, Surface]:
    return load()


def explained(lines: list[str]) -> str:
    return "\n".join(
        [
            f"The asyncio of Python {text(running_release())} is not as in {DATA.name}:",
            *(f"    {line}" for line in lines),
            "Record it: `python -m tests.dropin.asyncio_surface`. Then add entries that say what",
            "runtime does about it to DIFFERENCES in test_asyncio_differences.py.",
        ]
    )


def test_asyncio_has_nothing_that_is_not_recorded() -> None:
    lines = unrecorded(running_release(), read_surface(), records())
    assert not lines, explained(lines)


def test_a_new_name_and_a_new_parameter_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(delay: float, *, clock: object = object()) -> None: ...

    def hurry(self: object, factor: float = 2) -> None: ...

    known = {running_release(): read_surface()}
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(asyncio, "hurry", hurry, raising=False)
    monkeypatch.setattr(asyncio.TaskGroup, "hurry", hurry, raising=False)
    monkeypatch.delattr(asyncio, "to_thread")
    lines = unrecorded(running_release(), read_surface(), known)
    assert lines == [
        "added    TaskGroup.hurry: (self, factor=2)",
        "added    hurry: (self, factor=2)",
        "changed  sleep: async (delay, result=None)  ->  async (delay, *, clock=<object>)",
        "removed  to_thread: async (func, /, *args, **kwargs)",
    ]
    assert "\n    added    hurry: (self, factor=2)\n" in explained(lines)


OLD, LATE = {"f": "(a)", "g": "(a)"}, {"f": "(a, b)", "h": "(a)"}


@pytest.mark.parametrize(
    ("running", "surface", "lines"),
    [
        pytest.param((3, 14, 2), OLD, [], id="recorded"),
        pytest.param((3, 14, 2), LATE, ["changed  f", "removed  g", "added    h"], id="other"),
        pytest.param((3, 14, 9), LATE, [], id="later, and as the last one"),
        pytest.param((3, 14, 9), {**LATE, "i": "()"}, ["added    i"], id="later, with more"),
        pytest.param((3, 14, 9), {"f": "(a, b)"}, ["removed  h"], id="later, with less"),
        pytest.param((3, 14, 3), {"f": "(b)"}, [], id="earlier, with less"),
        pytest.param((3, 14, 3), {**OLD, "i": "()"}, ["added    i"], id="earlier, with more"),
        pytest.param((3, 14, 0), {"f": "()"}, [], id="first, with less"),
        pytest.param((3, 15, 0), LATE, ["Python 3.15.0 has no record", "no difference"], id="new"),
        pytest.param((3, 15, 0), {**LATE, "i": "()"}, ["Python 3.15.0", "added    i"], id="newer"),
    ],
)
def test_how_releases_are_compared(running: Release, surface: Surface, lines: list[str]) -> None:
    found = unrecorded(running, surface, {(3, 14, 2): OLD, (3, 14, 5): LATE})
    assert [line[: len(start)] for line, start in zip(found, lines, strict=True)] == lines


def test_every_version_of_python_is_recorded() -> None:
    assert {release[:2] for release in records()} >= {(3, minor) for minor in range(11, 16)}


# -- The table is complete, and true ---------------------------------------------------------------


def steps() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the version as in ``Difference.since``, and the changes since the record before it."""
    releases = [release for release in records() if release >= ANSWERED_SINCE]
    for before, after in itertools.pairwise(releases):
        version = text(after) if before[:2] == after[:2] else text(after)[: -len(f".{after[2]}")]
        yield version, difference(records()[before], records()[after])


def answered(version: str) -> set[str]:
    return {name for each in DIFFERENCES if each.since == version for name in each.names.split()}


def test_every_difference_has_an_entry() -> None:
    unanswered = []
    for version, lines in steps():
        names = answered(version)
        for name, line in lines.items():
            owner = name.partition(".")[0]
            # The members of a class come and go with the class.
            if owner in names and not lines[owner].startswith("changed"):
                continue
            if name not in names:
                unanswered.append(f"{version}: {line}")
    assert not unanswered, "DIFFERENCES says nothing about:\n" + "\n".join(unanswered)


def test_every_name_in_an_entry_is_a_difference() -> None:
    versions = dict(steps())
    for each in DIFFERENCES:
        for name in each.names.split():
            assert name in versions[each.since], (each.since, name)


GIVEN = sorted(
    {name for each in DIFFERENCES for name in re.findall(r"\bruntime((?:\.\w+)+)", each.here)}
)


@pytest.mark.parametrize("name", GIVEN)
def test_names_of_an_entry_exist_in_runtime(name: str) -> None:
    value: Any = runtime
    for part in name.strip(".").split("."):
        value = getattr(value, part)


def test_the_entries_are_complete() -> None:
    for entry in DIFFERENCES:
        assert entry.change
        assert entry.here
        assert entry.answer in get_args(Answer)
        # If it is a public attribute of the package, the test above checks that it exists.
        assert "runtime." in entry.here or entry.answer != "given", entry


def test_the_entries_are_in_order() -> None:
    keys = [tuple(map(int, each.since.split("."))) for each in DIFFERENCES]
    assert keys == sorted(keys)

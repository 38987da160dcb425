"""Records the life of an ``await`` in the real loop, for docs/how-it-works.md.

The program runs two coroutines, one that sleeps and one that reads from a connection. It records
every call that the loop makes for them, and the contents of the loop after the call. It needs the
interpreted modules in ``src``, and a system with epoll::

    PYTHONPATH=src RUNTIME_NO_ACCELERATOR=1 python docs/tools/awaits.py [--write]

Without an option it prints the diagrams; ``--write`` puts them into the page. Each block of the
page that is marked ``trace`` gets the next diagram.
"""

from __future__ import annotations

import dis
import inspect
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import runtime

# A name of the package is imported when it is first used, which is not to be part of a recording.
for _name in runtime.__all__:
    getattr(runtime, _name)

PAGE = Path(__file__).resolve().parents[1] / "how-it-works.md"
BLOCK = re.compile(r"^```trace\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PACKAGE = Path(runtime.__file__).parent
WIDTH = 56
YIELDS = dis.opmap["YIELD_VALUE"]
SUSPENDABLE = inspect.CO_COROUTINE | inspect.CO_GENERATOR

# Functions that only answer a question, or that belong to the call above them.
LEFT_OUT = {
    "SleepFuture._due",
    "SleepFuture._leave_heap",
    "FutureCore.cancelled",
    "FutureCore.done",
    "Poller.tick",
    "Scheduler._check_open",
    "_bare_future",
    "await_it",
    "get_running_loop",
    "init_future",
    "leave_task",
}
# System calls to show, by their names in Python.
SYSTEM_CALLS = {"epoll.poll": "the system waits", "read": "the system reads"}


@dataclass
class Call:
    """A call, and the calls that it made."""

    name: str
    module: str
    notes: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def lines(self, indent: str = "", branch: str = "") -> Iterator[str]:
        """Draw the tree of calls."""
        words = [self.name, *(f"({note})" for note in self.notes)]
        yield f"{indent}{branch}{' '.join(words)}".ljust(WIDTH - 1) + f" {self.module}"
        below = indent + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for number, call in enumerate(self.calls, 1):
            yield from call.lines(below, "└─ " if number == len(self.calls) else "├─ ")


class Recorder:
    """Records calls of functions of ``runtime`` and of one coroutine, in this thread."""

    def __init__(self, loop: runtime.Loop, coroutine_file: str) -> None:
        self.task: runtime.Task[Any] | None = None
        self._loop = loop
        self._coroutine_file = coroutine_file
        self._stack: list[tuple[FrameType, Call]] = []
        self._diagrams: list[str] = []

    def diagrams(self) -> list[str]:
        """Return the recorded diagrams, one for each call that the loop made."""
        return self._diagrams

    def on_event(self, frame: FrameType, event: str, arg: Any) -> None:
        """Handle an event of ``sys.setprofile``."""
        if self._is_over():
            return
        if event == "call" and self._is_shown(frame):
            self._enter(frame)
        elif event == "return" and self._stack and self._stack[-1][0] is frame:
            self._leave(frame, arg)
        elif event == "c_call" and self._stack and self._stack[-1][0] is frame:
            what = SYSTEM_CALLS.get(arg.__qualname__)
            if what is not None:
                self._stack[-1][1].calls.append(Call(arg.__qualname__, what))

    def _is_over(self) -> bool:
        return not self._stack and self.task is not None and self.task.done()

    def _is_shown(self, frame: FrameType) -> bool:
        code = frame.f_code
        if code.co_filename == self._coroutine_file:
            return bool(code.co_flags & inspect.CO_COROUTINE)
        # Functions that run the turns surround all calls, and are not shown.
        return (
            code.co_filename.startswith(str(PACKAGE))
            and code.co_qualname not in LEFT_OUT
            and (bool(self._stack) or code.co_qualname in BEGINNINGS)
        )

    def _enter(self, frame: FrameType) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        module = str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else "the coroutine"
        call = Call(code.co_qualname, module)
        if code.co_flags & SUSPENDABLE and frame.f_lasti > _first_instruction(frame):
            call.notes.append("goes on")
        if self._stack:
            self._stack[-1][1].calls.append(call)
        self._stack.append((frame, call))

    def _leave(self, frame: FrameType, returned: object) -> None:
        _, call = self._stack.pop()
        code = frame.f_code
        if code.co_flags & SUSPENDABLE:
            suspended = YIELDS in code.co_code[frame.f_lasti - 2 : frame.f_lasti + 1 : 2]
            call.notes.append(f"yields {type(returned).__name__}" if suspended else "returns")
        if not self._stack:
            self._diagrams.append("\n".join([*map(str.rstrip, call.lines()), "", *self._state()]))

    def _state(self) -> Iterator[str]:
        """Describe the contents of the loop, line by line."""
        loop = self._loop
        yield f"ready queue   {_kinds(loop._ready)}"
        yield f"timers        {_kinds(loop._timers.pending())}"
        task = self.task
        if task is None or (not task.done() and task in loop._ready):
            yield "the task      is queued"
        elif task.done():
            yield "the task      is done"
        else:
            yield f"the task      waits for the {type(task._waits_for()).__name__}"


# The functions that the loop calls in a turn, and the one that creates the task.
BEGINNINGS = {"LoopCore.create_task", "collect", "step", "SleepFuture._run"}


def _first_instruction(frame: FrameType) -> int:
    """Return the offset at which a coroutine stands before its first step."""
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.opname == "RESUME":
            return instruction.offset
    return 0


def _kinds(objects: Any) -> str:
    return ", ".join(type(each).__name__ for each in objects) or "(empty)"


def record(loop: runtime.Loop, coroutine: Any, *, meanwhile: Callable[[], None]) -> list[str]:
    """Run a coroutine; return a diagram for each call that the loop made."""
    recorder = Recorder(loop, coroutine.cr_code.co_filename)

    def wait_and_do() -> None:
        while not (loop._waiting and recorder.task is not None and recorder.task._waits_for()):
            time.sleep(0.001)
        meanwhile()

    thread = threading.Thread(target=wait_and_do)
    thread.start()
    sys.setprofile(recorder.on_event)
    try:
        recorder.task = loop.create_task(coroutine)
        loop.run_until_complete(recorder.task)
    finally:
        sys.setprofile(None)
        thread.join()
    return recorder.diagrams()


async def pause() -> None:
    """Sleep for a second."""
    await runtime.sleep(1)


async def receive(reader: runtime.StreamReader) -> bytes:
    """Read from a connection."""
    return await reader.read(100)


def trace_sleep() -> list[str]:
    """Record the life of ``await sleep(1)``."""
    loop = runtime.Loop()
    try:
        return record(loop, pause(), meanwhile=lambda: None)
    finally:
        loop.close()


def trace_read() -> list[str]:
    """Record the life of ``await reader.read(100)``; another thread sends the bytes."""
    loop = runtime.Loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        reader, writer = loop.run_until_complete(runtime.open_connection(*address))
        peer, _ = listener.accept()
        with peer:
            try:
                return record(loop, receive(reader), meanwhile=lambda: peer.sendall(b"hello"))
            finally:
                writer.abort()
                loop.run_until_complete(runtime.sleep(0))
                loop.close()


def diagrams() -> list[str]:
    """Return every diagram of the page, in order."""
    return trace_sleep() + trace_read()


def main() -> None:
    """Print the diagrams, or write them into the page."""
    found = diagrams()
    if "--write" in sys.argv:
        text = PAGE.read_text()
        rest = iter(found)
        text = BLOCK.sub(lambda _: f"```trace\n{next(rest)}\n```", text)
        if unused := len(list(rest)):
            sys.exit(f"{unused} diagrams have no block in {PAGE}")
        PAGE.write_text(text)
    else:
        print("\n\n".join(found))


if __name__ == "__main__":
    main()

"""Calls that block a thread: the call that a stack is in, and the asynchronous way to do the same.

A stack shows the functions in Python. A function in C has no frame; its call is found from the
instruction that the innermost frame executes, whose position in the source the interpreter knows.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import linecache
import sys
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Final

from runtime.kernel.diagnostics.collector import collecting

_IN_THREAD: Final = "runtime.to_thread(), or a process for a calculation"
_ASYNC_DRIVER: Final = "an asynchronous driver, or runtime.to_thread()"
_ASYNC_HTTP: Final = "an asynchronous HTTP client, or runtime.to_thread()"
_STREAMS: Final = "runtime.open_connection(), or the loop's sock_* methods"
_PROCESS: Final = "runtime.create_subprocess_exec()"

_ADVICE: Final = {
    "_io": "runtime.to_thread()",
    "_queue": "runtime.Queue",
    "_socket": _STREAMS,
    "_socket.getaddrinfo": "the loop's getaddrinfo()",
    "_sqlite3": _ASYNC_DRIVER,
    "_ssl": _STREAMS,
    "_thread": "runtime.Lock, runtime.Event or runtime.Queue",
    "concurrent.futures": "runtime.wrap_future(), and await the result",
    "http.client": _ASYNC_HTTP,
    "io": "runtime.to_thread()",
    "multiprocessing": "runtime.to_thread()",
    "os": "runtime.to_thread()",
    "os.system": "runtime.create_subprocess_shell()",
    "os.wait": _PROCESS,
    "os.waitpid": _PROCESS,
    "pathlib": "runtime.to_thread()",
    "posix": "runtime.to_thread()",
    "posix.system": "runtime.create_subprocess_shell()",
    "posix.wait": _PROCESS,
    "posix.waitpid": _PROCESS,
    "psycopg2": _ASYNC_DRIVER,
    "pymysql": _ASYNC_DRIVER,
    "queue": "runtime.Queue",
    "requests": _ASYNC_HTTP,
    "select": "runtime.wait_readable() or runtime.wait_writable()",
    "shutil": "runtime.to_thread()",
    "socket": _STREAMS,
    "socket.getaddrinfo": "the loop's getaddrinfo()",
    "sqlite3": _ASYNC_DRIVER,
    "ssl": _STREAMS,
    "subprocess": _PROCESS,
    "threading": "runtime.Lock, runtime.Event or runtime.Queue",
    "time.sleep": "await runtime.sleep()",
    "urllib": _ASYNC_HTTP,
    "urllib3": _ASYNC_HTTP,
}
"""The asynchronous way to do what a module or a function does, by its full name."""

_OWN: Final = ("asyncio", "runtime")
_NOT_PROGRAM: Final = frozenset(
    {*sys.stdlib_module_names, *(name.partition(".")[0] for name in _ADVICE), *_OWN}
) - {"__main__"}
"""Top-level names of the modules that are not the program's own."""


@dataclass(frozen=True, slots=True)
class BlockingCall:
    """A call that blocks its thread."""

    place: str
    """The innermost line of the program, with its function."""

    call: str
    """The function or the expression that blocks; empty if it is not known."""

    instead: str
    """The asynchronous way to do the same."""


def advice_for(name: str) -> str | None:
    """Return the asynchronous way for a function or module; None if none is known.

    If ``name`` is not in the table, its module decides.
    """
    while name:
        if name in _ADVICE:
            return _ADVICE[name]
        name = name.rpartition(".")[0]
    return None


def blocking_call_of(frame: FrameType) -> BlockingCall:
    """Return the call that a stack with the innermost frame ``frame`` is in."""
    innermost = frame
    called: FrameType | None = None
    while not _is_program(frame) and frame.f_back is not None:
        called = frame
        frame = frame.f_back
    if not _is_program(frame):
        frame, called = innermost, None
    place = f"{frame.f_code.co_qualname}() at {frame.f_code.co_filename}:{frame.f_lineno}"
    generation = collecting()
    if generation is not None:
        name = f"the garbage collector, generation {generation}"
        return BlockingCall(place, name, "loop.collect_when_idle(), or gc.freeze()")
    if called is not None:
        name = f"{called.f_globals.get('__name__', '')}.{called.f_code.co_qualname}"
        return BlockingCall(place, f"{name}()", advice_for(name) or _IN_THREAD)
    expression = _expression_of(frame)
    name = _name_of(expression, frame)
    instead = advice_for(name) or _IN_THREAD
    return BlockingCall(place, ast.unparse(expression) if expression else "", instead)


def _is_program(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] not in _NOT_PROGRAM


def _expression_of(frame: FrameType) -> ast.Call | None:
    """Return the call that a frame executes, from the source; None if it is not there."""
    positions = itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
    first, last, begin, end = next(positions, (None, None, None, None))
    if first is None or last is None or begin is None or end is None:
        return None
    lines = [
        linecache.getline(frame.f_code.co_filename, number, frame.f_globals).encode()
        for number in range(first, last + 1)
    ]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][begin:]
    try:
        parsed = ast.parse(b"".join(lines).strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if isinstance(parsed, ast.Await):
        parsed = parsed.value
    return parsed if isinstance(parsed, ast.Call) else None


def _name_of(expression: ast.Call | None, frame: FrameType) -> str:
    """Return the full name of the function that is called, without running any code for it."""
    if expression is None:
        return ""
    names: list[str] = []
    node: ast.expr = expression.func
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    found: object = None
    for space in (frame.f_locals, frame.f_globals, vars(builtins)):
        if node.id in space:
            found = space[node.id]
            break
    while names and isinstance(found, ModuleType):
        name = names.pop(0)
        if name not in vars(found):
            return f"{found.__name__}.{name}"
        found = vars(found)[name]
    if names:
        # A method of an object: its class tells the module.
        kind = type(found)
        return f"{kind.__module__}.{kind.__qualname__}.{names[-1]}"
    module = getattr(found, "__module__", None)
    name = getattr(found, "__qualname__", "")
    owner = type(getattr(found, "__self__", None))
    if module is None and owner is not ModuleType and owner is not type(None):
        return f"{owner.__module__}.{name}"
    return f"{module}.{name}"

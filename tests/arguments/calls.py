"""Calls of every public function with odd arguments, and a text that describes each outcome."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import io
import itertools
import re
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import runtime
from runtime.net.connection.protocol_transport import Transport
from runtime.net.connection.stream_transport import StreamTransport
from runtime.net.datagrams.transport import DatagramTransport
from runtime.subprocess import Process
from runtime.system.pipes import ReadPipeTransport, WritePipeTransport
from runtime.system.subprocess_transport import SubprocessTransport
from tests.arguments.odd import odd

TURNS: Final = 6
"""Turns of the loop after which a call that may wait for ever is given up."""

SECONDS: Final = 20.0
"""Seconds that any other call may take."""

NOT_CALLED: Final = {
    # These functions end the whole run, or are never called by programs.
    "run",
    "Runner.run",
    # This one cancels the task that calls it.
    "TaskGroup.cancel",
}

MADE_ELSEWHERE: Final = {
    "DatagramEndpoint",
    "FrameCallGraphEntry",
    "FutureCallGraph",
    "ChannelStatistics",
    "Handle",
    "LimiterStatistics",
    "Process",
    "ReceiveChannel",
    "Resume",
    "SendChannel",
    "Server",
    "Started",
    "StreamReader",
    "StreamWriter",
    "TimerHandle",
}
"""Classes that programs do not call, because functions create the instances."""


# All calls share one folder, because removing a folder takes longer than most calls.
_TEMPORARY: Final = tempfile.TemporaryDirectory()
_FOLDER: Final = Path(_TEMPORARY.name)
_numbers: Final = itertools.count()


class Scene:
    """Objects that one call needs; each call has a new scene."""

    def __init__(self, loop: runtime.Loop, stack: contextlib.ExitStack) -> None:
        self.loop = loop
        self.stack = stack

    def path(self) -> Path:
        """Return a path that does not exist yet."""
        return _FOLDER / f"file{next(_numbers)}"

    def keep(self, thing: Any) -> Any:
        """Close an object at the end of the scene; return the object."""
        self.stack.callback(thing.close)
        return thing

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two connected sockets."""
        left, right = socket.socketpair()
        for each in (left, right):
            self.keep(each).setblocking(False)
        right.send(b"some\nlines\n")
        return left, right

    def sock(self) -> socket.socket:
        """Return a connected socket with data to read."""
        return self.pair()[0]

    def listener(self) -> socket.socket:
        """Return a listening socket to which one client has connected."""
        sock: socket.socket = self.keep(socket.create_server(("127.0.0.1", 0)))
        sock.setblocking(False)
        self.keep(socket.create_connection(sock.getsockname()))
        return sock

    def unix_path(self) -> str:
        """Return the path of a listening socket."""
        path = str(self.path())
        sock = self.keep(socket.socket(socket.AF_UNIX))
        sock.bind(path)
        sock.listen()
        return path

    def datagram(self) -> socket.socket:
        """Return a datagram socket with a datagram to receive."""
        sock: socket.socket = self.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"some", sock.getsockname())
        return sock

    def file(self) -> Any:
        """Return an open file."""
        path = self.path()
        path.write_bytes(b"0123456789")
        return self.keep(path.open("rb"))

    def context(self) -> ssl.SSLContext:
        """Return a client's TLS context."""
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def future(self) -> runtime.Future[Any]:
        """Return a future that is done."""
        future = self.loop.create_future()
        future.set_result(7)
        return future

    async def connected(self) -> tuple[runtime.StreamReader, runtime.StreamWriter]:
        """Return the streams of a connection with data to read."""
        left, right = self.pair()
        right.shutdown(socket.SHUT_WR)
        reader, writer = await runtime.open_connection(sock=left)
        self.stack.callback(writer.abort)
        return reader, writer


class _Protocol(asyncio.Protocol):
    pass


class _Datagrams(asyncio.DatagramProtocol):
    pass


async def _answer() -> int:
    return 7


async def _start(started: runtime.Started[int]) -> None:
    started(7)


async def _serve(reader: object, writer: object) -> None:
    pass


def _nothing(*args: object) -> None:
    pass


def _arm(resume: Any) -> None:
    resume(7)


# -- The objects whose methods are called --------------------------------------------------------


async def _stream_transport(scene: Scene) -> Any:
    return (await scene.connected())[1].transport


async def _transport(scene: Scene) -> Any:
    transport, _ = await scene.loop.create_connection(_Protocol, sock=scene.sock())
    scene.stack.callback(transport.abort)
    return transport


async def _datagram_transport(scene: Scene) -> Any:
    transport, _ = await scene.loop.create_datagram_endpoint(_Datagrams, sock=scene.datagram())
    scene.stack.callback(transport.abort)
    return transport


async def _datagram_endpoint(scene: Scene) -> Any:
    return scene.keep(await runtime.open_datagram(sock=scene.datagram()))


async def _server(scene: Scene) -> Any:
    return scene.keep(await runtime.start_server(_serve, "127.0.0.1", 0))


async def _runner(scene: Scene) -> Any:
    return scene.keep(runtime.Runner())


async def _task(scene: Scene) -> Any:
    return scene.loop.create_task(runtime.sleep_forever())


async def _read_pipe(scene: Scene) -> Any:
    transport, _ = await scene.loop.connect_read_pipe(_Protocol, scene.sock())
    return scene.keep(transport)


async def _write_pipe(scene: Scene) -> Any:
    transport, _ = await scene.loop.connect_write_pipe(_Protocol, scene.sock())
    return scene.keep(transport)


async def _subprocess(scene: Scene) -> Any:
    transport, _ = await scene.loop.subprocess_exec(asyncio.SubprocessProtocol, "cat")
    return scene.keep(transport)


async def _process(scene: Scene) -> Any:
    process = await runtime.create_subprocess_exec(
        "true", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    scene.stack.callback(process._transport.close)
    return process


async def _timeout(scene: Scene) -> Any:
    timeout = runtime.timeout(50)
    await timeout.__aenter__()
    return timeout


async def _group(scene: Scene) -> Any:
    group = runtime.TaskGroup()
    await group.__aenter__()
    return group


def _simply(make: Callable[[], Any]) -> Callable[[Scene], Any]:
    async def subject(scene: Scene) -> Any:
        return make()

    return subject


async def _loop(scene: Scene) -> Any:
    return scene.loop


async def _future(scene: Scene) -> Any:
    return scene.loop.create_future()


async def _reader(scene: Scene) -> Any:
    return (await scene.connected())[0]


async def _writer(scene: Scene) -> Any:
    return (await scene.connected())[1]


async def _receive_channel(scene: Scene) -> Any:
    send, receive = runtime.open_channel[int](1)
    send.send_nowait(7)
    return receive


async def _condition(scene: Scene) -> Any:
    condition = runtime.Condition()
    await condition.acquire()
    return condition


SUBJECTS: Final[dict[type, Callable[[Scene], Any]]] = {
    runtime.Barrier: _simply(lambda: runtime.Barrier(1)),
    runtime.CancelScope: _simply(runtime.CancelScope),
    runtime.CapacityLimiter: _simply(lambda: runtime.CapacityLimiter(1)),
    runtime.SendChannel: _simply(lambda: runtime.open_channel[int](1)[0]),
    runtime.ReceiveChannel: _receive_channel,
    runtime.BoundedSemaphore: _simply(runtime.BoundedSemaphore),
    runtime.Condition: _condition,
    runtime.DatagramEndpoint: _datagram_endpoint,
    runtime.Event: _simply(runtime.Event),
    runtime.EventLoopPolicy: _simply(runtime.EventLoopPolicy),
    runtime.Future: _future,
    runtime.LifoQueue: _simply(lambda: runtime.LifoQueue(2)),
    runtime.Lock: _simply(runtime.Lock),
    runtime.Loop: _loop,
    runtime.PriorityQueue: _simply(lambda: runtime.PriorityQueue(2)),
    runtime.Queue: _simply(lambda: runtime.Queue(2)),
    runtime.Runner: _runner,
    runtime.Semaphore: _simply(runtime.Semaphore),
    runtime.Server: _server,
    runtime.StreamReader: _reader,
    runtime.StreamWriter: _writer,
    runtime.Task: _task,
    runtime.TaskGroup: _group,
    runtime.Timeout: _timeout,
    Process: _process,
    DatagramTransport: _datagram_transport,
    ReadPipeTransport: _read_pipe,
    StreamTransport: _stream_transport,
    SubprocessTransport: _subprocess,
    Transport: _transport,
    WritePipeTransport: _write_pipe,
}

# -- The arguments of each parameter ---------------------------------------------------------------

PLAIN: Final[dict[str, Callable[[Scene], Any]]] = {
    "addr": lambda scene: ("127.0.0.1", 9),
    "address": lambda scene: ("127.0.0.1", 9),
    "aw": lambda scene: scene.future(),
    "backlog": lambda scene: 5,
    "buf": lambda scene: bytearray(4),
    "buffers": lambda scene: [b"some"],
    "bufsize": lambda scene: 4,
    "borrower": lambda scene: "a name",
    "callback": lambda scene: _nothing,
    "capacity": lambda scene: 3,
    "client_connected_cb": lambda scene: _serve,
    "clock": lambda scene: scene.loop.time,
    "cmd": lambda scene: "true",
    "context": lambda scene: contextvars.copy_context(),
    "coro": lambda scene: _answer(),
    "coro_or_future": lambda scene: scene.future(),
    "count": lambda scene: 4,
    "custom_task_constructor": lambda scene: runtime.Task,
    "data": lambda scene: b"some",
    "deadline": lambda scene: 5,
    "debug": lambda scene: True,
    "delay": lambda scene: 0,
    "depth": lambda scene: 1,
    "eager_start": lambda scene: True,
    "enabled": lambda scene: True,
    "error": lambda scene: runtime.CancelledError("words"),
    "freeze": lambda scene: False,
    "most": lambda scene: 1000,
    "events": lambda scene: 64,
    "every": lambda scene: 16,
    "exception": lambda scene: ValueError("wrong"),
    "executor": lambda scene: concurrent.futures.ThreadPoolExecutor(1),
    "factory": lambda scene: runtime.eager_task_factory,
    "family": lambda scene: int(socket.AF_INET),
    "fd": lambda scene: scene.sock(),
    "fds": lambda scene: [0],
    "file": lambda scene: scene.file(),
    "flags": lambda scene: 0,
    "fn": lambda scene: _nothing,
    "fs": lambda scene: [scene.future()],
    "func": lambda scene: _nothing,
    "future": lambda scene: scene.future(),
    "handler": lambda scene: _nothing,
    "happy_eyeballs_delay": lambda scene: 1,
    "high": lambda scene: 4,
    "host": lambda scene: "127.0.0.1",
    "input": lambda scene: b"some",
    "interleave": lambda scene: 1,
    "item": lambda scene: 7,
    "keep_alive": lambda scene: True,
    "kind": lambda scene: "call",
    "limit": lambda scene: 64,
    "list_of_data": lambda scene: [b"some"],
    "lock": lambda scene: runtime.Lock(),
    "loop": lambda scene: scene.loop,
    "loop_factory": lambda scene: runtime.Loop,
    "low": lambda scene: 1,
    "maxfds": lambda scene: 1,
    "maxsize": lambda scene: 1,
    "message": lambda scene: "words",
    "msg": lambda scene: "words",
    "n": lambda scene: 4,
    "name": lambda scene: "sockname",
    "nbytes": lambda scene: 4,
    "obj": lambda scene: scene.future(),
    "offset": lambda scene: 0,
    "parties": lambda scene: 1,
    "path": lambda scene: str(scene.path()),
    "place": lambda scene: "file.py:7 in main()",
    "port": lambda scene: 0,
    "predicate": lambda scene: lambda: True,
    "program": lambda scene: "/bin/true",
    "protocol": lambda scene: _Protocol(),
    "protocol_factory": lambda scene: _Protocol,
    "proto": lambda scene: 0,
    "queue_size": lambda scene: 4,
    "reason": lambda scene: "words",
    "result": lambda scene: 7,
    "return_when": lambda scene: runtime.ALL_COMPLETED,
    "reuse_address": lambda scene: True,
    "reuse_port": lambda scene: True,
    "allow_broadcast": lambda scene: True,
    "separator": lambda scene: b"\n",
    "server_hostname": lambda scene: "localhost",
    "server_side": lambda scene: False,
    "sig": lambda scene: int(signal.SIGUSR1),
    "shield": lambda scene: False,
    "signal": lambda scene: 0,
    "sock": lambda scene: scene.sock(),
    "sockaddr": lambda scene: ("127.0.0.1", 9),
    "sslcontext": lambda scene: scene.context(),
    "ssl_handshake_timeout": lambda scene: 5,
    "ssl_shutdown_timeout": lambda scene: 5,
    "source": lambda scene: ValueError("wrong"),
    "task": lambda scene: "Task-7",
    "tasks": lambda scene: [],
    "text": lambda scene: "words",
    "selector": lambda scene: scene.keep(selectors.DefaultSelector()),
    "stdin": lambda scene: subprocess.DEVNULL,
    "stdout": lambda scene: subprocess.DEVNULL,
    "stderr": lambda scene: subprocess.DEVNULL,
    "threshold": lambda scene: 1,
    "TaskGroup.start.function": lambda scene: _start,
    "timeout": lambda scene: 5,
    "total": lambda scene: 3,
    "type": lambda scene: int(socket.SOCK_STREAM),
    "value": lambda scene: 1,
    "when": lambda scene: 5,
    # Parameters of certain functions.
    "Loop.sock_accept.sock": lambda scene: scene.listener(),
    "Loop.sock_recvfrom.sock": lambda scene: scene.datagram(),
    "Loop.sock_recvfrom_into.sock": lambda scene: scene.datagram(),
    "Loop.sock_sendto.sock": lambda scene: scene.datagram(),
    "Loop.sock_connect.sock": lambda scene: scene.keep(socket.socket()),
    "Loop.call_exception_handler.context": lambda scene: {"message": "words"},
    "Loop.default_exception_handler.context": lambda scene: {"message": "words"},
    "Loop.create_datagram_endpoint.protocol_factory": lambda scene: _Datagrams,
    "Loop.create_datagram_endpoint.sock": lambda scene: scene.datagram(),
    "Loop.subprocess_exec.protocol_factory": lambda scene: asyncio.SubprocessProtocol,
    "Loop.subprocess_shell.protocol_factory": lambda scene: asyncio.SubprocessProtocol,
    "Loop.connect_accepted_socket.sock": lambda scene: scene.sock(),
    "Loop.create_server.sock": lambda scene: scene.listener(),
    "Loop.create_unix_server.sock": lambda scene: scene.listener(),
    "open_connection.port": lambda scene: scene.listener().getsockname()[1],
    "open_unix_connection.path": lambda scene: scene.unix_path(),
    "Loop.create_unix_connection.path": lambda scene: scene.unix_path(),
    "Loop.create_connection.port": lambda scene: scene.listener().getsockname()[1],
    "local_addr": lambda scene: ("127.0.0.1", 0),
    "remote_addr": lambda scene: ("127.0.0.1", 9),
    "open_datagram.sock": lambda scene: scene.datagram(),
    "start_server.sock": lambda scene: scene.listener(),
    "start_unix_server.sock": lambda scene: scene.listener(),
    "print_call_graph.file": lambda scene: io.StringIO(),
    "Task.print_stack.file": lambda scene: io.StringIO(),
    "Semaphore.value": lambda scene: 1,
    "suspend.arm": lambda scene: _arm,
    "StreamWriter.writelines.data": lambda scene: [b"some", b"more"],
    "wrap_future.future": lambda scene: concurrent.futures.Future(),
    "Loop.set_default_executor.executor": (lambda scene: concurrent.futures.ThreadPoolExecutor(1)),
}

NEEDED: Final = {
    # Arguments that a call cannot do without, although they have defaults.
    "open_connection": ("host", "port"),
    "open_datagram": ("local_addr",),
    "open_unix_connection": ("path",),
    "start_server": ("host", "port"),
    "start_unix_server": ("path",),
    "Loop.create_connection": ("host", "port"),
    "Loop.create_server": ("host", "port"),
    "Loop.create_unix_server": ("path",),
    "Loop.create_unix_connection": ("path",),
    "Loop.create_datagram_endpoint": ("local_addr",),
}

REST: Final[dict[str, Callable[[Scene], Any]]] = {
    # Without any of these arguments the function ignores all others.
    "gather": lambda scene: scene.future(),
}
"""One more positional argument for functions that take any number."""

WAITS_FOR_EVER: Final = {"delay", "timeout", "when", "threshold"}
"""Parameters that specify a waiting time: the call only gets a few turns."""

NEVER_ANSWERED: Final = {"Loop.start_tls", "StreamWriter.start_tls", "wait_exceptional"}
"""Calls that wait for an event that never occurs."""


_PACKAGE: Final = str(Path(runtime.__file__).parent)

Case = tuple[str, Any, type | None, str]
"""The name and the object to call; the class, if it is a method; the parameter that is varied."""


def _own_methods(cls: type) -> Iterator[tuple[str, Any]]:
    own = [each for each in cls.__mro__ if each.__module__.partition(".")[0] == "runtime"]
    for name in sorted({name for each in own for name in vars(each) if not name.startswith("_")}):
        # Use the first attribute that has a signature: where a transport has a slot for a method of
        # its implementation, only asyncio's method has a signature.
        found = [getattr(each, name) for each in cls.__mro__ if hasattr(each, name)]
        methods = [each for each in found if callable(each)]
        if methods:
            yield name, methods[0]


def _functions() -> Iterator[tuple[str, Any, type | None]]:
    for name in runtime.__all__:
        thing = getattr(runtime, name)
        ours = getattr(thing, "__module__", "").partition(".")[0] == "runtime"
        if isinstance(thing, type) and issubclass(thing, BaseException):
            continue
        if ours and callable(thing) and name not in MADE_ELSEWHERE:
            yield name, thing, None
    for cls in SUBJECTS:
        for name, method in _own_methods(cls):
            yield f"{cls.__name__}.{name}", method, cls


def cases() -> Iterator[Case]:
    """Yield every parameter of everything public."""
    for name, function, cls in _functions():
        if name in NOT_CALLED:
            continue
        for parameter in _parameters(function):
            yield name, function, cls, parameter.name


def without_plain_argument() -> list[str]:
    """Return the parameters without a known plain argument; the list must be empty."""
    missing: list[str] = []

    async def try_all(scene: Scene) -> str:
        for name, function, _, parameter in cases():
            try:
                for value in _arguments(scene, name, function, parameter)[1].values():
                    if inspect.iscoroutine(value):
                        value.close()
            except LookupError:
                missing.append(f"{name}({parameter})")
        return ""

    in_a_loop(try_all)
    return missing


def _parameters(function: Any) -> list[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [one for one in found if one.kind not in variable and one.name != "self"]


def _plain(scene: Scene, name: str, parameter: inspect.Parameter) -> Any:
    make = PLAIN.get(f"{name}.{parameter.name}") or PLAIN.get(parameter.name)
    if make is not None:
        return make(scene)
    default = parameter.default
    if default is None or default is inspect.Parameter.empty:
        if "Any" in str(parameter.annotation) or "SSL" in str(parameter.annotation):
            return None
        raise LookupError(f"PLAIN says nothing about {parameter.name} of {name}")
    return default


def _arguments(
    scene: Scene, name: str, function: Any, varied: str
) -> tuple[list[Any], dict[str, Any]]:
    """Return plain arguments for a call, by position and by name."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    needed = () if varied == "sock" else NEEDED.get(name, ())
    for parameter in _parameters(function):
        required = parameter.default is inspect.Parameter.empty
        if required or parameter.name in needed or parameter.name == varied:
            value = _plain(scene, name, parameter)
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[parameter.name] = value
    if name in REST:
        positional.append(REST[name](scene))
    return positional, named


def _description(value: Any) -> str:
    """Return the text for a result: the ``repr`` if it is an object of runtime."""
    text = repr(value)
    if isinstance(value, runtime.TimerHandle):
        text += f" when={value.when()!r}"
    if isinstance(value, (tuple, list)):
        text = f"{type(value).__name__}({', '.join(map(_description, value))})"
    return text


def _normalized(text: str) -> str:
    """Return a text without the parts that differ from run to run."""
    text = re.sub(f"{_FOLDER}/file\\d+", "PATH", text)
    text = text.replace(_PACKAGE, "PACKAGE")
    text = re.sub(r"0x[0-9a-f]+", "ADDRESS", text)
    text = re.sub(r"deadline=\d+(\.\d+)?", "deadline=TIME", text)
    text = re.sub(r"<(Process|SubprocessTransport) pid=.*", r"<\1>", text)
    text = re.sub(r"(fd=|file descriptor |fd |Task-|pid=)\d+", r"\1NUMBER", text)
    text = re.sub(r"when=[0-9.]+", "when=MOMENT", text)
    return re.sub(r"(?<=[ :('])[1-6]\d{4}\b", "PORT", text)


def _state_of(subject: Any) -> str:
    """Return the state of the called object that the call may have changed."""
    questions = ("get_debug", "get_write_buffer_limits", "get_name", "get_exception_handler")
    asked = [(name, getattr(subject, name, None)) for name in questions]
    return "; ".join(f"{name}: {ask()!r}" for name, ask in asked if ask is not None)


async def _outcome(scene: Scene, case: Case, index: int | None) -> str:
    """Make one call, and return its outcome. An index of None stands for plain arguments."""
    name, function, cls, varied = case
    subject = None
    if cls is not None:
        subject = await SUBJECTS[cls](scene)
        function_of_subject = getattr(subject, name.partition(".")[2])
    else:
        function_of_subject = function
    positional, named = _arguments(scene, name, function, varied)
    if index is not None:
        if varied in named:
            named[varied] = list(odd(named[varied]))[index][1]
        else:
            positional[0] = list(odd(positional[0]))[index][1]
    try:
        result = function_of_subject(*positional, **named)
        if inspect.iscoroutine(result) or name == "Loop.run_in_executor":
            result = await _awaited(result, varied in WAITS_FOR_EVER or name in NEVER_ANSWERED)
        outcome = f"returned {type(result).__name__} {_description(result)}"
        if isinstance(result, tuple):
            for each in result:
                _give_back(scene, each)
        _give_back(scene, result)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        outcome = f"raised {type(error).__name__}: {error}"
    return _normalized(f"{outcome} [{_state_of(subject)}]")


def _give_back(scene: Scene, result: Any) -> None:
    for way in ("abort", "close"):
        end = getattr(result, way, None)
        if end is not None and not isinstance(result, (runtime.Loop, io.IOBase)):
            with contextlib.suppress(RuntimeError):
                end()
            return


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _awaited(awaitable: Any, briefly: bool) -> Any:
    async def wait() -> Any:
        return await awaitable

    task = asyncio.ensure_future(wait())
    if briefly:
        await _turns()
    else:
        await asyncio.wait([task], timeout=SECONDS)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait([task], timeout=SECONDS)
    return "still waiting"


def outcomes(case: Case) -> dict[str, str]:
    """Return the outcome of each call, by the name of the argument."""
    found: dict[str, str] = {}
    for index, name in enumerate(["plain", *_names_of_odd(case)], start=-1):
        work = functools.partial(_outcome, case=case, index=index if index >= 0 else None)
        found[f"{case[0]}({case[3]}: {name})"] = in_a_loop(work)
    return found


def _names_of_odd(case: Case) -> list[str]:
    async def names(scene: Scene) -> str:
        positional, named = _arguments(scene, case[0], case[1], case[3])
        value = named[case[3]] if case[3] in named else positional[0]
        if inspect.iscoroutine(value):
            value.close()
        return "\n".join(name for name, _ in odd(value))

    return in_a_loop(names).split("\n")


def in_a_loop(work: Callable[[Scene], Any]) -> str:
    """Run a coroutine function with a scene, in a loop of its own."""
    loop = runtime.Loop()
    loop.set_exception_handler(_nothing)
    try:
        with contextlib.ExitStack() as stack:
            result: str = loop.run_until_complete(work(Scene(loop, stack)))
            for task in list(loop._tasks):
                task.cancel()
            loop.run_until_complete(_turns())
            return result
    finally:
        loop.close()


def all_outcomes() -> dict[str, str]:
    """Return the outcomes of all calls."""
    warnings.simplefilter("ignore")
    sys.set_coroutine_origin_tracking_depth(0)
    found: dict[str, str] = {}
    for case in cases():
        found.update(outcomes(case))
    return found

"""``python -m runtime ps`` and its relatives, and the socket behind them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.kernel.threads.observers import observers
from runtime.observe import ObserveError, endpoint, listen, listening
from runtime.observe.client import ask
from runtime.observe.command_line import main as client_main
from tests.support.programs import run_program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def unshared_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a folder for the sockets that, unlike ``tmp_path``, shares no parent with other runs."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


@pytest.fixture
def listener() -> Iterator[Any]:
    found = listen()
    yield found
    found.close()
    assert not found.path.exists()


SERVER = """
import runtime, signal, sys
async def order(lock):
    async with lock:
        await runtime.sleep(3600)  # a slow answer
async def tick():
    while True:
        await runtime.sleep(0.01)
async def main():
    lock = runtime.Lock()
    async with runtime.TaskGroup() as group:
        for number in (1, 2):
            group.create_task(order(lock), name=f"order {number}")
        ticking = group.create_task(tick(), name="ticking")
        await runtime.sleep(0)
        print("ready", flush=True)
        await runtime.wait([ticking])
        group.cancel()
runtime.run(main())
"""


@contextlib.contextmanager
def server(tmp_path: Path, **environment: str) -> Iterator[int]:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_program("-m", "runtime", *map(str, arguments))


def test_the_commands_show_another_process(tmp_path: Path) -> None:
    with server(tmp_path, RUNTIME_OBSERVE="1") as pid:
        listed = run("ps", pid)
        assert listed.returncode == 0, listed.stderr
        lines = listed.stdout.splitlines()
        assert lines[0] == "Loop running in thread 'MainThread'"
        assert lines[1].split() == ["ID", "STATE", "AGE", "NAME", "COROUTINE", "WHERE"]
        assert [line.split()[1] for line in lines[2:]].count("waiting") >= 3
        assert lines[3].endswith("order 1  order      server.py:5")
        tree = run("tree", pid).stdout
        assert "which is held by order 1" in tree
        stack = run("stack", pid, "order 1").stdout
        assert 'server.py", line 5, in order\n      await runtime.sleep(3600)  # a slow' in stack
        metrics = run("metrics", pid).stdout
        assert "tasks_created: 4" in metrics
        assert "lag: " in metrics
        answer = json.loads(run("metrics", pid, "--json").stdout)
        assert answer["pid"] == pid
        assert answer["loops"][0]["metrics"]["tasks_alive"] == 4
        assert len(json.loads(run("ps", pid, "--json").stdout)["loops"][0]["tasks"]) == 4
        assert run("cancel", pid, "nothing").returncode == 1
        cancelled = run("cancel", pid, "ticking")
        assert cancelled.stdout == "cancelled 1\n"
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="from Python 3.14 on")
def test_an_unprepared_process_is_made_to_listen(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    with server(tmp_path, XDG_RUNTIME_DIR=str(other)) as pid:
        listed = run("ps", pid)
        if "not permitted" in listed.stderr or "ermission" in listed.stderr:
            pytest.skip(listed.stderr)
        assert "order 1" in listed.stdout, listed.stderr
        assert list(endpoint.folder().glob("*.py")) == []


def test_a_process_that_cannot_be_observed_is_named_with_a_remedy(tmp_path: Path) -> None:
    done = run("ps", 2**22 + 5)
    assert (done.returncode, done.stderr) == (1, "runtime: there is no process 4194309\n")
    if not hasattr(sys, "remote_exec"):
        done = run("ps", os.getpid())
        assert "does not listen: start it with RUNTIME_OBSERVE=1" in done.stderr
    assert run("ps").returncode == 2
    assert run("look").returncode == 2
    assert "runtime 0." in run().stdout


# -- The folder and the socket ---------------------------------------------------------------------


def test_the_folder_and_the_socket_are_closed_to_others(listener: Any) -> None:
    assert listener.path.parent.stat().st_mode & 0o777 == 0o700
    assert listener.path.stat().st_mode & 0o777 == 0o600
    assert listen() is listener


def test_the_folder_is_by_default_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert endpoint.folder() == Path(f"/tmp/runtime-{os.geteuid()}")


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "of another user"
    target.mkdir(mode=0o700)
    endpoint.folder().symlink_to(target)
    with pytest.raises(ObserveError, match="is not a folder, perhaps a link"):
        listen()
    with pytest.raises(ObserveError):
        endpoint.socket_path(1)
    assert list(target.iterdir()) == []


def test_a_folder_that_is_open_to_others_is_refused() -> None:
    endpoint.folder().mkdir()
    endpoint.folder().chmod(0o750)
    with pytest.raises(ObserveError, match="open to other users: chmod 700"):
        listen()


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.folder().mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ObserveError, match="belongs to another user"):
        listen()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_connect(unshared_folder: Path, listener: Any) -> None:
    path = listener.path
    code = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        "except PermissionError:\n"
        "    print('refused')\n"
    )
    assert run_program("-S", "-c", code, str(path)).stdout == "refused\n"
    # Even if the modes did not keep the user out, the check of the credentials would.
    within = [each for each in path.parents if each.is_relative_to(unshared_folder)]
    opened = {each: each.stat().st_mode for each in (path, *within)}
    code = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        "sock.connect(sys.argv[1])\n"
        "try:\n"
        '    sock.sendall(b\'{"command": "ps"}\\n\')\n'
        "    print(sock.recv(100))\n"
        "except ConnectionError:\n"
        "    print(b'')\n"
    )
    try:
        for each, mode in opened.items():
            each.chmod(mode | 0o777)
        done = run_program("-S", "-c", code, str(path))
    finally:
        for each, mode in opened.items():
            each.chmod(mode)
    assert done.stdout == "b''\n", done.stderr


def test_a_stale_socket_is_replaced_and_another_file_is_not() -> None:
    path = endpoint.socket_path(os.getpid(), make=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    listener = listen()
    assert ask(os.getpid(), {"command": "ps"})["pid"] == os.getpid()
    listener.close()
    listener.close()
    path.write_text("")
    with pytest.raises(ObserveError, match="is not a socket: remove it"):
        listen()


# -- Clients that do not behave --------------------------------------------------------------------


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(path))
    return connection


def received(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            data += part
    return data


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"\xff\xfe\x00\n",
        b"[1, 2]\n",
        b"[" * 4096,
        b'{"command": 1}\n',
        b'{"command": "format the disk"}\n',
        b"x" * 100_000,
    ],
    ids=["nothing", "bytes", "list", "nested", "number", "unknown", "long"],
)
def test_garbage_gets_an_error_and_does_no_harm(listener: Any, garbage: bytes) -> None:
    with connect(listener.path) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
        answer = received(connection)
    assert not answer or "error" in json.loads(answer)
    assert "loops" in ask(os.getpid(), {"command": "metrics"})


async def test_clients_that_are_silent_or_never_read_keep_neither_the_loop_nor_others_waiting(
    listener: Any,
) -> None:
    event = runtime.Event()

    async def wait() -> None:
        await event.wait()

    waiting = [runtime.create_task(wait(), name="x" * 200) for _ in range(2000)]
    await runtime.sleep(0)
    with contextlib.ExitStack() as stack:
        for number in range(4):
            bad = stack.enter_context(connect(listener.path))
            if number % 2:
                bad.sendall(b'{"command": "ps"}\n')
        answer = await runtime.to_thread(ask, os.getpid(), {"command": "ps"})
    (mine,) = [loop for loop in answer["loops"] if len(loop["tasks"]) > 2000]
    assert mine["thread"] == "MainThread"
    event.set()
    await runtime.wait(waiting)


async def test_a_task_is_cancelled_in_its_own_loop(listener: Any) -> None:
    task = runtime.create_task(runtime.sleep_forever(), name="to be cancelled")
    await runtime.sleep(0)
    request = {"command": "cancel", "task": "to be cancelled", "reason": "an operator"}
    answer = await runtime.to_thread(ask, os.getpid(), request)
    assert answer["cancelled"] == 1
    with pytest.raises(runtime.CancelledError, match="an operator"):
        await task


def test_the_listener_does_not_hide_a_deadlock(listener: Any) -> None:
    async def wait() -> None:
        await runtime.get_running_loop().create_future()

    assert len(observers) >= 1
    with pytest.raises(runtime.DeadlockError):
        runtime.run(wait(), debug=True)


def test_a_closed_listener_leaves_no_thread() -> None:
    listener = listen()
    ask(os.getpid(), {"command": "ps"})
    listener.close()
    deadline = time.monotonic() + 30
    while observers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert observers == []
    assert "runtime observe" not in {thread.name for thread in threading.enumerate()}


def test_the_child_of_a_fork_has_a_socket_of_its_own(tmp_path: Path) -> None:
    code = (
        "import os, runtime\n"
        "from runtime.observe.client import ask\n"
        "listener = runtime.observe.listen()\n"
        "child = os.fork()\n"
        "answered = ask(os.getpid(), {'command': 'ps'})['pid'] == os.getpid()\n"
        # One call of the system, so that the lines of the two processes do not mix.
        "os.write(1, f'{answered}\\n'.encode())\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n"
        "    listener.close()\n"
    )
    done = run_program("-W", "ignore", "-c", code)
    assert done.stdout == "True\nTrue\n", done.stderr


def test_a_process_that_ends_removes_its_socket(tmp_path: Path) -> None:
    done = run_program(
        "-c",
        "import runtime; print(runtime.observe.listen().path.exists())",
        environment={**os.environ},
    )
    assert done.stdout == "True\n", done.stderr
    assert list((tmp_path / "runtime").iterdir()) == []


def test_a_process_that_ends_before_its_answer_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / f"{os.getpid()}.sock"))
        listening.listen()

        def leave() -> None:
            connection, _ = listening.accept()
            connection.recv(1)  # The rest is unread, so that closing resets the connection.
            connection.close()

        thread = threading.Thread(target=leave)
        thread.start()
        with pytest.raises(ObserveError, match=f"process {os.getpid()} ended before"):
            ask(os.getpid(), {"command": "ps"})
        thread.join()


@pytest.mark.parametrize("number", ["-1", "0", str(1 << 31), "x"])
def test_a_number_that_is_of_no_process_is_refused(
    capsys: pytest.CaptureFixture[str], number: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        client_main(["ps", number])
    assert raised.value.code == 2
    assert f"pid: the number of a process is a whole number from 1 to {(1 << 31) - 1}, got" in (
        capsys.readouterr().err
    )


async def test_a_name_cannot_control_the_terminal(
    listener: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b[31m\nb"
    task = runtime.create_task(runtime.sleep(60), name=name)
    await runtime.sleep(0)
    for command in (["ps"], ["tree"], ["timers"], ["stack", name]):
        arguments = [command[0], str(os.getpid()), *command[1:]]
        assert await runtime.to_thread(client_main, arguments) == 0
        found = capsys.readouterr().out
        assert "a\\x1b[31m\\nb" in found
        assert "\x1b" not in found
    task.cancel()


async def test_long_names_are_shown_without_their_middle_unless_in_full(
    listener: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"first {'x' * 200} last"
    task = runtime.create_task(runtime.sleep(3600), name=name)
    runtime.get_running_loop().call_later(3600, print, name)
    for command in ("ps", "timers"):
        pid = str(os.getpid())
        assert await runtime.to_thread(client_main, [command, pid]) == 0
        found = capsys.readouterr().out
        assert max(map(len, found.splitlines())) < 200
        assert "first xxx" in found
        assert "xxx..." in found
        for option in ("--wide", "--json"):
            assert await runtime.to_thread(client_main, [command, pid, option]) == 0
            found = capsys.readouterr().out
            assert f"first {'x' * 50}" in found
            assert (name in found) or command == "timers"
    task.cancel()


async def test_the_stack_of_no_task_is_an_error(
    listener: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stack", str(os.getpid()), "nobody"]
    assert await runtime.to_thread(client_main, command) == 1
    assert "has no task 'nobody'" in capsys.readouterr().err


async def test_the_interpreter_is_released_after_every_few_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = runtime.get_running_loop()
    sleeping = [runtime.create_task(runtime.sleep(3600)) for _ in range(320)]
    connections: list[Any] = []
    for _ in range(100):
        ours, theirs = socket.socketpair()
        _, writer = await runtime.open_connection(sock=ours)
        connections += [writer, theirs]
    await runtime.sleep(0)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    # Tasks are looked at twice.
    for command, entries in (("ps", 640), ("connections", 100), ("timers", 320)):
        pauses.clear()
        texts = listening.answer_to({"command": command}, [])
        assert len(pauses) >= entries // 16
        (part,) = [each for each in json.loads("".join(texts))["loops"] if each["id"] == id(loop)]
        assert len(part[{"ps": "tasks"}.get(command, command)]) >= entries // 2
        assert max(map(len, texts)) < 5000
    sent: list[int] = []
    many: Any = type("Connection", (), {"sendall": lambda self, data: sent.append(len(data))})()
    listening.send(many, ["x" * 300] * 1000)
    assert sum(sent) == 300_000
    assert max(sent) < 50_000
    for each in connections:
        each.close()
    for task in sleeping:
        task.cancel()
    await runtime.wait(sleeping)

"""System calls of an operation, counted with strace: times depend on the machine, counts do not."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support import counted_server
from tests.support.programs import ROOT, TIMEOUT

COUNT, MANY = 100, 10_000
"""Operations of each kind; the system calls of the marks are a few hundredths of one operation."""

MARK = "getppid"
ALIKE = {
    **dict.fromkeys(("epoll_pwait", "epoll_pwait2"), "epoll_wait"),
    **dict.fromkeys(("recv", "read"), "recvfrom"),
    **dict.fromkeys(("send", "write"), "sendto"),
}
"""Names of system calls that do the same, for other C libraries and Pythons."""


@cache
def why_not() -> str:
    """Return the reason why system calls cannot be counted here, or an empty string."""
    if shutil.which("strace") is None:
        reason = "there is no strace"
    elif "LD_PRELOAD" in os.environ:
        reason = "a sanitizer makes system calls of its own"
    elif subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], check=False).returncode:
        reason = "strace is not permitted to trace here"
    else:
        return ""
    assert not os.environ.get("RUNTIME_REQUIRE_STRACE"), reason
    return reason


class Client:
    """Blocking connections to the servers of ``counted_server``."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._control = self._connect("control")
        self.phases: list[tuple[str, int]] = []
        """The name and the number of operations between any two consecutive marks."""

    def _connect(self, server: str) -> socket.SocketIO:
        with socket.create_connection(("127.0.0.1", self._ports[server]), timeout=30) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock.makefile("rwb", buffering=0)

    def control(self, line: str) -> None:
        """Send a line on the control connection, and wait until it comes back."""
        self._ask(self._control, f"{line}\n".encode(), len(line) + 1)

    @staticmethod
    def _ask(connection: socket.SocketIO, message: bytes, size: int) -> None:
        connection.write(message)
        while size > 0:
            received = connection.read(size)
            assert received
            size -= len(received)

    def exchange(self, server: str, size: int) -> None:
        """Exchange messages with a server, after a few that adapt the connection to its use."""
        with self._connect(server) as connection:
            for number in range(10 + COUNT):
                if number == 10:
                    self.control("mark")
                self._ask(connection, bytes(100), size)
            self.control("mark")
        self.phases += [("", 0), (server, COUNT)]

    def run(self, name: str, count: int) -> None:
        """Run operations of the loop itself."""
        self.control(f"{name} {count}")
        self.phases += [("", 0), (name, count)]

    def end(self) -> None:
        """End the program."""
        self._control.close()


Calls = dict[str, dict[str, float]]
"""System calls of one operation by their names, for each kind of operation."""


def counts(log: str) -> list[Counter[str]]:
    """Return the system calls between two marks, for every two consecutive marks."""
    found: list[Counter[str]] = [Counter()]
    for line in log.splitlines():
        if call := re.match(r"(?:\d+ +)?(\w+)\(", line):
            if call[1] == MARK:
                found.append(Counter())
            else:
                found[-1][ALIKE.get(call[1], call[1])] += 1
    return found


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """Return the counts of every operation, made by one program."""
    if reason := why_not():
        pytest.skip(reason)
    log = tmp_path_factory.mktemp("strace") / "log"
    command = ["strace", "-f", "-qq", "-o", str(log), sys.executable, counted_server.__file__]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            client = Client(json.loads(program.stdout.readline()))
            for server in ("stream", "protocol", "socket"):
                client.exchange(server, 100)
            response = len(counted_server.HEAD + counted_server.BODY)
            for server in ("stream_response", "protocol_response"):
                client.exchange(server, response)
            client.run("sleep", COUNT)
            for name in ("switch", "timer", "task"):
                client.run(name, MANY)
            client.end()
            assert program.wait(TIMEOUT) == 0
        finally:
            program.kill()
    found = counts(Path(log).read_text())
    return {
        name: {call: round(n / count, 1) for call, n in between.items() if n / count >= 0.1}
        for (name, count), between in zip(client.phases, found, strict=False)
        if name
    }


@pytest.mark.parametrize("server", ["stream", "protocol", "socket"])
def test_an_echo_waits_receives_and_sends(calls: Calls, server: str) -> None:
    assert calls[server] == {"epoll_wait": 1.0, "recvfrom": 1.0, "sendto": 1.0}


@pytest.mark.parametrize("server", ["stream_response", "protocol_response"])
def test_a_head_and_a_body_are_sent_together(calls: Calls, server: str) -> None:
    assert calls[server] == {"epoll_wait": 1.0, "recvfrom": 1.0, "sendto": 1.0}


def test_a_sleep_waits_once_and_looks_for_events_before_its_task_runs(calls: Calls) -> None:
    assert calls["sleep"] == {"epoll_wait": 2.0}


def test_setting_and_cancelling_a_timer_makes_no_system_call(calls: Calls) -> None:
    assert calls["timer"] == {}


@pytest.mark.parametrize("name", ["switch", "task"])
def test_a_busy_loop_makes_no_system_calls_but_polls(calls: Calls, name: str) -> None:
    # How many turns do without a poll depends on the clock, and strace makes polls slow.
    assert calls[name].keys() <= {"epoll_wait"}
    assert calls[name].get("epoll_wait", 0.0) <= 1.0

"""Servers under load, each in a process of its own, started as the suite starts them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.apis import lacking
from bench.cases.foreign import FOREIGN
from bench.cases.servers import SERVERS
from bench.cases.serving import AS_STARTED, FREED
from bench.loads import HTTP_SERVERS
from bench.process import ROOT, python_environment
from tests.support.programs import run_code

pytestmark = pytest.mark.once

APIS = [
    "asyncio",
    pytest.param(
        "uvloop",
        marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="no uvloop"),
    ),
]
LINE = 100
ECHOES = [name for name in SERVERS if name not in {*HTTP_SERVERS, "watched"}]
FOREIGN_ECHOES = [
    pytest.param(
        *(name, server),
        marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"no {name}"),
    )
    for name, foreign in FOREIGN.items()
    for server in foreign.servers
]


class Child:
    """A contender's process that serves."""

    def __init__(self, api: str, *arguments: str, path: tuple[Path, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.child", api, *arguments],
            cwd=ROOT,
            env=python_environment(*path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def serving(
    api: str, server: str, size: int, state: str = AS_STARTED, path: tuple[Path, ...] = ()
) -> Iterator[Child]:
    """Start a server; at the end close its input, and check that it exits cleanly and silently."""
    child = Child(api, "serve", server, str(size), state, path=path)
    try:
        assert "version" in child.hear()
        yield child
        _, complaints = child.process.communicate(timeout=60)
    except BaseException:
        child.process.kill()
        child.process.communicate()
        raise
    assert complaints == ""
    assert child.process.returncode == 0


def client(server: str, port: int | str) -> socket.socket:
    if isinstance(port, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(port)
        return sock
    if server == "datagrams":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))
        return sock
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    if server != "tls":
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := sock.recv(size - len(data))):
        data += chunk
    return data


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("server", ECHOES)
def test_a_server_echoes_every_connection(api: str, server: str) -> None:
    with serving(api, server, 5 * LINE) as child:
        port = child.hear()["port"]
        with client(server, port) as one, client(server, port) as two:
            for sock, letter in ((one, b"a"), (two, b"b"), (one, b"c")):
                message = (letter * (LINE - 1) + b"\n") * 5
                sock.sendall(message)
                assert receive_exactly(sock, len(message)) == message
        child.tell("usage")
        assert child.hear().keys() == {"user", "kernel", "faults"}


@pytest.mark.parametrize(("api", "server"), FOREIGN_ECHOES)
def test_the_servers_of_other_runtimes_echo_too(api: str, server: str) -> None:
    test_a_server_echoes_every_connection(api, server)


@pytest.mark.parametrize("server", HTTP_SERVERS)
def test_a_server_of_http_says_hello(server: str) -> None:
    for name in server.split("_"):
        pytest.importorskip(name, reason=f"no {name}")
    with serving("asyncio", server, 15) as child, client(server, child.hear()["port"]) as sock:
        sock.sendall(b"GET /00000001 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"hello /00000001")


def test_a_server_that_is_not_installed_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp.web", None)

    async def main() -> None:
        api: Any = asyncio
        async with SERVERS["aiohttp"](api, 15):
            raise AssertionError("it serves")

    with pytest.raises(NotImplementedError, match="aiohttp.web is not installed"):
        asyncio.run(main())


def test_only_a_loop_that_can_be_watched_is() -> None:
    with serving("asyncio", "watched", LINE) as child:
        assert child.hear() == {"unsupported": "watch_slow_callbacks is not there"}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("server", [name for name in ECHOES if name != "datagrams"])
def test_a_server_closes_its_end_when_the_client_does(api: str, server: str) -> None:
    with serving(api, server, LINE) as child, client(server, child.hear()["port"]) as sock:
        sock.sendall(b"x" * (LINE - 1) + b"\n")
        assert len(receive_exactly(sock, LINE)) == LINE
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap().close()
        else:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""


@pytest.mark.parametrize("server", ["streams", "tls"])
def test_large_messages_are_echoed_in_either_state(server: str) -> None:
    size = 1 << 20
    for state in (AS_STARTED, FREED):
        with (
            serving("asyncio", server, size, state) as child,
            client(server, child.hear()["port"]) as sock,
        ):
            # A server of large messages answers once a message is complete.
            sock.sendall(bytes(size))
            assert receive_exactly(sock, size) == bytes(size)


def test_a_large_block_that_was_freed_keeps_others_from_being_mapped() -> None:
    counting = """
import ctypes
from bench.cases.serving import free_large_block

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keep".split()]

try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
except AttributeError:
    raise SystemExit("another C library")
mallinfo2.restype = Mallinfo2

def mapped():
    before = mallinfo2().hblks
    block = bytearray(1 << 20)
    return mallinfo2().hblks - before

fresh = mapped()
if not fresh:
    raise SystemExit("another C library")
free_large_block()
print(fresh, mapped())
"""
    run = run_code(counting)
    if "another C library" in run.stderr:
        pytest.skip("the two states are those of glibc 2.33 and later")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["1", "0"]


# -- Features that a contender lacks ---------------------------------------------------------------

LACKING = """
import asyncio
__version__ = "0"

class Loop(asyncio.SelectorEventLoop):
    async def create_server(self, *args, **kwargs):
        {statement}

    def __getattribute__(self, name):
        if name == "sock_sendall":
            raise AttributeError
        return super().__getattribute__(name)

def new_event_loop():
    return Loop()
"""


def said_by(tmp_path: Path, server: str, statement: str = "raise NotImplementedError") -> str:
    (tmp_path / "incomplete.py").write_text(LACKING.format(statement=statement))
    with serving("incomplete", server, 100, path=(tmp_path,)) as child:
        return str(child.hear()["unsupported"])


@pytest.mark.parametrize("server", ["streams", "lines", "tls", "protocol", "buffered"])
def test_a_loop_without_a_method_says_so(tmp_path: Path, server: str) -> None:
    assert said_by(tmp_path, server) == "create_server() is not implemented"


def test_a_loop_may_name_the_feature_it_lacks(tmp_path: Path) -> None:
    statement = "raise NotImplementedError('no backlog yet')"
    assert said_by(tmp_path, "protocol", statement) == "no backlog yet"


def test_methods_used_by_connections_are_tried_before(tmp_path: Path) -> None:
    assert said_by(tmp_path, "sockets") == "sock_sendall is not there"


def test_an_attribute_of_the_api_or_the_loop_can_be_lacking_and_no_other() -> None:
    api: Any = asyncio
    loop: Any = asyncio.new_event_loop()
    absent: Any = object()
    try:
        with pytest.raises(AttributeError) as of_loop:
            loop.create_nothing()
        with pytest.raises(AttributeError) as of_api:
            api.start_nothing()
        with pytest.raises(AttributeError) as of_another:
            absent.start_server()
    finally:
        loop.close()
    assert lacking(api, of_loop.value) == "create_nothing is not there"
    assert lacking(api, of_api.value) == "start_nothing is not there"
    assert lacking(api, of_another.value) == ""


def test_an_api_without_tls_lacks_it() -> None:
    class WithoutTls:
        async def start_server(self, client_connected_cb: object, *, limit: int) -> None: ...

    api: Any = WithoutTls()
    with pytest.raises(NotImplementedError, match="takes no ssl"):
        SERVERS["tls"](api, 1024)

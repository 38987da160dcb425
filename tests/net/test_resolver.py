"""The loop's ``getaddrinfo`` and ``getnameinfo``, compared with the functions of ``socket``."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import runtime
from runtime.net.resolver import resolve
from tests.net.tools import until
from tests.support.examples import examples

ADDRESSES = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "010.0.0.1",
    "::",
    "::1",
    "2001:DB8:0:0::1",
    "::ffff:1.2.3.4",
    "fe80::1",
    "fe80::1%1",
    "fe80::1%lo",
]
NO_ADDRESSES = ["1.2.3.4.5", "256.0.0.1", ":::", "fe80::1%nowhere9", "1.2.3.4 ", "::g"]

hosts = st.one_of(
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES).map(str.encode),
    st.ip_addresses().map(str),
    st.none(),
)
ports = st.one_of(
    st.integers(0, 65535),
    st.sampled_from([-1, 65536, 1 << 40, None, "", b"", "0", "80", b"80", " 80", "+80", "80x"]),
)
families = st.sampled_from([0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
kinds = st.sampled_from([0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW])
protos = st.sampled_from([0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 255])
flag_names = ["PASSIVE", "CANONNAME", "NUMERICHOST", "NUMERICSERV", "ADDRCONFIG", "V4MAPPED", "ALL"]
flag_sets = st.lists(
    st.sampled_from([int(getattr(socket, f"AI_{name}")) for name in flag_names]), unique=True
).map(sum)


def outcome(function: Callable[[], Any]) -> Any:
    """Return the result of a function, or the description of the exception that it raises."""
    try:
        return function()
    except Exception as error:
        return type(error), error.args


@pytest.fixture
def loop() -> Iterator[runtime.Loop]:
    with runtime.Runner() as runner:
        yield runner.get_loop()


def test_the_results_are_those_of_the_socket_module(loop: runtime.Loop) -> None:
    @given(hosts, ports, families, kinds, protos, flag_sets)
    @example("127.0.0.1", 80, 0, 0, 0, 0)
    @example("localhost", 80, 0, socket.SOCK_STREAM, 0, 0)
    @example(b"localhost", "http", socket.AF_INET, 0, 0, 0)
    @example("", 80, 0, 0, 0, 0)
    @example(None, None, 0, 0, 0, 0)
    @settings(deadline=None, max_examples=examples(300))
    def check(host: Any, port: Any, family: int, kind: int, proto: int, flags: int) -> None:
        expected = outcome(lambda: socket.getaddrinfo(host, port, family, kind, proto, flags))
        found = outcome(
            lambda: loop.run_until_complete(
                loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags)
            )
        )
        assert found == expected

    check()


@pytest.mark.parametrize("host", [*NO_ADDRESSES, 5, ["list"]])
def test_a_host_that_is_no_address(loop: runtime.Loop, host: Any) -> None:
    """The lookup is made with AI_NUMERICHOST, so that no name server is asked."""
    flags = socket.AI_NUMERICHOST
    expected = outcome(lambda: socket.getaddrinfo(host, 80, 0, 0, 0, flags))
    found = outcome(lambda: loop.run_until_complete(loop.getaddrinfo(host, 80, flags=flags)))
    assert found == expected


@pytest.mark.parametrize("host", [*ADDRESSES[:4], "::1", b"::1", None])
@pytest.mark.parametrize("port", [80, "80", b"80", 0])
async def test_an_address_needs_no_thread(host: Any, port: Any) -> None:
    loop = runtime.get_running_loop()
    threads = threading.active_count()
    call = loop.getaddrinfo(host, port)
    with pytest.raises(StopIteration) as caught:
        call.send(None)
    assert caught.value.value == socket.getaddrinfo(host, port)
    numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert await loop.getnameinfo(("::1", 80), numbers) == ("::1", "80")
    assert threading.active_count() == threads


async def test_a_name_is_resolved_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))

    def getaddrinfo(*args: Any) -> list[Any]:
        threads.append(threading.current_thread())
        assert args == ("a.invalid", "http", 1, 2, 3, 4)
        return [info]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    loop = runtime.get_running_loop()
    found = await loop.getaddrinfo("a.invalid", "http", family=1, type=2, proto=3, flags=4)
    assert found == [info]
    assert threads != [threading.current_thread()]


def test_the_name_of_an_address(loop: runtime.Loop) -> None:
    cases: list[tuple[Any, int]] = [
        (("127.0.0.1", 80), socket.NI_NUMERICHOST),
        (("127.0.0.1", 53), socket.NI_NUMERICHOST | socket.NI_DGRAM),
        (("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("::1", 80, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("name.invalid", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("127.0.0.1",), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        ("127.0.0.1", socket.NI_NUMERICHOST),
    ]
    for sockaddr, flags in cases:
        expected = outcome(partial(socket.getnameinfo, sockaddr, flags))
        found = outcome(partial(loop.run_until_complete, loop.getnameinfo(sockaddr, flags)))
        assert found == expected


@pytest.mark.parametrize(("limit", "level"), [(0.0, logging.INFO), (3600.0, logging.DEBUG)])
def test_a_slow_resolution_is_logged_in_debug_mode(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: float, level: int
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: ["found"])
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.slow_callback_duration = limit
        await loop.getaddrinfo("slow.invalid", 80, type=socket.SOCK_STREAM)

    runtime.run(main(), debug=True)
    [record] = [record for record in caplog.records if "Getting" in record.message]
    assert record.levelno == level
    assert "slow.invalid:80, type=" in record.message
    assert record.message.endswith("ms: ['found']")


def test_a_subclass_of_the_loop_may_override_getaddrinfo() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))

    class Resolving(runtime.Loop):
        async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
            assert (host, port, options["family"]) == ("mine.invalid", 80, socket.AF_INET)
            return [info]

    async def main() -> None:
        found = await resolve(runtime.get_running_loop(), "mine.invalid", 80, family=socket.AF_INET)
        assert found == [info]

    runtime.run(main(), loop_factory=Resolving)


async def test_a_lookup_can_be_cancelled_while_its_thread_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def getaddrinfo(*args: Any) -> list[Any]:
        started.set()
        go_on.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    task = runtime.create_task(runtime.get_running_loop().getaddrinfo("a.invalid", 80))
    await until(started.is_set)
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task
    go_on.set()


OPENERS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "open_connection": lambda host: runtime.open_connection(host, 80),
    "start_server": lambda host: runtime.start_server(lambda *_: None, host, 0),
    "open_datagram": lambda host: runtime.open_datagram(remote_addr=(host, 80)),
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", ".", b"a..b"])
def test_a_malformed_host_name_fails_like_an_unknown_one(
    loop: runtime.Loop, opener: str, host: str | bytes
) -> None:
    with pytest.raises(socket.gaierror, match=re.escape(repr(host))) as caught:
        loop.run_until_complete(OPENERS[opener](host))
    assert caught.value.errno == socket.EAI_NONAME


@pytest.mark.parametrize("opener", OPENERS)
def test_the_error_of_a_failed_lookup_names_the_host(loop: runtime.Loop, opener: str) -> None:
    async def nobody(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    loop.getaddrinfo = nobody  # type: ignore[method-assign]
    with pytest.raises(socket.gaierror, match="not known: host 'example.org'") as caught:
        loop.run_until_complete(OPENERS[opener]("example.org"))
    assert caught.value.args == (socket.EAI_NONAME, "Name or service not known")


def test_the_error_for_an_unknown_service_names_it(loop: runtime.Loop) -> None:
    with pytest.raises(socket.gaierror, match="host '127.0.0.1', port 'no-such-service'"):
        loop.run_until_complete(runtime.open_connection("127.0.0.1", "no-such-service"))


def test_the_error_for_an_occupied_address_is_asyncio_s(loop: runtime.Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host, port = taken.getsockname()
        words = (
            rf"error while attempting to bind on address \('{host}', {port}\): .*address already in"
        )
        with pytest.raises(OSError, match=words):
            loop.run_until_complete(runtime.start_server(lambda *_: None, host, port))
        with pytest.raises(OSError, match=words):
            loop.run_until_complete(runtime.open_connection(host, port, local_addr=(host, port)))

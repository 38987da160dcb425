"""Connecting to a host with several addresses: one after another, or racing.

In most of these tests the outcome of each attempt is scripted: it depends on the port.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import runtime
from runtime.net import resolver
from runtime.net.setup import client_sockets
from runtime.net.setup.client_sockets import connect_tcp
from runtime.net.setup.happy_eyeballs import interleave_families
from tests.net.tools import until
from tests.support.blocked import all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled

NEVER = 3600.0
"""Seconds: so long that no attempt is started by the delay."""

Behaviour = Callable[[], Awaitable[None]]


def info(port: int, host: str = "127.0.0.1") -> resolver.AddressInfo:
    if ":" in host:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)


class Net:
    """Script of a name's addresses and of the attempts, and record of the attempts."""

    def __init__(self) -> None:
        self.found: list[resolver.AddressInfo] = []
        self.behaviours: dict[int, Behaviour] = {}
        self.tried: list[int] = []
        self.sockets: list[socket.socket] = []

    async def getaddrinfo(self, *_: Any) -> list[resolver.AddressInfo]:
        return list(self.found)

    async def sock_connect(self, _loop: Any, sock: socket.socket, address: Any) -> None:
        self.tried.append(address[1])
        self.sockets.append(sock)
        await self.behaviours[address[1]]()

    def script(self, *behaviours: Behaviour) -> None:
        """Make the name resolve to ports 1, 2, ... with these behaviours."""
        self.found = [info(port) for port in range(1, len(behaviours) + 1)]
        self.behaviours = dict(enumerate(behaviours, 1))

    def open_sockets(self) -> list[socket.socket]:
        return [sock for sock in self.sockets if sock.fileno() >= 0]

    def connect(self, **options: Any) -> Any:
        return connect_tcp(runtime.get_running_loop(), "many.invalid", 80, **options)


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Net:
    """Return a ``Net`` with scripted addresses and real attempts."""
    net = Net()
    monkeypatch.setattr(resolver, "getaddrinfo", net.getaddrinfo)
    return net


@pytest.fixture
def net(resolving: Net, monkeypatch: pytest.MonkeyPatch) -> Net:
    """Return a ``Net`` with scripted addresses and scripted attempts."""
    monkeypatch.setattr(client_sockets, "sock_connect", resolving.sock_connect)
    return resolving


async def succeed() -> None:
    await runtime.sleep(0)


async def succeed_at_once() -> None:
    pass


async def hang() -> None:
    await runtime.get_running_loop().create_future()


def fail(text: str = "refused", turns: int = 1) -> Behaviour:
    async def behaviour() -> None:
        for _ in range(turns):
            await runtime.sleep(0)
        raise ConnectionRefusedError(111, text)

    return behaviour


# -- The order -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "families", "expected"),
    [
        (1, "4444", "4444"),
        (1, "446644", "464644"),
        (1, "644466", "646464"),
        (2, "444666", "446466"),
        (3, "66664", "66646"),
        (9, "4466", "4466"),
        (-1, "4466", "4646"),
    ],
)
def test_families_take_turns(first: int, families: str, expected: str) -> None:
    found = [
        info(number, "::1" if family == "6" else "127.0.0.1")
        for number, family in enumerate(families)
    ]
    ordered = interleave_families(found, first)
    assert ["6" if each[0] == socket.AF_INET6 else "4" for each in ordered] == list(expected)
    for family in (socket.AF_INET, socket.AF_INET6):
        ports = [each[4][1] for each in ordered if each[0] == family]
        assert ports == sorted(ports)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"interleave": 0, "happy_eyeballs_delay": NEVER}, [1, 2, 3, 4]),
        ({"interleave": 1}, [1, 3, 2, 4]),
        ({"happy_eyeballs_delay": NEVER}, [1, 3, 2, 4]),
        ({"happy_eyeballs_delay": NEVER, "interleave": 2}, [1, 2, 3, 4]),
    ],
)
async def test_the_order_of_the_attempts(net: Net, options: Any, expected: list[int]) -> None:
    net.script(*[fail()] * 4)
    net.found[2:] = [info(3, "::1"), info(4, "::1")]

    with pytest.raises(ConnectionRefusedError):
        await net.connect(**options)
    assert net.tried == expected


# -- One after another -----------------------------------------------------------------------------


def test_without_a_delay_the_next_waits_for_the_one_before(net: Net) -> None:
    net.script(fail(), hang, succeed)

    async def main() -> None:
        task = runtime.create_task(net.connect())
        await until(lambda: net.tried == [1, 2])
        await runtime.sleep(0.01)
        assert net.tried == [1, 2]
        assert len(net.open_sockets()) == 1
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task

    runtime.run(main())
    assert net.open_sockets() == []


@pytest.mark.parametrize("options", [{}, {"happy_eyeballs_delay": NEVER}])
async def test_different_errors_are_all_listed(net: Net, options: Any) -> None:
    net.script(fail("one"), fail("two"), fail("three"))

    with pytest.raises(OSError, match="Multiple exceptions: .*one, .*two, .*three"):
        await net.connect(**options)
    with pytest.raises(ExceptionGroup) as caught:
        await net.connect(**options, all_errors=True)
    assert [error.args[1] for error in caught.value.exceptions] == ["one", "two", "three"]
    assert caught.value.message == "create_connection failed"
    with pytest.raises(ExceptionGroup) as caught:
        await runtime.open_connection("many.invalid", 80, **options, all_errors=True)


@pytest.mark.parametrize("options", [{}, {"happy_eyeballs_delay": NEVER}])
def test_an_exception_of_another_kind_ends_the_attempts(net: Net, options: Any) -> None:
    async def break_down() -> None:
        raise OverflowError("port must be 0-65535")

    net.script(fail(), break_down, succeed)

    async def main() -> None:
        with pytest.raises(OverflowError):
            await net.connect(**options)

    runtime.run(main())
    assert net.tried == [1, 2]
    assert net.open_sockets() == []


# -- Racing ----------------------------------------------------------------------------------------


async def test_the_next_starts_when_the_latest_failed(net: Net) -> None:
    net.script(fail(), fail(turns=5), succeed, succeed)

    sock = await net.connect(happy_eyeballs_delay=NEVER)
    assert net.open_sockets() == [sock]
    sock.close()
    assert net.tried == [1, 2, 3]


async def test_the_next_starts_after_the_delay(net: Net) -> None:
    net.script(hang, hang, succeed)

    sock = await net.connect(happy_eyeballs_delay=0.001)
    assert net.open_sockets() == [sock]
    assert len(runtime.all_tasks()) == 1
    sock.close()
    assert net.tried == [1, 2, 3]


def test_the_failure_of_an_earlier_attempt_starts_none(net: Net) -> None:
    """The next attempt has been started by the delay already."""
    go_on = runtime.Event()
    passed = 0.0

    async def fail_when_told() -> None:
        await go_on.wait()
        raise ConnectionRefusedError(111, "refused")

    net.script(fail_when_told, hang, succeed)

    async def main() -> None:
        nonlocal passed
        task = runtime.create_task(net.connect(happy_eyeballs_delay=NEVER))
        await until(lambda: net.tried == [1])
        passed += NEVER
        await until(lambda: net.tried == [1, 2])
        go_on.set()
        await all_tasks_blocked()
        assert net.tried == [1, 2]
        passed += NEVER
        (await task).close()

    def loop_factory() -> runtime.Loop:
        return runtime.Loop(clock=lambda: time.monotonic() + passed)

    runtime.run(main(), loop_factory=loop_factory)
    assert net.tried == [1, 2, 3]


async def test_a_late_winner_among_earlier_attempts(net: Net) -> None:
    go_on = runtime.Event()

    async def succeed_when_told() -> None:
        await go_on.wait()

    net.script(succeed_when_told, fail(), fail())

    task = runtime.create_task(net.connect(happy_eyeballs_delay=0))
    await until(lambda: net.tried == [1, 2, 3])
    await all_tasks_blocked()
    go_on.set()
    sock = await task
    assert sock is net.sockets[0]
    sock.close()


async def test_two_attempts_succeed_in_the_same_turn(net: Net) -> None:
    go_on = runtime.Event()

    async def succeed_when_told() -> None:
        await go_on.wait()

    net.script(*[succeed_when_told] * 3)

    task = runtime.create_task(net.connect(happy_eyeballs_delay=0))
    await until(lambda: net.tried == [1, 2, 3])
    go_on.set()
    sock = await task
    assert net.open_sockets() == [sock] == net.sockets[:1]
    sock.close()


async def test_a_loser_that_ignores_its_cancellation(net: Net) -> None:
    """It succeeds after a while, and its socket is closed."""

    async def refuse_to_go() -> None:
        try:
            await hang()
        except runtime.CancelledError:
            await runtime.sleep(0.001)

    net.script(refuse_to_go, succeed)

    sock = await net.connect(happy_eyeballs_delay=0)
    assert net.open_sockets() == [sock]
    assert len(runtime.all_tasks()) == 1
    sock.close()


async def test_an_exception_of_a_loser_is_reported(net: Net) -> None:
    reports: list[Any] = []

    async def break_down() -> None:
        try:
            await hang()
        finally:
            raise LookupError

    net.script(break_down, succeed)

    runtime.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    (await net.connect(happy_eyeballs_delay=0)).close()
    assert [type(report["exception"]) for report in reports] == [LookupError]


def test_an_attempt_that_other_code_cancels(net: Net) -> None:
    net.script(hang, hang)

    async def main() -> None:
        task = runtime.create_task(net.connect(happy_eyeballs_delay=0))
        await until(lambda: net.tried == [1, 2])
        for each in runtime.all_tasks() - {runtime.current_task(), task}:
            each.cancel()
        with pytest.raises(runtime.CancelledError, match="attempt to connect"):
            await task

    runtime.run(main())
    assert net.open_sockets() == []


async def test_attempts_that_start_eagerly(net: Net) -> None:
    def eager(loop: Any, coro: Any, **options: Any) -> Any:
        return runtime.Task(coro, loop=loop, eager_start=True, **options)

    async def fail_at_once() -> None:
        raise ConnectionRefusedError(111, "refused")

    net.script(hang, fail_at_once, fail(), succeed_at_once, succeed)

    runtime.get_running_loop().set_task_factory(eager)
    sock = await net.connect(happy_eyeballs_delay=0.001)
    assert net.open_sockets() == [sock]
    sock.close()
    assert net.tried == [1, 2, 3, 4]


async def test_cancelled_while_the_losers_end(net: Net) -> None:
    ending = runtime.Event()

    async def end_slowly() -> None:
        try:
            await hang()
        finally:
            ending.set()
            await runtime.sleep(0.001)

    net.script(end_slowly, succeed)

    task = runtime.create_task(net.connect(happy_eyeballs_delay=0))
    await ending.wait()
    task.cancel("enough")
    with pytest.raises(runtime.CancelledError, match="enough"):
        await task
    assert net.open_sockets() == []
    assert len(runtime.all_tasks()) == 1


@pytest.mark.parametrize("delay", [None, 0, NEVER])
def test_cancelled_anywhere(net: Net, delay: float | None) -> None:
    net.script(fail(), fail(turns=3), succeed, succeed_at_once, succeed)

    async def scenario(point: CancelPoint) -> None:
        net.sockets.clear()
        task = point.start(net.connect(happy_eyeballs_delay=delay))
        await settled(task)
        assert net.open_sockets() == ([] if task.cancelled() else [task.result()])
        for sock in net.open_sockets():
            sock.close()

    assert cancel_everywhere(scenario) >= 3


# -- Reference cycles ------------------------------------------------------------------------------


class Local:
    """Local variable of the frame that raised, which can be weakly referenced."""


@pytest.mark.parametrize("delay", [None, NEVER])
@pytest.mark.parametrize("case", ["alike", "different", "all errors", "second succeeds", "broken"])
def test_failures_make_no_reference_cycle(net: Net, case: str, delay: float | None) -> None:
    locals_: list[weakref.ref[Local]] = []

    def failing(kind: type[Exception], *args: Any) -> Behaviour:
        async def behaviour() -> None:
            local = Local()
            locals_.append(weakref.ref(local))
            await runtime.sleep(0)
            raise kind(*args)

        return behaviour

    second = failing(OSError, 1, "two" if case == "different" else "one")
    if case == "broken":
        second = failing(LookupError)
    net.script(failing(OSError, 1, "one"), succeed if case == "second succeeds" else second)

    async def main() -> None:
        try:
            sock = await net.connect(happy_eyeballs_delay=delay, all_errors=case == "all errors")
        except (OSError, LookupError, ExceptionGroup):
            assert case != "second succeeds"
        else:
            sock.close()

    gc.collect()
    gc.disable()
    try:
        runtime.run(main())
        assert len(locals_) == (1 if case == "second succeeds" else 2)
        assert [ref() for ref in locals_] == [None] * len(locals_)
    finally:
        gc.enable()


# -- Real sockets ----------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[resolver.AddressInfo]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        yield info(server.getsockname()[1], host)


@contextlib.contextmanager
def closed_port() -> Iterator[resolver.AddressInfo]:
    """Yield an address at which no socket listens, and which is reserved during the test."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield info(sock.getsockname()[1])


@contextlib.contextmanager
def black_hole() -> Iterator[resolver.AddressInfo]:
    """Yield an address that does not answer, because its listen queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield info(server.getsockname()[1])


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_black_hole_and_a_closed_port_come_first(resolving: Net) -> None:
    async def main() -> None:
        _, writer = await runtime.open_connection("many.invalid", 80, happy_eyeballs_delay=0.01)
        assert writer.get_extra_info("peername") == resolving.found[-1][4]
        assert len(runtime.all_tasks()) == 1
        writer.close()

    with black_hole() as hole, closed_port() as closed, listening() as good:
        resolving.found = [hole, closed, hole, good]
        runtime.run(main())


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")
def test_two_families(resolving: Net) -> None:
    async def main() -> None:
        sock = await resolving.connect(happy_eyeballs_delay=NEVER)
        assert sock.family == socket.AF_INET6
        assert net_order() == [socket.AF_INET, socket.AF_INET6, socket.AF_INET]
        sock.close()

    def net_order() -> list[int]:
        return [each[0] for each in interleave_families(resolving.found, 1)]

    with closed_port() as closed, listening("::1") as six, listening() as four:
        resolving.found = [closed, four, six]
        runtime.run(main())


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")
def test_a_local_address_for_each_family(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, list[resolver.AddressInfo]] = {}

    async def getaddrinfo(_loop: Any, host: str, *_: Any) -> list[resolver.AddressInfo]:
        return answers[host]

    monkeypatch.setattr(resolver, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        loop = runtime.get_running_loop()
        options: Any = {"local_addr": ("here.invalid", 0), "happy_eyeballs_delay": NEVER}
        sock = await connect_tcp(loop, "many.invalid", 80, **options)
        assert sock.getsockname()[0] == "127.0.0.3"
        sock.close()
        answers["here.invalid"] = [info(0, "203.0.113.1"), info(0, "203.0.113.2")]
        with pytest.raises(ExceptionGroup) as caught:
            await connect_tcp(loop, "many.invalid", 80, **options, all_errors=True)
        texts = [str(error) for error in caught.value.exceptions]
        assert len(texts) == 3
        assert "no matching local address" in texts[0]
        assert "203.0.113.1" in texts[1]
        assert "203.0.113.2" in texts[2]

    with listening() as four, listening("::1") as six:
        answers["many.invalid"] = [six, four]
        answers["here.invalid"] = [info(0, "203.0.113.1"), info(0, "127.0.0.3")]
        runtime.run(main())


@pytest.mark.parametrize("delay", [None, 0, 0.001])
def test_cancelled_anywhere_with_real_sockets(resolving: Net, delay: float | None) -> None:
    async def scenario(point: CancelPoint) -> None:
        task = point.start(resolving.connect(happy_eyeballs_delay=delay))
        await settled(task)
        if not task.cancelled():
            task.result().close()

    with closed_port() as closed, listening() as good, black_hole() as hole:
        resolving.found = [closed, good] if delay is None else [hole, closed, good, good]
        assert cancel_everywhere(scenario) >= 1  # The fixture fails if sockets are left open.


async def test_a_connecting_coroutine_that_is_closed(net: Net) -> None:
    """It cannot wait for its attempts, which are cancelled."""
    net.script(hang, hang)
    connecting = net.connect(happy_eyeballs_delay=0.001).__await__()
    waited_for = connecting.send(None)
    while len(net.tried) < 2:
        await runtime.sleep(0.001)
        if waited_for.done():
            waited_for = connecting.send(None)
    connecting.close()
    await until(lambda: not net.open_sockets())
    assert len(net.sockets) == 2


async def test_a_connecting_coroutine_that_is_closed_while_its_attempts_end(net: Net) -> None:
    async def refuse_to_end() -> None:
        try:
            await hang()
        finally:
            cancelled.append(True)
            await ending

    cancelled: list[bool] = []
    ending = runtime.get_running_loop().create_future()
    net.script(refuse_to_end, succeed)
    connecting = net.connect(happy_eyeballs_delay=0.001).__await__()
    waited_for = connecting.send(None)
    while not cancelled:
        await runtime.sleep(0.001)
        if waited_for.done():
            waited_for = connecting.send(None)
    connecting.close()
    ending.set_result(None)
    await until(lambda: not net.open_sockets())

"""Functions that fail to open a connection, an endpoint or a server leave no descriptor or task.

This includes a socket that was given as ``sock=``: it belongs to the function from its first step
on, and is closed if no transport can be made. It stays open if the arguments are refused before
that, and if the function is ``create_datagram_endpoint``. A pipe belongs to the caller until the
transport is made.

An exception keeps the frames of its traceback, and their variables. So the descriptors are counted
while the exception exists, before a finalizer can close any.

Source: python/cpython#153133.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.net.sockets.operations import sock_connect
from tests.net.tools import reset
from tests.net.transport_tools import LOCAL, PATIENCE, Recorder, collect_reports, turns
from tests.support.asyncio_reference import FIXED, MakeLoop, on_both_loops, run, unless_faulty
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates, client_context, server_context
from tests.support.leaks import open_descriptors
from tests.system.tools import make_pipe

if sys.platform == "win32":
    pytest.skip("Unix sockets and pipes", allow_module_level=True)


class Boom(Exception):
    """Exception that a factory raises."""


class Stop(BaseException):
    """Exception that a factory raises, which ``except Exception`` does not catch."""


class Place:
    """Listening sockets to connect to, and a connected pair, one of which can be given."""

    def __init__(self, tcp: socket.socket, unix: socket.socket) -> None:
        self.listeners = {"tcp": tcp, "unix": unix}
        self.address = tcp.getsockname()
        self.path = unix.getsockname()
        self.given, self.peer = socket.socketpair()

    def peer_of(self, name: str) -> socket.socket:
        """Return the peer of the socket of the opener ``name``."""
        if name in GIVEN:
            return self.peer
        return self.listeners["unix" if "unix" in name else "tcp"].accept()[0]


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Yield sockets that listen on TCP and on a Unix socket, and a connected pair."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(LOCAL) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(Path(folder, "socket")))
        unix.listen()
        made = Place(tcp, unix)
        with made.given, made.peer:
            yield made


Factory = Callable[[], asyncio.BaseProtocol]
Opener = Callable[[Any, Factory, Place, dict[str, Any]], Awaitable[tuple[Any, Any]]]

OPENERS: dict[str, Opener] = {
    "tcp": lambda loop, factory, place, tls: loop.create_connection(factory, *place.address, **tls),
    "tcp racing": lambda loop, factory, place, tls: loop.create_connection(
        factory, *place.address, happy_eyeballs_delay=PATIENCE, **tls
    ),
    "given": lambda loop, factory, place, tls: loop.create_connection(
        factory, sock=place.given, **tls
    ),
    "unix": lambda loop, factory, place, tls: loop.create_unix_connection(
        factory, place.path, **tls
    ),
    "given unix": lambda loop, factory, place, tls: loop.create_unix_connection(
        factory, sock=place.given, **tls
    ),
    "accepted": lambda loop, factory, place, tls: loop.connect_accepted_socket(
        factory, place.given, **{name: tls[name] for name in tls if name != "server_hostname"}
    ),
}
"""The loop's methods, by the kind of socket that they connect or get."""

STREAM_OPENERS: dict[str, Opener] = {
    "streams": lambda _loop, _factory, place, tls: runtime.open_connection(*place.address, **tls),
    "given streams": lambda _loop, _factory, place, tls: runtime.open_connection(
        sock=place.given, **tls
    ),
    "unix streams": lambda _loop, _factory, place, tls: runtime.open_unix_connection(
        place.path, **tls
    ),
    "given unix streams": lambda _loop, _factory, place, tls: runtime.open_unix_connection(
        sock=place.given, **tls
    ),
    "asyncio's streams": lambda _loop, _factory, place, tls: asyncio.open_connection(
        *place.address, **tls
    ),
    "given asyncio's streams": lambda _loop, _factory, place, tls: asyncio.open_connection(
        sock=place.given, **tls
    ),
}
"""The first four of them are tested on our loop only."""

GIVEN = {name for name in (*OPENERS, *STREAM_OPENERS) if "given" in name or name == "accepted"}
"""The openers that get ``Place.given``."""

each_opener = pytest.mark.parametrize("name", OPENERS)


def tls_options(name: str, certificates: Certificates) -> dict[str, Any]:
    """Return the arguments with which the opener ``name`` uses TLS."""
    if name == "accepted":
        return {"ssl": server_context(certificates)}
    return {"ssl": client_context(certificates), "server_hostname": NAME}


async def until_closed(before: set[int]) -> None:
    """Wait a few turns until no descriptor is open that is not in ``before``."""
    async with asyncio.timeout(PATIENCE):
        while open_descriptors() - before:
            await asyncio.sleep(0)


# -- No transport ----------------------------------------------------------------------------------


@on_both_loops()
@each_opener
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("error", [Boom, Stop])
def test_a_factory_that_raises_closes_the_socket(
    make_loop: MakeLoop,
    name: str,
    encrypted: bool,
    error: type[BaseException],
    certificates: Certificates,
) -> None:
    tls = tls_options(name, certificates) if encrypted else {}

    def factory() -> asyncio.BaseProtocol:
        raise error

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        with place() as there:
            before = open_descriptors()
            with pytest.raises(error) as caught:
                await OPENERS[name](loop, factory, there, tls)
            assert caught.tb is not None
            assert not open_descriptors() - before
            with there.peer_of(name) as peer:
                peer.settimeout(PATIENCE)
                assert peer.recv(1) == b""
        assert reports == []

    run(make_loop, main())


@pytest.mark.parametrize(
    "name", [name for name in (*OPENERS, *STREAM_OPENERS) if name != "accepted"]
)
def test_a_name_that_tls_refuses_closes_the_socket(name: str, certificates: Certificates) -> None:
    """OpenSSL checks the name when the transport is made; with asyncio's loop, afterwards."""
    opener = (OPENERS | STREAM_OPENERS)[name]
    tls = tls_options(name, certificates) | {"server_hostname": ".a.leading.dot"}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        with place() as there:
            before = open_descriptors()
            with pytest.raises(ValueError, match="idna") as caught:
                await opener(loop, Recorder, there, tls)
            assert caught.tb is not None
            assert not open_descriptors() - before
            assert (there.given.fileno() == -1) is (name in GIVEN)
        assert reports == []

    run(runtime.new_event_loop, main())


class Refusing(selectors.DefaultSelector):
    """Selector that can be told to refuse to watch for reading."""

    refusal: BaseException | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.refusal is not None and events & selectors.EVENT_READ:
            raise self.refusal
        return super().register(fileobj, events, data)


@pytest.mark.parametrize("name", [*OPENERS, *STREAM_OPENERS])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("refusal", [OSError("refused"), RuntimeError("refused")], ids=repr)
def test_a_socket_that_cannot_be_watched_is_closed(
    name: str, encrypted: bool, refusal: Exception, certificates: Certificates
) -> None:
    """The opener raises the selector's exception, or ``connection_lost`` gets it."""
    opener = (OPENERS | STREAM_OPENERS)[name]
    tls = tls_options(name, certificates) if encrypted else {}
    selector = Refusing()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with place() as there:
            before = open_descriptors()
            selector.refusal = refusal
            caught: BaseException | None = None
            opened: Any = None
            try:
                opened = await opener(loop, Recorder, there, tls)
            except (OSError, RuntimeError) as error:
                caught = error
            selector.refusal = None
            await all_tasks_blocked()
            assert not open_descriptors() - before
            assert (there.given.fileno() == -1) is (name in GIVEN)
            if opened is None:
                assert str(caught) == "refused"
            elif name in OPENERS:
                assert [str(error) for error in opened[1].lost] == ["refused"]
            else:
                with pytest.raises((OSError, RuntimeError)) as read:
                    await opened[0].read()
                assert "refused" in (str(read.value), str(read.value.__cause__))

    run(lambda: runtime.Loop(selector), main())


# -- Handshakes that fail --------------------------------------------------------------------------

ACTS: dict[str, Callable[[socket.socket], object]] = {
    "speaks no TLS": lambda peer: peer.sendall(b"this is no TLS, and never will be\r\n"),
    "ends": lambda peer: peer.close(),
    "resets": reset,
    "is silent": lambda peer: None,
}
"""Ways in which the peer makes the handshake fail."""


async def fail_in_the_handshake(opener: Opener, name: str, act: str, tls: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reports = collect_reports()
    with place() as there:
        before = open_descriptors()
        if act == "is silent":
            tls = {**tls, "ssl_handshake_timeout": 0.01}
        opening = asyncio.ensure_future(opener(loop, Recorder, there, tls))
        await all_tasks_blocked()
        assert not opening.done() or act == "is silent"
        with there.peer_of(name) as peer:
            ACTS[act](peer)
            with pytest.raises(OSError) as caught:  # noqa: PT011 - each has its own
                await opening
        assert caught.tb is not None
        await until_closed(before)
        assert (there.given.fileno() == -1) is (name in GIVEN)
    assert reports == []


@on_both_loops()
@each_opener
@pytest.mark.parametrize("act", ACTS)
def test_a_handshake_that_fails_closes_the_socket(
    make_loop: MakeLoop, name: str, act: str, certificates: Certificates
) -> None:
    tls = tls_options(name, certificates)
    run(make_loop, fail_in_the_handshake(OPENERS[name], name, act, tls))


@pytest.mark.parametrize("name", STREAM_OPENERS)
@pytest.mark.parametrize("act", ACTS)
def test_a_handshake_that_fails_closes_the_socket_of_streams(
    name: str, act: str, certificates: Certificates
) -> None:
    tls = tls_options(name, certificates)
    run(runtime.new_event_loop, fail_in_the_handshake(STREAM_OPENERS[name], name, act, tls))


# -- Cancelled -------------------------------------------------------------------------------------


async def cancel_everywhere(opener: Opener, name: str, tls: dict[str, Any]) -> None:
    """Cancel an opener after each number of turns; with TLS it waits for a silent peer."""
    loop = asyncio.get_running_loop()
    reports = collect_reports()
    cancelled = 0
    for number in range(1, 9):
        with place() as there:
            before = open_descriptors()
            opening = asyncio.ensure_future(opener(loop, Recorder, there, tls))
            await turns(number)
            opening.cancel()
            await asyncio.wait([opening])
            if opening.cancelled():
                cancelled += 1
            else:
                assert not tls
                end: Any = opening.result()
                (end[0] if isinstance(end[1], Recorder) else end[1]).close()
            await until_closed(before)
            assert (there.given.fileno() == -1) is (name in GIVEN)
            assert asyncio.all_tasks() == {asyncio.current_task()}
    assert cancelled == 8 or not tls
    assert reports == []


@pytest.mark.parametrize(
    ("make_loop", "name"),
    [
        unless_faulty(asyncio.SelectorEventLoop, "tcp", name="asyncio-tcp"),
        unless_faulty(asyncio.SelectorEventLoop, "unix", name="asyncio-unix"),
        pytest.param(runtime.new_event_loop, "tcp", id="runtime-tcp"),
        pytest.param(runtime.new_event_loop, "tcp racing", id="runtime-tcp racing"),
        pytest.param(runtime.new_event_loop, "unix", id="runtime-unix"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_an_opener_that_is_cancelled_closes_the_socket(
    make_loop: MakeLoop, name: str, encrypted: bool, certificates: Certificates
) -> None:
    """A race of asyncio that is cancelled when it is won still leaks the winner's socket."""
    tls = tls_options(name, certificates) if encrypted else {}
    run(make_loop, cancel_everywhere(OPENERS[name], name, tls))


@pytest.mark.parametrize("name", ["streams", "unix streams", "asyncio's streams"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_streams_that_are_cancelled_close_the_socket(
    name: str, encrypted: bool, certificates: Certificates
) -> None:
    tls = tls_options(name, certificates) if encrypted else {}
    run(runtime.new_event_loop, cancel_everywhere(STREAM_OPENERS[name], name, tls))


@on_both_loops()
@pytest.mark.parametrize("name", sorted(GIVEN & OPENERS.keys()))
def test_a_given_socket_is_closed_when_its_opener_is_cancelled(
    make_loop: MakeLoop, name: str, certificates: Certificates
) -> None:
    tls = tls_options(name, certificates)
    run(make_loop, cancel_everywhere(OPENERS[name], name, tls))


@on_both_loops(works=True)
@pytest.mark.parametrize("name", sorted(GIVEN & OPENERS.keys()))
def test_a_given_socket_belongs_to_its_owner_until_the_opener_begins(
    make_loop: MakeLoop, name: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with place() as there:
            opening = asyncio.ensure_future(OPENERS[name](loop, Recorder, there, {}))
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            there.given.send(b"still here")
            assert there.peer.recv(100) == b"still here"

    run(make_loop, main())


# -- Arguments that are refused --------------------------------------------------------------------

REFUSED: dict[str, Callable[[Any, socket.socket], Awaitable[Any]]] = {
    "host and sock": lambda loop, sock: loop.create_connection(Recorder, *LOCAL, sock=sock),
    "a name without TLS": lambda loop, sock: loop.create_connection(
        Recorder, sock=sock, server_hostname=NAME
    ),
    "TLS without a name": lambda loop, sock: loop.create_connection(
        Recorder, sock=sock, ssl=ssl.create_default_context()
    ),
    "path and sock": lambda loop, sock: loop.create_unix_connection(Recorder, "/x", sock=sock),
    "times without TLS": lambda loop, sock: loop.connect_accepted_socket(
        Recorder, sock, ssl_handshake_timeout=1.0
    ),
    "no datagrams": lambda loop, sock: loop.create_datagram_endpoint(Recorder, sock=sock),
    "a server of a host": lambda loop, sock: loop.create_server(Recorder, *LOCAL, sock=sock),
}


@on_both_loops(works=True)
@pytest.mark.parametrize("name", REFUSED)
def test_a_socket_among_arguments_that_are_refused_stays_open(
    make_loop: MakeLoop, name: str
) -> None:
    async def main() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            with pytest.raises(ValueError):  # noqa: PT011 - each has its own
                await REFUSED[name](asyncio.get_running_loop(), ours)
            ours.send(b"still here")
            assert peer.recv(100) == b"still here"

    run(make_loop, main())


async def test_streams_close_a_given_socket_that_is_not_connected() -> None:
    sock = socket.socket()
    with pytest.raises(OSError, match="not connected"):
        await runtime.open_connection(sock=sock)
    assert sock.fileno() == -1


# -- Endpoints, pipes and servers ------------------------------------------------------------------


@pytest.mark.parametrize("error", [Boom, Stop])
@pytest.mark.parametrize("options", [{"local_addr": LOCAL}, {"family": socket.AF_UNIX}], ids=str)
async def test_a_factory_that_raises_closes_the_socket_of_an_endpoint(
    error: type[BaseException], options: dict[str, Any]
) -> None:
    """The loop of asyncio leaves this socket to the garbage collector."""

    def factory() -> asyncio.DatagramProtocol:
        raise error

    loop = runtime.get_running_loop()
    before = open_descriptors()
    with pytest.raises(error) as caught:
        await loop.create_datagram_endpoint(factory, **options)
    assert caught.tb is not None
    assert not open_descriptors() - before


@on_both_loops(works=True)
def test_a_socket_that_an_endpoint_was_given_stays_open_when_its_factory_raises(
    make_loop: MakeLoop,
) -> None:
    def factory() -> asyncio.DatagramProtocol:
        raise Boom

    async def main() -> None:
        ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
        with ours, peer:
            with pytest.raises(Boom):
                await asyncio.get_running_loop().create_datagram_endpoint(factory, sock=ours)
            ours.send(b"still here")
            assert peer.recv(100) == b"still here"

    run(make_loop, main())


@on_both_loops(works=True)
@pytest.mark.parametrize("occupied", ["local", "remote"])
def test_an_endpoint_with_an_occupied_address_closes_its_socket(
    make_loop: MakeLoop, occupied: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(LOCAL)
            options: dict[str, Any] = {"local_addr": other.getsockname()}
            if occupied == "remote":
                options = {"remote_addr": ("255.255.255.255", 9)}
            before = open_descriptors()
            with pytest.raises(OSError) as caught:  # noqa: PT011 - each has its own
                await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **options)
            assert caught.tb is not None
            assert not open_descriptors() - before

    run(make_loop, main())


@on_both_loops(works=True)
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
@pytest.mark.parametrize("why", ["factory", "file"])
def test_a_pipe_without_a_transport_belongs_to_its_owner(
    make_loop: MakeLoop, method: str, why: str, tmp_path: Path
) -> None:
    def factory() -> asyncio.BaseProtocol:
        if why == "factory":
            raise Boom
        return asyncio.Protocol()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_end, write_end = make_pipe()
        with read_end, write_end, (tmp_path / "file").open("w+b") as file:
            pipe: Any = write_end if "write" in method else read_end
            with pytest.raises((Boom, ValueError)):
                await getattr(loop, method)(factory, file if why == "file" else pipe)
            assert not file.closed
            write_end.write(b"still here")
            assert read_end.read(100) == b"still here"

    run(make_loop, main())


@on_both_loops(works=True)
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_pipe_whose_connecting_is_cancelled_is_closed(make_loop: MakeLoop, method: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_end, write_end = make_pipe()
        with read_end, write_end:
            pipe: Any = write_end if "write" in method else read_end
            connecting = loop.create_task(getattr(loop, method)(asyncio.Protocol, pipe))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await all_tasks_blocked()
            assert pipe.closed

    run(make_loop, main())


SERVERS: dict[str, Callable[..., Awaitable[Any]]] = {
    "create_server": lambda loop, *args: loop.create_server(Recorder, *args),
    "asyncio.start_server": lambda _loop, *args: asyncio.start_server(print, *args),
    "runtime.start_server": lambda _loop, *args: runtime.start_server(lambda *_: None, *args),
}


@pytest.mark.parametrize(
    ("make_loop", "name"),
    [
        pytest.param(asyncio.SelectorEventLoop, "create_server", id="asyncio-create_server"),
        *(pytest.param(runtime.new_event_loop, name, id=name) for name in SERVERS),
    ],
)
def test_a_server_that_lacks_one_of_its_addresses_closes_the_others(
    make_loop: MakeLoop, name: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        hosts = ["127.7.0.1", "127.7.0.2", "127.7.0.3"]
        for _ in range(20):
            with socket.create_server((hosts[-1], 0)) as occupied:
                port = occupied.getsockname()[1]
                before = open_descriptors()
                with pytest.raises(OSError, match=r"127\.7\.0\.") as caught:
                    await SERVERS[name](loop, hosts, port)
                assert caught.tb is not None
                assert not open_descriptors() - before
            if hosts[-1] in str(caught.value):
                return  # Otherwise another program uses the port on all addresses.
        pytest.fail("no port is free on the other addresses")

    run(make_loop, main())


@on_both_loops(works=True)
def test_a_unix_server_without_a_folder_closes_its_socket(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = open_descriptors()
        with pytest.raises(OSError) as caught:  # noqa: PT011 - each has its own
            await loop.create_unix_server(Recorder, tmp_path / "no such folder" / "socket")
        assert caught.tb is not None
        assert not open_descriptors() - before

    run(make_loop, main())


# -- Races -----------------------------------------------------------------------------------------

HANGING = ("127.0.0.2", 9)
"""An address to which connecting never ends in these tests."""

RACES: dict[str, Callable[..., Awaitable[tuple[Any, Any]]]] = {
    "create_connection": lambda loop, **options: loop.create_connection(Recorder, **options),
    "asyncio.open_connection": lambda _loop, **options: asyncio.open_connection(**options),
    "runtime.open_connection": lambda _loop, **options: runtime.open_connection(**options),
}


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make connecting to ``HANGING`` wait without end, on both loops."""

    def slow(connect: Any) -> Any:
        async def sock_connect(*args: Any) -> None:
            if args[-1] == HANGING:
                await asyncio.get_running_loop().create_future()
            await connect(*args)

        return sock_connect

    theirs: Any = asyncio.SelectorEventLoop
    monkeypatch.setattr(theirs, "sock_connect", slow(theirs.sock_connect))
    monkeypatch.setattr("runtime.net.setup.client_sockets.sock_connect", slow(sock_connect))


races = pytest.mark.parametrize(
    ("make_loop", "name"),
    [
        unless_faulty(asyncio.SelectorEventLoop, "create_connection", name="asyncio"),
        *(pytest.param(runtime.new_event_loop, name, id=name) for name in RACES),
    ],
)


@races
@pytest.mark.parametrize("outcome", ["won", "lost", "cancelled"])
@pytest.mark.usefixtures("hanging")
def test_no_attempt_is_left_of_a_race(make_loop: MakeLoop, name: str, outcome: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        with place() as there:
            addresses = [HANGING, HANGING, there.address]
            if outcome == "cancelled":
                addresses.pop()
            elif outcome == "lost":
                there.listeners["tcp"].close()
                addresses = [there.address, there.address]

            async def getaddrinfo(*_args: object, **_options: object) -> list[Any]:
                infos = ((socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses)
                return list(infos)

            loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
            before = open_descriptors()
            opening = asyncio.ensure_future(
                RACES[name](loop, host="a.name", port=1, happy_eyeballs_delay=0)
            )
            if outcome == "cancelled":
                await all_tasks_blocked()
                opening.cancel()
            await asyncio.wait([opening])
            assert asyncio.all_tasks() == {asyncio.current_task()}
            if outcome == "won":
                assert len(open_descriptors() - before) == 1
                end: Any = opening.result()
                (end[0] if isinstance(end[1], Recorder) else end[1]).close()
            elif outcome == "lost":
                assert isinstance(opening.exception(), OSError)
            else:
                assert opening.cancelled()
            await until_closed(before)
        assert reports == []

    run(make_loop, main())


@pytest.mark.skipif(not FIXED, reason="asyncio has this fault itself on this Python")
async def test_asyncio_s_own_races_leave_no_task_on_our_loop() -> None:
    from asyncio import staggered

    loop = runtime.get_running_loop()

    async def hang() -> str:
        return str(await loop.create_future())

    async def win() -> str:
        return "won"

    winner, index, _ = await staggered.staggered_race([hang, hang, win], 0)
    assert (winner, index) == ("won", 2)
    assert asyncio.all_tasks() == {asyncio.current_task()}

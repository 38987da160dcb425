"""Names of a simulated world: the answers of lookups, and their faults."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from runtime import simulation


def lookup(*args: Any, **options: Any) -> list[Any]:
    """Return the addresses that the loop finds, with IPv4 addresses as they are."""

    async def main() -> list[Any]:
        simulation.current_world().host("db-1")
        found = await asyncio.get_running_loop().getaddrinfo(*args, **options)
        return [info[4] for info in found]

    return simulation.run(main)


def test_hosts_have_names() -> None:
    stream = socket.SOCK_STREAM
    assert lookup("db-1", 80, type=stream) == [("10.0.0.2", 80)]
    assert lookup("main", "81", type=stream) == [("10.0.0.1", 81)]
    assert lookup("db-1", 80, type=stream, family=socket.AF_INET6) == [("fd00::2", 80, 0, 0)]
    assert lookup("localhost", 80, type=stream) == [("127.0.0.1", 80)]
    assert lookup("10.9.9.9", 80, type=stream) == [("10.9.9.9", 80)]
    assert lookup(None, 80, type=stream, flags=socket.AI_PASSIVE) == [
        ("0.0.0.0", 80),
        ("::", 80, 0, 0),
    ]
    assert len(lookup("db-1", 80)) == 3


@pytest.mark.parametrize("name", ["unknown", "python.org", "example.com"])
def test_there_are_no_other_names(name: str) -> None:
    with pytest.raises(socket.gaierror) as raised:
        lookup(name, 80)
    assert raised.value.errno == socket.EAI_NONAME


def test_names_are_set_and_fail_and_are_slow() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        world = simulation.current_world()
        world.host("db-1")

        async def found(name: str) -> list[Any]:
            infos = await loop.getaddrinfo(name, 1, type=socket.SOCK_STREAM)
            return [info[4][0] for info in infos]

        world.names.set("db", ["db-1", "10.5.5.5"])
        assert await found("db") == ["10.0.0.2", "fd00::2", "10.5.5.5"]
        world.names.slow("db", 2.0)
        await found("db")
        assert loop.time() == 2.0
        world.names.fail("db")
        with pytest.raises(socket.gaierror):
            await found("db")
        world.names.fail("db", socket.gaierror(socket.EAI_AGAIN, "later"))
        with pytest.raises(socket.gaierror, match="later"):
            await found("db")
        world.names.restore("db")
        with pytest.raises(socket.gaierror, match="not known"):
            await found("db")
        assert loop.time() == 6.0

    simulation.run(main)


def test_faults_by_chance() -> None:
    async def main() -> set[Any]:
        loop = asyncio.get_running_loop()
        world = simulation.current_world()
        world.host("right")
        world.host("other")
        world.names.failures = 0.3
        world.names.wrong = 0.3
        world.names.delay = (0.0, 1.0)
        seen: set[Any] = set()
        for _ in range(30):
            try:
                infos = await loop.getaddrinfo("right", 1)
            except socket.gaierror:
                seen.add("failed")
            else:
                seen.add(infos[0][4][0])
        return seen

    assert simulation.run(main) == {"10.0.0.2"}
    assert simulation.run(main, seed=1) == {"failed", "10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_other_functions_of_the_socket_module() -> None:
    async def main() -> None:
        world = simulation.current_world()
        host = world.host("db-1")
        assert socket.gethostname() == "main"
        with host.entered():
            assert socket.gethostname() == socket.getfqdn() == "db-1"
        assert socket.gethostbyname("db-1") == "10.0.0.2"
        assert socket.gethostbyname_ex("db-1") == ("db-1", [], ["10.0.0.2"])
        assert socket.gethostbyaddr("10.0.0.2") == ("db-1", [], ["10.0.0.2"])
        assert socket.getnameinfo(("10.0.0.2", 80), 0) == ("db-1", "80")
        assert socket.getnameinfo(("10.0.0.9", 80), socket.NI_NUMERICHOST) == ("10.0.0.9", "80")
        loop = asyncio.get_running_loop()
        assert await loop.getnameinfo(("10.0.0.2", 80)) == ("db-1", "80")
        with pytest.raises(socket.herror):
            socket.gethostbyaddr("10.0.0.9")

    name = socket.gethostname()
    simulation.run(main)
    assert socket.gethostname() == name

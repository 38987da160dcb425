"""``remove_reader`` and ``remove_writer`` of socket and file objects closed in the meantime."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime

Maker = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.SelectorEventLoop, runtime.new_event_loop])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    maker: Maker = request.param
    loop = maker()
    yield loop
    loop.close()


@pytest.fixture(params=[False, True], ids=["gone", "kept open by a duplicate"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a pair whose first socket the test closes; a duplicate may keep its file open."""
    one, two = socket.socketpair()
    duplicate = one.dup() if request.param else None
    with one, two:
        yield one, two
    if duplicate is not None:
        duplicate.close()


def test_the_reader_of_a_closed_socket(
    loop: asyncio.AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = pair
    loop.add_reader(one, int)
    one.close()
    assert loop.remove_reader(one)


def test_the_writer_of_a_closed_socket(
    loop: asyncio.AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = pair
    loop.add_writer(one, int)
    one.close()
    assert loop.remove_writer(one)


def test_a_closed_file() -> None:
    """Asyncio can no longer find the descriptor of a closed file."""
    loop = runtime.new_event_loop()
    reading, writing = os.pipe()
    with open(writing, "wb") as write_end:
        read_end = open(reading, "rb")  # noqa: SIM115 - the test closes it
        loop.add_reader(read_end, int)
        loop.add_writer(write_end, int)
        read_end.close()
        assert loop.remove_reader(read_end)
        write_end.close()
        assert loop.remove_writer(write_end)
    loop.close()


def test_both_of_a_closed_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    """If the file is gone, asyncio raises OSError in the first call."""
    one, _ = pair
    loop = runtime.new_event_loop()
    loop.add_reader(one, int)
    loop.add_writer(one, int)
    one.close()
    assert loop.remove_reader(one)
    assert loop.remove_writer(one)
    with pytest.raises(ValueError, match="is closed"):
        loop.remove_writer(one)
    loop.close()


def test_the_number_is_free_afterwards(
    loop: asyncio.AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = pair
    number = one.fileno()
    called: list[Any] = []
    loop.add_reader(one, called.append, "old")
    one.close()
    loop.remove_reader(one)
    new, peer = socket.socketpair()
    with new, peer:
        assert number in (new.fileno(), peer.fileno())
        for each in (new, peer):
            loop.add_reader(each, called.append, "new")
            (peer if each is new else new).send(b"data")
            loop.run_until_complete(asyncio.sleep(0.001))
            assert loop.remove_reader(each)
    assert set(called) == {"new"}


def test_a_descriptor_that_was_never_added_is_refused(
    loop: asyncio.AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, two = pair
    loop.add_reader(two, int)
    one.close()
    with pytest.raises(ValueError, match="-1"):
        loop.remove_reader(one)
    with pytest.raises(ValueError, match="-1"):
        loop.remove_writer(one)
    assert loop.remove_reader(two)


def test_the_other_direction_was_not_added(
    loop: asyncio.AbstractEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = pair
    loop.add_reader(one, int)
    one.close()
    assert not loop.remove_writer(one)
    assert loop.remove_reader(one)

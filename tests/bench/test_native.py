"""Programs in C: the load generator notices every kind of wrong answer, and the server echoes."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from bench import native
from bench.process import Process
from tests.bench.peers import SIZE, Answer, echo, load, receive_exactly, server

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(bool(native.why_not()), reason=native.why_not()),
]


def test_right_answers_are_counted() -> None:
    with server(echo) as port:
        done = load(port, connections=3)
    assert done.returncode == 0, done.stderr
    ready, counted = map(json.loads, done.stdout.splitlines())
    assert ready == {"ready": 3}
    assert 20 <= counted["requests"] <= counted["all"] <= 20 + 2 * 3
    assert counted["seconds"] > 0
    assert 0 < counted["p50"] <= counted["p99"]


def test_the_time_ends_it_too() -> None:
    with server(echo) as port:
        done = load(port, seconds=0.05, requests=10**9)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout.splitlines()[-1])
    assert 0 < counted["requests"] < 10**9


def one_byte_wrong(number: int, message: bytes) -> bytes:
    if number < 5:
        return message
    return message[:-1] + bytes([message[-1] ^ 1])


def swapped(number: int, message: bytes) -> bytes:
    middle = len(message) // 2
    return message[middle:] + message[:middle] if number == 5 else message


def surplus(number: int, message: bytes) -> bytes:
    return message + b"x" if number == 5 else message


def closed(number: int, message: bytes) -> bytes:
    return b"" if number == 5 else message


class Stale:
    """Answers with an earlier message."""

    def __init__(self) -> None:
        self._first = b""

    def __call__(self, number: int, message: bytes) -> bytes:
        self._first = self._first or message
        return message if number < 5 else self._first


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (one_byte_wrong, "other bytes"),
        (swapped, "other bytes"),
        (Stale(), "other bytes"),
        (surplus, "bytes"),
        (closed, "closed"),
    ],
)
def test_wrong_answers_are_noticed(answer: Answer, complaint: str) -> None:
    with server(answer) as port:
        done = load(port)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_the_answer_to_another_connection_is_noticed() -> None:
    messages: list[bytes] = []
    both = threading.Barrier(2)

    def swap_between_two(number: int, message: bytes) -> bytes:
        if number != 1:
            return message if number == 0 else b""
        messages.append(message)
        both.wait(30)
        return messages[0] if message == messages[1] else messages[1]

    with server(swap_between_two) as port:
        done = load(port, connections=2)
    assert done.returncode == 1
    assert "other bytes" in done.stderr


def test_a_refused_connection_is_an_error_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert load(port).returncode == 2


@pytest.mark.parametrize("size", [1, SIZE, 65536, 200_000])
def test_the_server_in_c_echoes(size: int) -> None:
    with Process("server", [str(native.built("server")), str(size)]) as limit:
        address = ("127.0.0.1", limit.hear()["port"])
        with socket.create_connection(address) as one, socket.create_connection(address) as two:
            for conn, byte in ((one, b"1"), (two, b"2"), (one, b"3")):
                conn.sendall(byte * size)
                assert receive_exactly(conn, size) == byte * size
        used = limit.usage()
        assert used.user >= 0
        assert used.kernel >= 0
        assert used.faults > 0


QUANTILES = """
#include "clients.h"

int
main(void)
{
    float value;

    samples = malloc(MAX_SAMPLES * sizeof *samples);
    if (!samples)
        fail("malloc");
    while (scanf("%f", &value) == 1)
        sample(value);
    sum_up(taken, 1, taken, now() * 0);
    if (taken < 0)
        wrong("wait_for_begin() is not called"), wait_for_begin(0);
    return 0;
}
"""


@pytest.mark.parametrize("number", [0, 1, 2, 1000, 20_000])
def test_quantiles_are_values_below_which_that_part_of_them_lies(
    number: int, tmp_path: Path
) -> None:
    (tmp_path / "quantiles.c").write_text(QUANTILES)
    program = [str(native.compiler()), "-I", str(native.SOURCES), "-o", str(tmp_path / "quantiles")]
    subprocess.run([*program, str(tmp_path / "quantiles.c")], check=True)
    # The values are 0, 1, 2 and so on, in another order.
    values = [str(value * 7919 % number) for value in range(number)]
    run = subprocess.run(
        [tmp_path / "quantiles"],
        input=" ".join(values),
        capture_output=True,
        text=True,
        check=True,
    )
    counted = json.loads(run.stdout)
    parts = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
    for word, part in parts.items():
        assert counted[word] == min(int(number * part), max(number - 1, 0)), word
    assert counted["max"] == max(number - 1, 0)


def test_systems_with_different_c_libraries_do_not_share_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "CACHE", tmp_path)
    made = set()
    for version in ("2.36", "2.43"):
        monkeypatch.setattr(platform, "libc_ver", lambda version=version: ("glibc", version))
        made.add(native.built.__wrapped__("server"))
    assert len(made) == 2
    assert all(path.is_file() for path in made)

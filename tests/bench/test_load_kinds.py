"""Further kinds of load of the load generator: lines, rates, other work, datagrams, TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from bench import native
from bench.cases.streams import CERTIFICATE
from bench.process import Process
from tests.bench import peers
from tests.bench.peers import SIZE, Answer, echo, load, receive_exactly, server

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(bool(native.why_not()), reason=native.why_not()),
]
needs_tls = pytest.mark.skipif(bool(native.why_not_tls()), reason=native.why_not_tls())


def requests(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout.splitlines()[-1])
    return int(counted["all"])


# -- Lines -----------------------------------------------------------------------------------------


def test_messages_are_made_of_lines() -> None:
    messages: list[bytes] = []

    def collect(number: int, message: bytes) -> bytes:
        messages.append(message)
        return message

    with server(collect) as port:
        done = load(port, "-l", "100")
    assert requests(done) >= 20
    assert len(set(messages)) == len(messages)
    for message in messages:
        assert message.count(b"\n") == SIZE // 100
        assert set(message[99::100]) == set(b"\n")


# -- A rate ----------------------------------------------------------------------------------------


def test_requests_begin_at_their_rate() -> None:
    with server(echo) as port:
        done = load(port, "-r", "1000", connections=3, seconds=0.05, requests=10**9)
    # The number of requests due within the time, whether or not they could be sent.
    assert requests(done) <= 51
    counted = json.loads(done.stdout.splitlines()[-1])
    assert 0 < counted["p50"] <= counted["p99"] <= counted["p99.9"] <= counted["max"]


def test_a_stall_is_charged_to_every_request_that_came_meanwhile() -> None:
    stalled = threading.Event()

    def stall(number: int, message: bytes) -> bytes:
        if number == 1:
            stalled.wait(0.2)
        return message

    with server(stall) as port:
        done = load(port, "-r", "1000", seconds=0.3, requests=10**9)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout.splitlines()[-1])
    # Only one request waited for the whole stall. Of the requests that became due during it, half
    # are charged with more than half of its length. Counted from the time of sending, only one of
    # 300 requests would show the stall.
    assert counted["max"] >= 0.2
    assert counted["p75"] >= 0.02


# -- Other work beside the measured connections ----------------------------------------------------

RATED = ("-r", "1000")


def echo_bytes(conn: socket.socket, answer: Answer) -> None:
    """Answer bytes as they arrive, until the client has sent everything."""
    number = 0
    with conn, contextlib.suppress(OSError):
        while data := conn.recv(65536):
            conn.sendall(answer(number, data))
            number += 1


@pytest.mark.parametrize("option", ["-w", "-f"])
def test_every_byte_of_other_connections_comes_back(option: str) -> None:
    sizes: list[int] = []

    def note(number: int, data: bytes) -> bytes:
        sizes.append(len(data))
        return data

    with server(note, echo_bytes) as port:
        done = load(port, *RATED, option, "2", connections=3, seconds=0.25, requests=10**9)
    # Three more messages were exchanged before the measurement.
    assert sum(sizes) > (requests(done) + 3) * SIZE
    counted = json.loads(done.stdout.splitlines()[-1])
    assert 0 <= counted["late"] <= counted["max"]


def other_bytes(number: int, data: bytes) -> bytes:
    """Change the bytes of other connections, which alone send more than SIZE at once."""
    return data if len(data) <= SIZE else bytes(len(data))


def more_bytes(number: int, data: bytes) -> bytes:
    return data if len(data) <= SIZE else data * 100


@pytest.mark.parametrize("option", ["-w", "-f"])
@pytest.mark.parametrize("answer", [other_bytes, more_bytes])
def test_wrong_answers_to_other_connections_are_noticed(option: str, answer: Answer) -> None:
    with server(answer, echo_bytes) as port:
        done = load(port, *RATED, option, "1", requests=10**9)
    assert done.returncode == 1
    assert "beside the measured connections" in done.stderr


@pytest.mark.parametrize(("option", "complaint"), [("-w", "slow reader"), ("-f", "flood")])
def test_other_connections_that_are_closed_early_are_noticed(option: str, complaint: str) -> None:
    def close_others(conn: socket.socket, answer: Answer) -> None:
        with conn, contextlib.suppress(OSError):
            while len(data := conn.recv(65536)) == SIZE:
                conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
            while conn.recv(65536):
                pass

    with server(echo, close_others) as port:
        done = load(port, *RATED, option, "1", requests=10**9)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_a_burst_opens_its_connections_and_closes_them() -> None:
    received: list[int] = []

    def count(conn: socket.socket, answer: Answer) -> None:
        with conn, contextlib.suppress(OSError):
            amount = 0
            while data := conn.recv(65536):
                conn.sendall(data)
                amount += len(data)
            received.append(amount)

    with server(echo, count) as port:
        done = load(port, *RATED, "-b", "5", connections=3, seconds=0.15, requests=10**9)
    silent = received.count(0)
    assert sum(received) == (requests(done) + 3) * SIZE
    # The first burst begins with the measurement, the second one a tenth of a second later.
    assert 5 <= silent <= 10
    assert len(received) == silent + 3


# -- Short connections -----------------------------------------------------------------------------


def test_every_message_has_a_connection_of_its_own() -> None:
    numbers: list[int] = []

    def count(number: int, message: bytes) -> bytes:
        numbers.append(number)
        return message

    with server(count) as port:
        done = load(port, "-s", connections=3)
    # Three more messages were exchanged before the measurement.
    assert len(numbers) == requests(done) + 3
    assert set(numbers) == {0}


def once(conn: socket.socket, answer: Answer, last_words: bytes, *, reset: bool = False) -> None:
    """Answer one message, wait for the end, send ``last_words``, and close the connection."""
    with conn, contextlib.suppress(OSError):
        conn.sendall(answer(0, receive_exactly(conn, SIZE)))
        assert conn.recv(1) == b""
        conn.sendall(last_words)
        if reset:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_byte_after_the_answer_is_noticed() -> None:
    with server(echo, lambda conn, answer: once(conn, answer, b"x")) as port:
        done = load(port, "-s")
    assert done.returncode == 1
    assert "more bytes" in done.stderr


def test_a_connection_that_is_broken_off_is_noticed() -> None:
    with server(echo, lambda conn, answer: once(conn, answer, b"", reset=True)) as port:
        done = load(port, "-s")
    assert done.returncode == 1
    assert "broken off" in done.stderr


# -- Datagrams -------------------------------------------------------------------------------------


@contextlib.contextmanager
def datagram_server(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """Answer datagrams until an empty one arrives."""

    def run() -> None:
        while (received := sock.recvfrom(65536))[0]:
            sock.sendto(answer(received[0]), received[1])

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def test_datagrams_are_echoed_whole() -> None:
    sizes: set[int] = set()

    def measure(message: bytes) -> bytes:
        sizes.add(len(message))
        return message

    with datagram_server(measure) as port:
        done = load(port, "-u", connections=3)
    assert requests(done) >= 20
    assert sizes == {SIZE}


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda message: message[:-1], "a shorter datagram"),
        (lambda message: message + b"x", "more bytes"),
        (lambda message: message[:-1] + bytes([message[-1] ^ 1]), "other bytes"),
    ],
)
def test_wrong_datagrams_are_noticed(answer: Callable[[bytes], bytes], complaint: str) -> None:
    with datagram_server(answer) as port:
        done = load(port, "-u")
    assert done.returncode == 1
    assert complaint in done.stderr


def test_the_server_in_c_echoes_datagrams() -> None:
    with Process("server", [str(native.built("server")), str(SIZE), "datagrams"]) as limit:
        done = load(int(limit.hear()["port"]), "-u", connections=3)
        assert requests(done) >= 20
        assert limit.usage().faults > 0


# -- TLS -------------------------------------------------------------------------------------------


def serve_tls(conn: socket.socket, answer: Answer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with conn, contextlib.suppress(OSError):
        peers.serve(context.wrap_socket(conn, server_side=True), answer)


@needs_tls
def test_messages_are_echoed_over_tls() -> None:
    with server(echo, serve_tls) as port:
        done = load(port, connections=3, program="load_tls")
    assert requests(done) >= 20


def one_byte_wrong(number: int, message: bytes) -> bytes:
    return message if number < 5 else message[:-1] + bytes([message[-1] ^ 1])


@needs_tls
@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (one_byte_wrong, "other bytes"),
        (lambda number, message: message + b"x", "bytes"),
        (lambda number, message: b"" if number else message, "closed"),
    ],
)
def test_wrong_answers_over_tls_are_noticed(answer: Answer, complaint: str) -> None:
    with server(answer, serve_tls) as port:
        done = load(port, program="load_tls")
    assert done.returncode == 1
    assert complaint in done.stderr


@needs_tls
def test_a_server_without_tls_is_an_error_of_its_own() -> None:
    def greet(conn: socket.socket, answer: Answer) -> None:
        with conn, contextlib.suppress(OSError):
            conn.sendall(b"no TLS here\n")
            receive_exactly(conn, SIZE)

    with server(echo, greet) as port:
        done = load(port, program="load_tls")
    assert done.returncode == 2
    assert "handshake" in done.stderr


# -- The command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        *(("-x",), ("-s", "-u"), ("-l", "300"), ("-l", "-1")),
        *(("-w", "1"), ("-f", "1"), ("-b", "1"), (*RATED, "-b", "0"), (*RATED, "-u", "-f", "1")),
    ],
)
def test_options_that_make_no_sense_are_refused(options: tuple[str, ...]) -> None:
    assert load(1, *options).returncode == 2

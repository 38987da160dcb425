"""The misbehaving TLS peer, tested against Python's own TLS sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.support import openssl
from tests.support.certificates import NAME, Certificates, client_context, server_context
from tests.support.tls_peer import (
    ALLOW_CLIENT_RENEGOTIATION,
    HTTP_ANSWER,
    TlsPeer,
    corrupted,
    overlong_record,
    tls_client,
    tls_server,
)
from tests.support.tls_records import (
    ALERT,
    APPLICATION_DATA,
    CLOSE_NOTIFY,
    Sealer,
    Sealer13,
)

pytestmark = pytest.mark.once

Connect = Callable[[Callable[[TlsPeer], object]], contextlib.AbstractContextManager[ssl.SSLSocket]]
VERSIONS = ["TLSv1_2", "TLSv1_3"]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion[request.param]


@pytest.fixture(params=["peer is server", "peer is client"])
def connect(
    request: pytest.FixtureRequest, certificates: Certificates, version: ssl.TLSVersion
) -> Connect:
    """Return a function that connects Python's TLS socket to a peer with a given behaviour."""
    server = server_context(certificates, minimum=version, maximum=version)
    client = client_context(certificates, minimum=version, maximum=version)

    @contextlib.contextmanager
    def to_server(behaviour: Callable[[TlsPeer], object]) -> Iterator[ssl.SSLSocket]:
        with (
            tls_server(server, behaviour, by_hand=True) as peer,
            socket.create_connection(peer.address, timeout=30) as plain,
            client.wrap_socket(
                plain,
                server_hostname=NAME,
                suppress_ragged_eofs=False,
                do_handshake_on_connect=False,
            ) as sock,
        ):
            yield sock

    @contextlib.contextmanager
    def to_client(behaviour: Callable[[TlsPeer], object]) -> Iterator[ssl.SSLSocket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(30)
            with tls_client(listener.getsockname(), client, behaviour, by_hand=True):
                plain, _ = listener.accept()
                plain.settimeout(30)
                with server.wrap_socket(
                    plain,
                    server_side=True,
                    suppress_ragged_eofs=False,
                    do_handshake_on_connect=False,
                ) as sock:
                    yield sock

    return to_server if request.param == "peer is server" else to_client


def test_it_can_behave(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        assert peer.receive_exactly(5) == b"hello"
        peer.send(b"x" * 100_000)
        assert peer.receive_all() == b"bye"
        peer.send_raw(peer.sealed_close_notify())

    with connect(behave) as sock:
        sock.do_handshake()
        sock.sendall(b"hello")
        received = b""
        while len(received) < 100_000:
            received += sock.recv(65536)
        assert received == b"x" * 100_000
        sock.sendall(b"bye")
        sock.unwrap().close()


def test_truncation(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send(b"part")
        peer.truncate()
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        assert sock.recv(100) == b"part"
        with pytest.raises(ssl.SSLEOFError):
            sock.recv(100)


def test_close_notify_and_reading_on(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealed_close_notify())
        assert peer.receive_exactly(6) == b"answer"
        assert peer.receive_all() == b"!"

    with connect(behave) as sock:
        sock.do_handshake()
        assert sock.recv(100) == b""
        sock.sendall(b"answer")
        sock.sendall(b"!")
        sock.unwrap().close()


def test_data_and_close_notify_in_one_segment(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealed(b"last words") + peer.sealed_close_notify())
        assert peer.receive_all() == b""

    with connect(behave) as sock:
        sock.do_handshake()
        assert sock.recv(100) == b"last words"
        assert sock.recv(100) == b""
        sock.unwrap().close()


def test_the_end_of_the_handshake_with_data_and_close_notify(
    certificates: Certificates,
) -> None:
    """A client may send its last handshake message together with all its data."""

    def behave(peer: TlsPeer) -> None:
        peer.send_raw(peer.flight())
        finished = peer.flight()
        peer.send_raw(finished + peer.sealed(b"in one go") + peer.sealed_close_notify())
        peer.receive_raw_until_end()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        with tls_client(listener.getsockname(), client_context(certificates), behave):
            plain, _ = listener.accept()
            with server_context(certificates).wrap_socket(plain, server_side=True) as sock:
                assert sock.recv(100) == b"in one go"
                assert sock.recv(100) == b""


# -- Invalid records -------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [HTTP_ANSWER, b"\0" * 100, overlong_record()])
def test_garbage_instead_of_a_hello(connect: Connect, garbage: bytes) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.send_raw(garbage)
        peer.receive_raw_until_end()

    with connect(behave) as sock, pytest.raises(ssl.SSLError):
        sock.do_handshake()


def test_a_corrupted_record(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealed(b"good") + corrupted(peer.sealed(b"bad")))
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        assert sock.recv(100) == b"good"
        with pytest.raises(ssl.SSLError, match="(?i)bad record mac|record layer failure"):
            sock.recv(100)


def test_an_overlong_record(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealed(b"good") + overlong_record())
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        assert sock.recv(100) == b"good"
        with pytest.raises(ssl.SSLError, match="(?i)length too long|record layer failure"):
            sock.recv(100)


def test_nonsense_is_noticed_by_the_peer_as_well(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        with pytest.raises(ssl.SSLError):
            peer.receive()
        # The alert was sent.
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        with socket.socket(fileno=socket.dup(sock.fileno())) as plain:
            plain.sendall(overlong_record())
        with pytest.raises(ssl.SSLError, match="(?i)record overflow"):
            sock.recv(100)


# -- The handshake ---------------------------------------------------------------------------------


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def test_disconnection_in_mid_handshake(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.send_raw(half(peer.flight()))
        peer.truncate()
        peer.receive_raw_until_end()

    with connect(behave) as sock, pytest.raises((ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        sock.do_handshake()


def test_reset_in_mid_handshake(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.send_raw(half(peer.flight()))
        peer.reset()

    # The reset may arrive before Python's socket is a TLS socket.
    with pytest.raises((ConnectionError, ssl.SSLError)), connect(behave) as sock:
        sock.do_handshake()


def test_a_stall_in_mid_handshake(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        flight = peer.flight()
        peer.send_raw(half(flight))
        assert peer.receive_raw_until_end() == b""

    with connect(behave) as sock:
        sock.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            sock.do_handshake()
        # The rest never arrives: after the client's hello, the peer receives only the end.
        sock.close()


# -- Records by hand -------------------------------------------------------------------------------


def test_records_by_hand(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send(b"by OpenSSL")
        sealer = peer.sealer()
        for text in (b"by", b"hand", b""):
            peer.send_raw(sealer.seal(APPLICATION_DATA, text))
        assert peer.receive_exactly(2) == b"ok"
        peer.send_raw(sealer.seal(ALERT, CLOSE_NOTIFY))
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        received = b""
        while len(received) < 16:
            received += sock.recv(100)
        assert received == b"by OpenSSLbyhand"
        sock.sendall(b"ok")
        assert sock.recv(100) == b""


def test_close_notify_twice(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        sealer = peer.sealer()
        last_words = sealer.seal(APPLICATION_DATA, b"last words")
        once = sealer.seal(ALERT, CLOSE_NOTIFY)
        peer.send_raw(last_words + once + sealer.seal(ALERT, CLOSE_NOTIFY))
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        assert sock.recv(100) == b"last words"
        for _ in range(3):
            assert sock.recv(100) == b""


def test_data_after_close_notify(connect: Connect) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        sealer = peer.sealer()
        peer.send_raw(sealer.seal(ALERT, CLOSE_NOTIFY) + sealer.seal(APPLICATION_DATA, b"no"))
        peer.receive_raw_until_end()

    with connect(behave) as sock:
        sock.do_handshake()
        for _ in range(3):
            assert sock.recv(100) == b""


@pytest.mark.parametrize("version", ["TLSv1_3"], indirect=True)
@pytest.mark.parametrize("requested", [False, True])
def test_new_keys(connect: Connect, requested: bool) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        sealer = peer.sealer()
        assert isinstance(sealer, Sealer13)
        for number in b"123":
            peer.send_raw(sealer.seal(APPLICATION_DATA, bytes([number])))
            peer.send_raw(sealer.key_update(requested=requested))
            peer.send_raw(sealer.seal(APPLICATION_DATA, b"."))
            assert peer.receive_exactly(6) == b"answer"
        peer.send_raw(sealer.seal(ALERT, CLOSE_NOTIFY))
        assert peer.receive_all() == b""

    with connect(behave) as sock:
        sock.do_handshake()
        for number in b"123":
            assert sock.recv(1) == bytes([number])
            assert sock.recv(1) == b"."
            sock.sendall(b"answer")
        assert sock.recv(1) == b""
        sock.unwrap().close()


def test_other_ciphers_are_refused() -> None:
    with pytest.raises(ValueError, match="not TLS_CHACHA20"):
        Sealer("TLS_CHACHA20_POLY1305_SHA256", 0)


# -- The threads -----------------------------------------------------------------------------------


def test_exceptions_of_the_behaviour_are_raised(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        tls_server(server_context(certificates), behave) as server,
        socket.create_connection(server.address),
    ):
        pass
    with (
        tls_server(server_context(certificates), behave) as server,
        socket.create_connection(server.address),
        pytest.raises(ZeroDivisionError),
    ):
        server.result()


def test_a_test_that_fails_does_not_wait_for_the_peer(certificates: Certificates) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        tls_server(server_context(certificates), TlsPeer.handshake),
    ):
        raise ZeroDivisionError
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ZeroDivisionError),
        tls_client(listener.getsockname(), client_context(certificates), TlsPeer.handshake),
    ):
        raise ZeroDivisionError


# -- OpenSSL's programs ----------------------------------------------------------------------------


def test_openssl_server_asks_for_new_keys(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send(b"hello\n")
        assert peer.receive_exactly(5) == b"from\n"
        peer.send(b"with new keys\n")
        peer.send_raw(peer.sealed_close_notify())

    with (
        openssl.s_server(certificates, "-msg") as program,
        tls_client(program.address, client_context(certificates), behave),
    ):
        program.wait_for(b"hello\n")
        program.command(openssl.UPDATE_KEYS)
        program.wait_for(b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
        program.say(b"from\n")
        program.wait_for(b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
        program.wait_for(b"with new keys\n")


def test_openssl_client_asks_for_new_keys(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        assert peer.receive_exactly(6) == b"hello\n"
        peer.send(b"hello too\n")
        assert peer.receive_exactly(5) == b"from\n"
        peer.send(b"with new keys\n")
        peer.receive_raw_until_end()

    with (
        tls_server(server_context(certificates), behave) as server,
        openssl.s_client(server.address, certificates, "-msg") as program,
    ):
        program.say(b"hello\n")
        program.wait_for(b"hello too\n")
        program.command(openssl.UPDATE_KEYS)
        program.wait_for(b">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
        program.say(b"from\n")
        program.wait_for(b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
        program.wait_for(b"with new keys\n")


@pytest.mark.parametrize("allowed", [True, False])
def test_openssl_client_renegotiates(certificates: Certificates, allowed: bool) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        assert peer.receive_exactly(6) == b"hello\n"
        peer.send(b"hello too\n")
        if allowed:
            assert peer.receive_exactly(5) == b"from\n"
            peer.send(b"with new keys\n")
        else:
            # OpenSSL's client insists on renegotiation, and gives up unless it is killed before.
            with pytest.raises(ssl.SSLError):
                peer.receive()
        peer.receive_raw_until_end()

    context = server_context(certificates, maximum=ssl.TLSVersion.TLSv1_2)
    if allowed:
        context.options |= ALLOW_CLIENT_RENEGOTIATION
    else:
        context.options |= ssl.OP_NO_RENEGOTIATION
    with (
        tls_server(context, behave) as server,
        openssl.s_client(server.address, certificates, "-msg") as program,
    ):
        program.say(b"hello\n")
        program.wait_for(b"hello too\n")
        program.command(openssl.RENEGOTIATE)
        program.wait_for(b"RENEGOTIATING")
        program.wait_for(b"ClientHello")
        if allowed:
            program.wait_for(b"Finished")
            program.wait_for(b"Finished")
            program.say(b"from\n")
            program.wait_for(b"with new keys\n")
        else:
            program.wait_for(b"no_renegotiation")

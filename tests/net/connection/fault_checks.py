"""Checks of the reports of both ends of a talk through a faulty network."""

from __future__ import annotations

import hashlib
import ssl

from tests.net.connection.fault_scenarios import INSERTED, Result, Talk, middle
from tests.support.blocking_peer import Report
from tests.support.proxy import Outcome

DIRECTIONS = ("to server", "to client")


def messages(talk: Talk, direction: str) -> tuple[bytes, bytes]:
    """Return the message of a direction, and that of the opposite one."""
    other = "to client" if direction == "to server" else "to server"
    return talk.script.message(direction), talk.script.message(other)


def summary(data: bytes | bytearray) -> tuple[int, str]:
    """Return size and digest, so that a failed comparison does not print a mebibyte."""
    return len(data), hashlib.sha256(data).hexdigest()


def check_complete(talk: Talk, result: Result) -> None:
    """Check that everything arrived, and that both ends ended regularly."""
    for report, expected in (
        (result.server, talk.script.message("to server")),
        (result.client, talk.script.message("to client")),
    ):
        assert report.error is None
        assert summary(report.received) == summary(expected)
    assert result.server.eof
    assert result.client.eof or talk.contexts
    assert result.connection.outcome is Outcome.CLOSED


def check_prefix(report: Report, message: bytes) -> None:
    """Check that the received bytes are a prefix of the message."""
    assert message.startswith(report.received)


def check_reset(talk: Talk, direction: str, result: Result) -> None:
    """Check that both ends got an error, and received only bytes that were sent."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert isinstance(sender.error, ConnectionError)
    assert isinstance(receiver.error, ConnectionError)
    check_prefix(sender, other)
    check_prefix(receiver, message[: middle(message)])
    if talk.api.name == "runtime" and not talk.contexts and not talk.script.at_once:
        # asyncio's reader drops unread bytes. Ours returns all lines, except an incomplete one.
        lost = middle(message) - len(receiver.received)
        assert lost == (middle(message) % 1024 if talk.reads_lines(direction) else 0)
    assert result.connection.outcome is Outcome.RESET


def check_half_closed(talk: Talk, direction: str, result: Result) -> None:
    """Check that only one direction ended, and that the receiver saw the end at its place."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert (sender.error, receiver.error) == (None, None)
    assert sender.eof
    assert receiver.eof
    assert summary(receiver.received) == summary(message[: middle(message)])
    if talk.script.at_once:
        assert summary(sender.received) == summary(other)
    check_prefix(sender, other)
    assert result.connection.outcome is Outcome.CLOSED


def check_truncated(talk: Talk, direction: str, result: Result) -> None:
    """Check that both ends saw a regular end, the receiver after the bytes before it."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert (sender.error, receiver.error) == (None, None)
    assert sender.eof
    assert receiver.eof
    assert summary(receiver.received) == summary(message[: middle(message)])
    check_prefix(sender, other)
    assert result.connection.outcome is Outcome.TRUNCATED


def check_flipped(talk: Talk, direction: str, result: Result) -> None:
    """Check that changed bytes are received as they came."""
    message, _ = messages(talk, direction)
    changed = bytearray(message)
    for index in range(middle(message), min(middle(message) + 3, len(message))):
        changed[index] ^= 0x80
    _check_garbage(talk, direction, result, bytes(changed))


def check_inserted(talk: Talk, direction: str, result: Result) -> None:
    """Check that inserted bytes are received with the rest."""
    message, _ = messages(talk, direction)
    at = middle(message)
    _check_garbage(talk, direction, result, message[:at] + INSERTED + message[at:])


def _check_garbage(talk: Talk, direction: str, result: Result, expected: bytes) -> None:
    _, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert (sender.error, receiver.error) == (None, None)
    assert summary(receiver.received) == summary(expected)
    assert summary(sender.received) == summary(other)
    assert result.connection.outcome is Outcome.CLOSED


def check_reset_tls(talk: Talk, direction: str, result: Result) -> None:
    """Check that both ends got an error, and received only bytes that were sent."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert isinstance(sender.error, OSError)
    assert isinstance(receiver.error, OSError)
    check_prefix(sender, other)
    check_prefix(receiver, message[: middle(message)])
    assert result.connection.outcome is Outcome.RESET


def check_garbage_tls(talk: Talk, direction: str, result: Result) -> None:
    """Check that the receiver got an ``SSLError``, and no changed bytes."""
    _, receiver = result.ends(direction)
    assert isinstance(receiver.error, ssl.SSLError)
    check_cut_tls(talk, direction, result)


def check_cut_tls(talk: Talk, direction: str, result: Result) -> None:
    """Check that only sent bytes were received, and that the receiver got an error or the end.

    asyncio treats an end without a close_notify as a regular end.
    """
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    check_prefix(receiver, message[: middle(message)])
    check_prefix(sender, other)
    assert receiver.error is not None or receiver.eof

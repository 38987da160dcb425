"""What both ends of a talk through a faulty network must have seen."""

from __future__ import annotations

import hashlib
import ssl

from tests.net.connection.fault_scenarios import INSERTED, Result, Talk, middle
from tests.support.blocking_peer import Report
from tests.support.proxy import Outcome

DIRECTIONS = ("to server", "to client")


def messages(talk: Talk, direction: str) -> tuple[bytes, bytes]:
    """Return what flows in a direction, and what flows in the other."""
    other = "to client" if direction == "to server" else "to server"
    return talk.script.message(direction), talk.script.message(other)


def summary(data: bytes | bytearray) -> tuple[int, str]:
    """Return size and digest: a failed comparison shall not print a mebibyte."""
    return len(data), hashlib.sha256(data).hexdigest()


def check_complete(talk: Talk, result: Result) -> None:
    """Everything arrived, and the ends came in order."""
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
    """Nothing was received that was not sent, or in another order."""
    assert message.startswith(report.received)


def check_reset(talk: Talk, direction: str, result: Result) -> None:
    """Both ends were told, and got nothing that was not sent."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert isinstance(sender.error, ConnectionError)
    assert isinstance(receiver.error, ConnectionError)
    check_prefix(sender, other)
    check_prefix(receiver, message[: middle(message)])
    if talk.api.name == "runtime" and not talk.contexts and not talk.script.at_once:
        # asyncio's reader forgets what was not read yet. A line is nothing before its end.
        lost = middle(message) - len(receiver.received)
        assert lost == (middle(message) % 1024 if talk.reads_lines(direction) else 0)
    assert result.connection.outcome is Outcome.RESET


def check_half_closed(talk: Talk, direction: str, result: Result) -> None:
    """Only one direction ended, and the receiver saw it where it came."""
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
    """Both ends saw an end in order, the receiver after what was sent before it."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert (sender.error, receiver.error) == (None, None)
    assert sender.eof
    assert receiver.eof
    assert summary(receiver.received) == summary(message[: middle(message)])
    check_prefix(sender, other)
    assert result.connection.outcome is Outcome.TRUNCATED


def check_flipped(talk: Talk, direction: str, result: Result) -> None:
    """Garbage is handed on as it came: TCP's checksums are not the reader's business."""
    message, _ = messages(talk, direction)
    changed = bytearray(message)
    for index in range(middle(message), min(middle(message) + 3, len(message))):
        changed[index] ^= 0x80
    _check_garbage(talk, direction, result, bytes(changed))


def check_inserted(talk: Talk, direction: str, result: Result) -> None:
    """Garbage that nobody sent is received with the rest."""
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
    """Both ends were told, and got nothing that was not sent."""
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    assert isinstance(sender.error, OSError)
    assert isinstance(receiver.error, OSError)
    check_prefix(sender, other)
    check_prefix(receiver, message[: middle(message)])
    assert result.connection.outcome is Outcome.RESET


def check_garbage_tls(talk: Talk, direction: str, result: Result) -> None:
    """Garbage was noticed, and nothing of it handed on."""
    _, receiver = result.ends(direction)
    assert isinstance(receiver.error, ssl.SSLError)
    check_cut_tls(talk, direction, result)


def check_cut_tls(talk: Talk, direction: str, result: Result) -> None:
    """Nobody got what was not sent, and the receiver was told, somehow, that there is no more.

    asyncio takes an end without a close_notify for an end like any other.
    """
    message, other = messages(talk, direction)
    sender, receiver = result.ends(direction)
    check_prefix(receiver, message[: middle(message)])
    check_prefix(sender, other)
    assert receiver.error is not None or receiver.eof

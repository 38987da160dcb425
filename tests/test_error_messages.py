"""The form of the error messages and warnings of the package, which CONTRIBUTING.md describes.

The text is read from the sources: of every exception that is made there, and of every warning. A
value in it is written ``{}``. Messages that are asyncio's own words stay as they are in asyncio,
because programs and tests compare them; so do those of simulated sockets.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import ROOT

pytestmark = pytest.mark.once

SOURCES = ROOT / "src" / "runtime"

ASYNCIO = (
    "A Stream Socket was expected, got {}",
    "A UNIX Domain Stream Socket was expected, got {}",
    "A callable object or None is expected, got {}",
    "A datagram socket was expected, got {}",
    "Address {} is already in use",
    "Cannot change state of {} Timeout",
    "Cannot close a running event loop",
    "Cannot run the event loop while another loop is running",
    "Connect call failed {}",
    "Connection lost",
    "Event loop stopped before Future completed.",
    "File descriptor {} is used by transport {}",
    "Invalid address: must be None or {}",
    "Invalid file object: {}",
    "Invalid return_when value: {}",
    "Multiple exceptions: {}",
    "Neither host/port nor sock were specified",
    "Non-thread-safe operation invoked on an event loop other than the current one",
    "Pipe transport is only for pipes",
    "SSL handshake is taking longer than {} seconds: aborting the connection",
    "SSL shutdown timed out",
    "Semaphore initial value must be >= 0",
    "Separator is found, but chunk is longer than limit",
    "Separator is not found, and chunk exceed the limit",
    "Separator should",
    "Socket cannot be of type SSLSocket",
    "The executor did not finishing joining its threads within {} seconds",
    "This event loop is already running",
    "Transport is closing",
    "You must set server_hostname when using ssl without a host",
    "data argument must be a bytes-like object",
    "socket modifier keyword arguments can not be used when sock is specified. ({})",
)
"""The beginnings of the messages that are asyncio's, and that have another form than ours."""

SYSTEM = (
    "AF_UNIX path too long",
    "Address family for hostname not supported",
    "I/O operation on closed file",
    "Name or service not known",
    "Servname not supported for ai_socktype",
    "Temporary failure in name resolution",
    "Unknown host",
    "bind(): port must be 0-65535.",
    "flowinfo must be 0-1048575.",
    "sendto() takes 2 or 3 arguments ({} given)",
)
"""The beginnings of the messages of Python's sockets and files, which the simulated ones repeat."""

REPORTS = ("Nothing is ready, no timer is set",)
"""The beginnings of texts of several lines, which are sentences."""

NAMES = {"Runner", "StopIteration", "TLS", "Task", "TaskGroup", "Timeout"}
"""Names with which a message may begin."""


OTHER_FORM = re.compile(r", not \{\}|(^\{\}|\(\)) takes ")


def text_of(node: ast.expr, constants: dict[str, str]) -> str:
    """Return the text of an expression, with ``{}`` for everything that is not known here."""
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(values):
            return "".join(text_of(value, constants) for value in values)
        case ast.BinOp(left, ast.Add(), right):
            return text_of(left, constants) + text_of(right, constants)
        case ast.Name(name):
            return constants.get(name, "{}")
    return "{}"


RAISED = re.compile(
    r"(\w_error|(gai|h)error|Error|ShutDown|QueueFull|QueueEmpty|Channel|UnsupportedOperation|Group|^warn)$"
)
"""The names of exceptions and of the functions that make them, and of ``warnings.warn``."""


def assigned_texts(tree: ast.AST, constants: dict[str, str]) -> dict[str, list[str]]:
    """Return the texts that are assigned to each name, in the functions below ``tree`` too."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(
                ast.Name(name), _, ast.expr() as value
            ):
                branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
                texts = found.setdefault(name, [])
                texts += [text_of(branch, constants) for branch in branches]
    return found


def messages_in(
    tree: ast.AST, constants: dict[str, str], names: dict[str, list[str]]
) -> Iterator[tuple[int, str]]:
    """Give the messages below ``tree``, each with its line; ``names`` have been assigned texts."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name(called) | ast.Attribute(_, called), arguments):
                if not RAISED.search(called):
                    continue
                # The error number of an OSError comes before its text.
                for argument in arguments:
                    own = names.get(argument.id, []) if isinstance(argument, ast.Name) else []
                    texts = [*own, text_of(argument, constants)]
                    found = [text for text in texts if re.search(r"[a-z]{2} ", text)]
                    if found:
                        yield from ((node.lineno, text) for text in found)
                        break


def messages_of(path: Path) -> list[tuple[int, str]]:
    """Return the messages of a file: literals, constants of the module, and local variables."""
    tree = ast.parse(path.read_text())
    constants = {}
    for statement in tree.body:
        match statement:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(
                ast.Name(name), _, ast.expr() as value
            ):
                constants[name] = text_of(value, {})
    found = set(messages_in(tree, constants, {}))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.update(messages_in(node, constants, assigned_texts(node, constants)))
    return sorted(found)


def faults_of(text: str) -> list[str]:
    """Return the rules that a message breaks."""
    if text.startswith(ASYNCIO + SYSTEM + REPORTS):
        return []
    first = re.split(r"\W", text, maxsplit=1)[0]
    rules = {
        "no full stop at the end": re.search(r"[^.]\.$", text),
        "one sentence: a colon or a semicolon before the remedy": re.search(r"\. [A-Z]", text),
        "begin with a small letter": first[:1].isupper() and first not in NAMES,
        "'X must be Y, got Z', or 'f() expected Y, got Z'": OTHER_FORM.search(text),
    }
    return [rule for rule, broken in rules.items() if broken]


def test_messages_have_the_form_of_asyncio() -> None:
    found = 0
    faults = []
    for path in sorted(SOURCES.rglob("*.py")):
        for line, text in messages_of(path):
            found += 1
            place = f"{path.relative_to(ROOT)}:{line}"
            faults += [f"{place}: {rule}: {text!r}" for rule in faults_of(text)]
    assert faults == []
    assert found > 200


def test_no_message_is_excepted_in_vain() -> None:
    texts = [text for path in SOURCES.rglob("*.py") for _, text in messages_of(path)]
    excepted = ASYNCIO + SYSTEM + REPORTS
    unused = [own for own in excepted if not any(text.startswith(own) for text in texts)]
    assert unused == []


@pytest.mark.parametrize(
    "text",
    [
        "limit must be positive.",
        "Limit must be positive",
        "{} is closed. Make a new one",
        "limit must be a number, not {}",
        "sleep() takes a number of seconds, got {}",
    ],
)
def test_another_form_is_found(text: str) -> None:
    assert len(faults_of(text)) == 1


def test_messages_in_local_variables_are_found(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        """
def check(value):
    expected = f"value must be positive, got {value!r}"
    if not isinstance(value, int):
        raise TypeError(expected)
    text = "it is too small" if value < 0 else "it is too large"
    raise OSError(3, text)
"""
    )
    assert messages_of(path) == [
        (5, "value must be positive, got {}"),
        (7, "it is too large"),
        (7, "it is too small"),
    ]

"""``expected.txt``: the tests that are not expected to pass, and why.

The file is made of groups. A line that begins with ``=`` begins one and is its title; the lines
after it, up to the first empty one, are the reason. Then come the classes, ``module.class:``, each
followed by the names of its tests, indented. Behind a name, in brackets, can stand the Pythons that
it is about, ``(3.11, 3.12)`` or ``(3.13+)``, and a word: ``hangs``, for a test that is not run, or
``sometimes``, for one that may pass as well.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("expected.txt")
_ENTRY = re.compile(r"    (?P<name>\w+|\(the module\))(?: +\((?P<marks>[^)]*)\))?")


@dataclass(frozen=True)
class Expectation:
    """A test that is not expected to pass."""

    test: str
    group: str
    hangs: bool
    """Whether it is left out because it would not come to an end."""

    sometimes: bool = False
    """Whether it may pass as well: it depends on who is first."""


class Malformed(ValueError):
    """A line of the file that cannot be understood."""


def about(version: str, running: tuple[int, ...]) -> bool:
    """Return whether a mark such as ``3.11`` or ``3.12+`` is about the running Python."""
    at_least = version.endswith("+")
    wanted = tuple(int(part) for part in version.removesuffix("+").split("."))
    return running[:2] >= wanted if at_least else running[:2] == wanted


def parse(text: str, running: tuple[int, ...]) -> dict[str, Expectation]:
    """Return what is expected on Python ``running``, by test. Raises Malformed."""
    expected: dict[str, Expectation] = {}
    seen: set[str] = set()
    group = ""
    owner = ""
    in_reason = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("= "):
            group, owner, in_reason = line[2:].strip(), "", True
        elif not line.strip():
            in_reason = False
        elif in_reason or not group:
            continue
        elif line.endswith(":") and not line.startswith(" "):
            owner = line[:-1]
        elif (match := _ENTRY.fullmatch(line)) and owner:
            test = f"{owner}.{match['name']}"
            marks = {mark.strip() for mark in (match["marks"] or "").split(",")} - {""}
            words = marks & {"hangs", "sometimes"}
            versions = marks - words
            if f"{test} {sorted(versions)}" in seen:
                raise Malformed(f"{FILE.name}:{number}: {test} is listed twice.")
            seen.add(f"{test} {sorted(versions)}")
            if not versions or any(about(version, running) for version in versions):
                expected[test] = Expectation(test, group, "hangs" in words, "sometimes" in words)
        else:
            raise Malformed(f"{FILE.name}:{number}: neither a group, a class nor a test: {line!r}")
    return expected


def load() -> dict[str, Expectation]:
    """Return what is expected on this Python."""
    return parse(FILE.read_text(), sys.version_info[:2])

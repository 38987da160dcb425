"""Expectations read from ``expected.txt``: the tests expected not to pass, with the reasons.

The file consists of groups. A line that starts with ``=`` begins a group and is its title; the
lines after it, up to the first empty line, are the reason. The classes follow, as
``module.class:``, each with the indented names of its tests. After a name, brackets can hold the
Pythons that the entry is about, ``(3.11, 3.12)`` or ``(3.13+)``; the build, ``compiled`` or
``interpreted``; and ``hangs``, for a test that is not run, or ``sometimes``, for a test that may
also pass.
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
    """A test that is expected not to pass."""

    test: str
    group: str
    hangs: bool
    """Whether the test is left out because it would never end."""

    sometimes: bool = False
    """Whether the test may also pass, because it contains a race."""


class Malformed(ValueError):
    """A line of the file that cannot be parsed."""


def about(version: str, running: tuple[int, ...]) -> bool:
    """Return whether a mark such as ``3.11`` or ``3.12+`` includes the running Python."""
    at_least = version.endswith("+")
    wanted = tuple(int(part) for part in version.removesuffix("+").split("."))
    return running[:2] >= wanted if at_least else running[:2] == wanted


def parse(
    text: str, running: tuple[int, ...], build: str = "interpreted"
) -> dict[str, Expectation]:
    """Return the expectations for ``build`` on Python ``running``, by test. Raises Malformed."""
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
            builds = marks & {"compiled", "interpreted"}
            versions = marks - words - builds
            identity = f"{test} {sorted(versions | builds)}"
            if identity in seen:
                raise Malformed(f"{FILE.name}:{number}: {test} is listed twice.")
            seen.add(identity)
            on_this_python = any(about(version, running) for version in versions) or not versions
            if on_this_python and build in (builds or {build}):
                expected[test] = Expectation(test, group, "hangs" in words, "sometimes" in words)
        else:
            raise Malformed(f"{FILE.name}:{number}: neither a group, a class nor a test: {line!r}")
    return expected


def load() -> dict[str, Expectation]:
    """Return the expectations for the installed build on this Python."""
    import runtime  # not needed if another loop is tested

    build = "compiled" if runtime.compiled else "interpreted"
    return parse(FILE.read_text(), sys.version_info[:2], build)

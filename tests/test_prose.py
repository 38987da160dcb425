"""The prose of the project: comments, docstrings and pages name the things that they speak of."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.programs import ROOT
from tests.support.prose import (
    BANNED,
    BUILD_FILES,
    RIDDLES,
    Count,
    Text,
    names_of,
    prose_files,
    texts_of,
)

pytestmark = pytest.mark.once

MOST_RELATIVE = 2.0
MOST_INDEFINITE = 0.2
"""How many of these words there may be among 1,000."""

GROUPS = {
    "src": [ROOT / "src"],
    "bench": [ROOT / "bench"],
    "tests": [ROOT / "tests"],
    "docs": [ROOT / "docs", *sorted(ROOT.glob("*.md"))],
    "build": [ROOT / name for name in BUILD_FILES],
}
"""The files of the project, in groups of one kind. The limits hold in each group."""


@cache
def prose_of(group: str) -> list[Text]:
    """Return the texts of a group of files, which two tests read."""
    return [text for path in prose_files(GROUPS[group]) for text in texts_of(path)]


@pytest.mark.parametrize("group", GROUPS)
def test_clauses_do_not_stand_for_nouns(group: str) -> None:
    count = Count()
    for text in prose_of(group):
        count.add(text.text)
    relative, indefinite = count.per_thousand()
    assert count.words > 1000
    assert relative <= MOST_RELATIVE, "python -m tests.support.prose lists them"
    assert indefinite <= MOST_INDEFINITE, "python -m tests.support.prose lists them"


@pytest.mark.parametrize("group", GROUPS)
def test_the_words_of_the_field_are_used(group: str) -> None:
    found = [
        f"{text.path.relative_to(ROOT)}:{text.line}: say {better}, not {match[0]!r}"
        for text in prose_of(group)
        if text.path != ROOT / "tests" / "support" / "prose.py"
        for term, better in BANNED.items()
        for match in re.finditer(term, text.text, re.IGNORECASE)
    ]
    assert found == []


def test_names_name_their_object() -> None:
    """The names of functions and classes, except for those of tests."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in prose_files([ROOT / "src", ROOT / "bench", ROOT / "setup.py"])
        if path.suffix == ".py"
        for line, name in names_of(path)
        if RIDDLES.search(name)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "It is\nno task.\n"),
        ("page.md", "- The loop\n  goes on.\n"),
        ("module.py", '"""A future of ours."""\n'),
        ("module.py", '"""A module.\n\nThe loop goes\n    on.\n"""\n'),
        ("module.py", 'raise ValueError(f"{1} is no task")\n'),
        ("module.py", "x = 1  # It is\n# no task.\n"),
        ("module.c", "/* The loop goes\n * on. */\n"),
        ("Makefile", "all: build ## where the build\n# goes on\n"),
        ("ci.yml", "on: push # it goes on\n"),
    ],
)
def test_strained_forms_are_found(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = [
        term
        for each in texts_of(path)
        for term in BANNED
        if re.search(term, each.text, re.IGNORECASE)
    ]
    assert len(found) == 1


def test_plain_forms_are_not_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("There is\nno task, and it is no longer there. It goes on the list.\n")
    assert not any(
        re.search(term, each.text, re.IGNORECASE) for each in texts_of(page) for term in BANNED
    )


@pytest.mark.parametrize("name", ["is_ours", "waits_itself", "what_is_open", "whoever"])
def test_names_that_are_riddles_are_found(name: str) -> None:
    assert RIDDLES.search(name)


def test_sentences_that_hide_their_noun_are_counted(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Return what was written.\n\n```\nwhat is code\n```\nNobody reads it.\n")
    module = tmp_path / "module.py"
    module.write_text('"""Count what is there."""\n\nwhat = 1  # Whoever asks.\n')
    count = Count()
    for path in prose_files([tmp_path]):
        for text in texts_of(path):
            count.add(text.text)
    assert (count.words, count.relative, count.indefinite) == (13, 2, 2)

"""The prose of the project: comments, docstrings and pages name the things that they speak of."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.programs import ROOT
from tests.support.prose import BANNED, Count, Text, prose_files, texts_of

pytestmark = pytest.mark.once

MOST_RELATIVE = 2.0
MOST_INDEFINITE = 0.2
"""How many of these words there may be among 1,000."""

FOLDERS = ["src", "bench", "tests", "docs"]


@cache
def prose_of(folder: str) -> list[Text]:
    """Return the texts of a folder of the project, which two tests read."""
    return [text for path in prose_files([ROOT / folder]) for text in texts_of(path)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_clauses_do_not_stand_for_nouns(folder: str) -> None:
    count = Count()
    for text in prose_of(folder):
        count.add(text.text)
    relative, indefinite = count.per_thousand()
    assert count.words > 1000
    assert relative <= MOST_RELATIVE, f"python -m tests.support.prose {folder} lists them"
    assert indefinite <= MOST_INDEFINITE, f"python -m tests.support.prose {folder} lists them"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_words_of_the_field_are_used(folder: str) -> None:
    found = [
        f"{text.path.relative_to(ROOT)}:{text.line}: say {better}, not {match[0]!r}"
        for text in prose_of(folder)
        if text.path != ROOT / "tests" / "support" / "prose.py"
        for term, better in BANNED.items()
        for match in re.finditer(term, text.text, re.IGNORECASE)
    ]
    assert found == []


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

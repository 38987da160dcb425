"""Descriptions of the examples in docs/examples.md, compared with their help."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.programs import ROOT, run_program

pytestmark = pytest.mark.once

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.name)
def test_help_describes_the_options(program: Path) -> None:
    done = run_program(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_the_page_lists_every_one() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    assert [path.name for path in EXAMPLES if f"`{path.name}`" not in page] == []

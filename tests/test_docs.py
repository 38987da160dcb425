"""Programs in the documentation, run as they are printed.

Every block marked ``python`` in README.md and docs/ is a complete program that ends with status 0.
A following block marked ``output`` contains its output.
"""

from __future__ import annotations

import asyncio
import re

import pytest

import runtime
import runtime.observe
import runtime.simulation
import runtime.testing
from tests.support.programs import ROOT, run_program

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\s*^```output\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
BLOCKS = {
    f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}": match
    for page in PAGES
    for text in [page.read_text()]
    for match in PROGRAM.finditer(text)
}


def test_there_are_programs() -> None:
    assert any(name.startswith("README.md") for name in BLOCKS)


@pytest.mark.variation
@pytest.mark.parametrize("where", sorted(BLOCKS))
def test_program_prints_the_output_on_the_page(where: str) -> None:
    block = BLOCKS[where]
    if "import trustme" in block["code"]:
        pytest.importorskip("trustme", reason="no certificates without trustme")
    done = run_program("-c", block["code"])
    assert done.returncode == 0, done.stderr
    if block["output"] is not None:
        assert done.stdout == block["output"]


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    documented = set(
        re.findall(
            r"^(?:\.\. [\w:]+::| ) +(?:runtime\.)?(?:observe\.|testing\.|simulation\.)?(\w+)$",
            reference,
            re.MULTILINE,
        )
    )
    documented |= set(re.findall(r"`(\w+)`", reference))
    modules = (runtime, runtime.observe, runtime.simulation, runtime.testing)
    assert {name for module in modules for name in module.__all__} <= documented


def test_every_method_of_asyncio_s_loops_that_is_there_is_in_the_table() -> None:
    there = {
        name
        for name in dir(asyncio.AbstractEventLoop)
        if not name.startswith("_")
        and not str(getattr(getattr(runtime.Loop, name), "__module__", "")).startswith("asyncio")
    }
    page = (ROOT / "docs" / "api" / "loop.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    documented = set(re.findall(r"`(\w+)`", "\n".join(rows)))
    assert there <= documented
    assert all(hasattr(runtime.Loop, name) for name in documented)

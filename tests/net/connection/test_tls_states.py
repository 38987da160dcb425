"""The table of states and flags at the head of ``tls.py``, compared with the code."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.programs import ROOT

pytestmark = pytest.mark.once

SOURCE = (ROOT / "src/runtime/net/connection/tls.py").read_text()
TREE = ast.parse(SOURCE)
FLAG = re.compile(r"self\.(_\w+) = (?:True|False)$", re.MULTILINE)


def table(heading: str) -> list[str]:
    """Return the first column of the table whose first column has this heading."""
    documentation = ast.get_docstring(TREE) or ""
    _, _, rows = documentation.partition(f"    {heading} ")
    # Below the heading is a line of dashes; a line that continues a row begins with more spaces.
    lines = rows.split("\n\n")[0].splitlines()[2:]
    return [line.split()[0] for line in lines if not line.startswith("     ")]


def test_the_states_are_in_the_order_of_the_table() -> None:
    states = re.findall(r"^_([A-Z]+): Final = (\d)$", SOURCE, re.MULTILINE)
    assert table("state") == [name for name, _ in states]
    assert [int(number) for _, number in states] == list(range(len(states)))


def test_the_flags_are_those_of_the_table() -> None:
    (layer,) = [node for node in TREE.body if isinstance(node, ast.ClassDef)]
    set_by = {
        method.name: FLAG.findall("\n".join(ast.unparse(line) for line in statements(method)))
        for method in layer.body
        if isinstance(method, ast.FunctionDef)
    }
    assert table("flag") == set_by.pop("__init__")
    assert set(table("flag")) == {name for names in set_by.values() for name in names}


def statements(method: ast.FunctionDef) -> list[ast.Assign]:
    """Return the assignments in a method."""
    return [node for node in ast.walk(method) if isinstance(node, ast.Assign)]

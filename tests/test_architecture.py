"""The structure that docs/architecture.md describes, held against the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.programs import ROOT

pytestmark = pytest.mark.once

SOURCES = ROOT / "src"
LONGEST = 800
"""Lines in a file: one that needs more has more than one subject."""

# Each layer may import from those before it, and from itself. `sync`, `net` and `system` stand side
# by side: none of them knows the others.
LAYERS = {
    "runtime.kernel": set[str](),
    "runtime.sync": {"runtime.kernel"},
    "runtime.net": {"runtime.kernel"},
    "runtime.system": {"runtime.kernel"},
    "runtime.loop": {"runtime.kernel", "runtime.net", "runtime.system"},
    "runtime.subprocess": {
        "runtime.kernel",
        "runtime.sync",
        "runtime.net",
        "runtime.system",
        "runtime.loop",
    },
    "runtime.policy": {"runtime.loop"},
    "runtime.interrupts": {"runtime.kernel"},
    "runtime.ending": {"runtime.kernel", "runtime.loop"},
    "runtime.testing": {"runtime.kernel", "runtime.sync", "runtime.loop", "runtime.runner"},
    "runtime.runner": {
        "runtime.kernel",
        "runtime.system",
        "runtime.loop",
        "runtime.interrupts",
        "runtime.ending",
    },
}
TOP = {"runtime", "runtime.__main__"}
"""These may import everything."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(SOURCES.rglob("*.py"))}


@cache
def imports(module: str) -> tuple[tuple[str, str, bool], ...]:
    """Return (module, name or '', whether for type checkers only) of each import of ours."""
    return tuple(_find_imports(ast.parse(FILES[module].read_text()), for_types=False))


def _find_imports(node: ast.AST, for_types: bool) -> Iterator[tuple[str, str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, "", for_types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            for alias in child.names:
                yield (child.module or "", alias.name, for_types)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield from _find_imports(ast.Module([statement], []), for_types=True)
            for statement in child.orelse:
                yield from _find_imports(ast.Module([statement], []), for_types)
        else:
            yield from _find_imports(child, for_types)


def imported_modules(module: str, *, with_types: bool = True) -> set[str]:
    """Return the modules of ours that ``module`` imports."""
    found = set()
    for source, name, for_types in imports(module):
        if for_types and not with_types:
            continue
        full = f"{source}.{name}" if f"{source}.{name}" in FILES else source
        if full.partition(".")[0] == "runtime":
            found.add(full)
    return found


def layer_of(module: str) -> str:
    for layer in LAYERS:
        if module == layer or module.startswith(layer + "."):
            return layer
    raise AssertionError(f"{module} belongs to no layer: add it to LAYERS and docs/architecture.md")


@pytest.mark.parametrize("module", sorted(FILES.keys() - TOP))
def test_imports_point_down_the_layers(module: str) -> None:
    layer = layer_of(module)
    allowed = LAYERS[layer] | {layer}
    assert {layer_of(other) for other in imported_modules(module)} <= allowed


def test_imports_make_no_cycle() -> None:
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join((*path, module))}"
        if module in finished or module not in FILES:
            return
        for other in imported_modules(module, with_types=False):
            visit(other, (*path, module))
        finished.add(module)

    for module in FILES:
        visit(module, ())


@pytest.mark.parametrize("module", sorted(FILES))
def test_private_names_stay_in_their_module(module: str) -> None:
    private = [
        f"{source}.{name}"
        for source, name, _ in imports(module)
        if source.partition(".")[0] == "runtime" and name.startswith("_") and name != "_accelerator"
        if not name.startswith("__")
    ]
    # The accelerator is the one private module: its fallback, accelerator.py, chooses between the
    # two.
    assert not private
    accelerator_users = [
        name for source, name, _ in imports(module) if "_accelerator" in (name, source[-5:])
    ]
    assert not accelerator_users or module == "runtime.kernel.native.accelerator"


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_is_short_and_says_what_it_is_about(module: str) -> None:
    source = FILES[module].read_text()
    assert len(source.splitlines()) <= LONGEST
    assert source == "" or ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("module", sorted(FILES))
def test_public_functions_and_classes_are_documented(module: str) -> None:
    tree = ast.parse(FILES[module].read_text())
    undocumented = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not node.name.startswith("_") and ast.get_docstring(node) is None
        if "overload" not in map(ast.unparse, node.decorator_list)
    ]
    assert not undocumented

"""The structure described in docs/architecture.md, compared with the imports in the sources."""

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
"""Maximal number of lines in a file: a longer file has more than one subject."""

# Each layer may import from itself, and from the modules and packages listed for it. A name stands
# for a module, or for a package with all its modules; a module belongs to the longest name that it
# begins with. `sync`, `net` and `system` are side by side: none of them imports another.
KERNEL_PACKAGES = {
    "runtime.kernel.arguments": set[str](),
    "runtime.kernel.native": {"runtime.kernel.arguments"},
    "runtime.kernel.diagnostics": {
        "runtime.kernel.arguments",
        "runtime.kernel.errors",
        "runtime.kernel.native",
    },
    "runtime.kernel.compat": {
        "runtime.kernel.daemons",
        "runtime.kernel.diagnostics",
        "runtime.kernel.native",
        "runtime.kernel.scheduler",
    },
    "runtime.kernel.threads": {
        "runtime.kernel.compat",
        "runtime.kernel.daemons",
        "runtime.kernel.failure",
        "runtime.kernel.future",
        "runtime.kernel.public_types",
        "runtime.kernel.scheduler",
    },
    "runtime.kernel.lifetime": {
        "runtime.kernel.daemons",
        "runtime.kernel.descriptors",
        "runtime.kernel.diagnostics",
        "runtime.kernel.future",
        "runtime.kernel.handles",
        "runtime.kernel.scheduler",
        "runtime.kernel.signals",
        "runtime.kernel.task",
        "runtime.kernel.threads",
        "runtime.kernel.watcher",
    },
}
LAYERS = {
    **KERNEL_PACKAGES,
    "runtime.kernel.api": {"runtime.kernel"},
    "runtime.kernel": KERNEL_PACKAGES.keys(),
    "runtime.sync": {"runtime.kernel"},
    "runtime.net.backlog": set[str](),
    "runtime.net.resolver": {"runtime.kernel"},
    "runtime.net.sockets": {"runtime.kernel", "runtime.net.resolver"},
    "runtime.net.connection": {"runtime.kernel", "runtime.net.sockets"},
    "runtime.net.datagrams": {"runtime.kernel", "runtime.net.resolver", "runtime.net.sockets"},
    "runtime.net.setup": {
        "runtime.kernel",
        "runtime.net.backlog",
        "runtime.net.connection",
        "runtime.net.resolver",
        "runtime.net.sockets",
    },
    "runtime.net": {"runtime.kernel", "runtime.net"},
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
    "runtime.observe": {"runtime.kernel", "runtime.net", "runtime.loop", "runtime.runner"},
    "runtime.simulation": {
        "runtime.kernel",
        "runtime.sync",
        "runtime.net",
        "runtime.system",
        "runtime.loop",
        "runtime.runner",
        "runtime.testing",
    },
    "runtime.testing": {
        "runtime.kernel",
        "runtime.observe",
        "runtime.sync",
        "runtime.loop",
        "runtime.runner",
    },
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
    """Return (module, name or '', whether for type checkers only) of each import of the package."""
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
    """Return the modules of the package that ``module`` imports."""
    found = set()
    for source, name, for_types in imports(module):
        if for_types and not with_types:
            continue
        full = f"{source}.{name}" if f"{source}.{name}" in FILES else source
        if full.partition(".")[0] == "runtime":
            found.add(full)
    return found


PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py"}


def is_within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def layer_of(module: str) -> str:
    layers = [layer for layer in LAYERS if is_within(module, layer)]
    assert layers, f"{module} belongs to no layer: add it to LAYERS and docs/architecture.md"
    return max(layers, key=len)


@pytest.mark.parametrize("module", sorted(FILES.keys() - TOP))
def test_imports_point_down_the_layers(module: str) -> None:
    layer = layer_of(module)
    allowed = LAYERS[layer]
    wrong = [
        other
        for other in sorted(imported_modules(module))
        if layer_of(other) != layer and not any(is_within(other, name) for name in allowed)
    ]
    assert not wrong


def test_every_layer_is_there() -> None:
    """A name without a module would allow imports that were never reviewed."""
    assert LAYERS.keys() <= FILES.keys()
    assert {name for names in LAYERS.values() for name in names} <= FILES.keys()


def find_cycle(graph: dict[str, set[str]]) -> str:
    """Return a cycle of a graph as text, or an empty string."""
    finished: set[str] = set()

    def visit(node: str, path: tuple[str, ...]) -> str:
        if node in path:
            return " -> ".join((*path, node))
        if node not in finished:
            for other in graph.get(node, ()):
                if found := visit(other, (*path, node)):
                    return found
            finished.add(node)
        return ""

    return next(filter(None, (visit(node, ()) for node in graph)), "")


def test_a_cycle_is_found() -> None:
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ""
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == "a -> b -> c -> b"


def test_imports_make_no_cycle() -> None:
    graph = {module: imported_modules(module, with_types=False) for module in FILES}
    assert not find_cycle(graph)


def folder_of(module: str) -> str:
    """Return the sub-package of a module, or the module itself if it is in none.

    Modules beside sub-packages count on their own: in ``kernel`` some of them are below the
    sub-packages, and the core is above.
    """
    parent = module if module in PACKAGES else module.rpartition(".")[0]
    has_packages = any(name.rpartition(".")[0] == parent for name in PACKAGES)
    return module if has_packages else parent


def test_imports_make_no_cycle_between_packages() -> None:
    graph: dict[str, set[str]] = {}
    for module in FILES.keys() - TOP:
        others = {folder_of(other) for other in imported_modules(module) - TOP}
        graph.setdefault(folder_of(module), set()).update(others - {folder_of(module)})
    assert "runtime.net.connection" in graph["runtime.net.setup"]
    assert not find_cycle(graph)


@pytest.mark.parametrize("package", sorted(PACKAGES - TOP))
def test_a_package_documents_its_contents(package: str) -> None:
    tree = ast.parse(FILES[package].read_text())
    docstring = ast.get_docstring(tree) or ""
    assert 2 <= len(docstring.splitlines()) <= 8
    interfaces = ("runtime.observe", "runtime.simulation", "runtime.testing")
    assert len(tree.body) == 1 or package in interfaces


def test_the_tests_mirror_the_packages() -> None:
    for name in ("kernel", "net"):
        inner = {path.parent.name for path in (ROOT / "tests" / name).glob("*/__init__.py")}
        prefix = f"runtime.{name}."
        assert inner == {each.removeprefix(prefix) for each in PACKAGES if each.startswith(prefix)}


@pytest.mark.parametrize("module", sorted(FILES))
def test_private_names_stay_in_their_module(module: str) -> None:
    private = [
        f"{source}.{name}"
        for source, name, _ in imports(module)
        if source.partition(".")[0] == "runtime" and name.startswith("_") and name != "_accelerator"
        if not name.startswith("__")
    ]
    # The accelerator is the one private module: accelerator.py chooses between it and the fallback.
    assert not private
    accelerator_users = [
        source
        for source, name, _ in imports(module)
        if name == "_accelerator" or source.endswith("._accelerator")
    ]
    assert not accelerator_users or module == "runtime.kernel.native.accelerator"


SHARED = (
    "runtime.kernel.scheduler",
    "runtime.kernel.handles",
    "runtime.kernel.timers",
    "runtime.kernel.future",
    "runtime.kernel.task",
    "runtime.kernel.scope_state",
    "runtime.kernel.scopes",
    "runtime.kernel.core",
    "runtime.loop",
    "runtime.net.setup.server",
)
"""Modules of ``Loop``, ``Task``, ``Future``, handles, scopes, ``Server``, and their base classes.

Attributes of these classes that are not API begin with an underscore. They are private to the
package, not to the module.
"""

FOREIGN = {
    "_DummyThread",
    "_asyncio_awaited_by",
    "_child_created",
    "_asyncio_future_blocking",
    "_count",
    "_current_frames",
    "_fixtureinfo",
    "_get_running_loop",
    "_getframe",
    "_log_traceback",
    "_msg_callback",
    "_set_running_loop",
    "_setupstate",
    "_showwarnmsg_impl",
}
"""Private names of the standard library and of pytest for which nothing public stands."""


@cache
def names_defined(module: str) -> frozenset[str]:
    """Return the names that a module defines, with the attributes of ``self`` that it uses."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return frozenset(found)


@pytest.mark.parametrize("module", sorted(FILES))
def test_private_attributes_stay_in_their_module_or_are_of_shared_classes(module: str) -> None:
    shared = frozenset[str]().union(*map(names_defined, SHARED))
    used = {
        node.attr
        for node in ast.walk(ast.parse(FILES[module].read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls")
        if node.attr.startswith("_") and not node.attr.startswith("__")
    }
    assert used - names_defined(module) - shared <= FOREIGN


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_is_short_and_has_a_docstring(module: str) -> None:
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

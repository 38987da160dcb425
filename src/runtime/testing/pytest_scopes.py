"""Sharing of loops between tests: tests with a wide asynchronous fixture in common share a loop.

A wide fixture is one whose scope is wider than a test. The value of a fixture, such as a connection
or a lock, can be used on one loop only. A test therefore runs on the loop of its fixtures, and all
fixtures of a test are on the same loop::

    test_1(table)                  table: class
    test_2(table, database)        database: session    one loop, which closes with the session

    test_3(page)                   page: module         a loop that closes with the module
    test_4()                                            a loop of its own

The assignment depends on the tests that were collected, not on the order in which they run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import pytest

Node = pytest.Item | pytest.Collector

_OWNER = pytest.StashKey[Node]()


def share_loops(items: Iterable[pytest.Item]) -> None:
    """Determine for each test the node with which its loop closes: see ``owner_of``."""
    wider: dict[Node, Node] = {}
    wide = {item: set(_wide_nodes(item)) for item in items}
    for nodes in wide.values():
        _join(nodes, wider)
    for item, nodes in wide.items():
        for node in nodes:
            item.stash[_OWNER] = _widest(node, wider)


def _join(nodes: set[Node], wider: dict[Node, Node]) -> None:
    """Link all of ``nodes`` to the widest node that any of them is linked to."""
    tops = {_widest(node, wider) for node in nodes}
    # They are ancestors of one another: all of them contain the same test, or contain a node that
    # does.
    top = min(tops, key=width_of, default=None)
    for other in tops:
        if top is not None and other is not top:
            wider[other] = top


def _widest(node: Node, wider: dict[Node, Node]) -> Node:
    while node in wider:
        node = wider[node]
    return node


def owner_of(item: pytest.Item) -> Node:
    """Return the node with which the loop of a test closes: the test itself, or a wider one."""
    return item.stash.get(_OWNER, item)


def width_of(node: Node) -> int:
    """Return the depth of a node in the tree of tests: the wider the node, the smaller."""
    return len(node.listchain())


def is_asynchronous(fixturedef: pytest.FixtureDef[object]) -> bool:
    """Return whether a fixture is asynchronous, and no other plugin has claimed it."""
    function = fixturedef.func
    return (
        inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)
    ) and not hasattr(function, "_force_asyncio_fixture")


def _wide_nodes(item: pytest.Item) -> Iterator[Node]:
    """Yield the nodes other than the test with which its asynchronous fixtures are torn down."""
    for fixturedef in _fixtures_of(item):
        if is_asynchronous(fixturedef) and (node := _node_of(fixturedef, item)) is not item:
            yield node


def _fixtures_of(item: pytest.Item) -> Iterator[pytest.FixtureDef[object]]:
    """Yield the fixtures that a test uses and names."""
    if not isinstance(item, pytest.Function):
        return
    for name in item.fixturenames:
        # The fixture nearest to the test comes last. It overrides the one before it, which it may
        # use by the same name.
        for fixturedef in reversed(item._fixtureinfo.name2fixturedefs.get(name, ())):
            yield fixturedef
            if name not in fixturedef.argnames:
                break


def _node_of(fixturedef: pytest.FixtureDef[object], item: pytest.Item) -> Node:
    """Return the node with which a fixture is torn down: the later ``request.node``."""
    node: Node | None = item
    if fixturedef.scope == "class":
        node = item.getparent(pytest.Class)
    elif fixturedef.scope == "module":
        node = item.getparent(pytest.Module)
    elif fixturedef.scope == "package":
        packages = [each for each in item.listchain() if isinstance(each, pytest.Package)]
        matching = (each for each in packages if each.nodeid == fixturedef.baseid)
        node = next(matching, item.session)
    elif fixturedef.scope == "session":
        node = item.session
    return item if node is None else node

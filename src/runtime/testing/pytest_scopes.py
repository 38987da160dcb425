"""Which tests share a loop: those that share an asynchronous fixture which is wider than a test.

What a fixture gives, a connection or a lock, is good on one loop only. So a test runs on the loop
of its fixtures, and all fixtures of a test are on one::

    test_1(table)                  table: class
    test_2(table, database)        database: session    all on one, which closes with the session

    test_3(page)                   page: module         on one that closes with the module
    test_4()                                            on one of its own

It depends on the tests that were collected, not on the order in which they run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import pytest

Node = pytest.Item | pytest.Collector

_OWNER = pytest.StashKey[Node]()


def share_loops(items: Iterable[pytest.Item]) -> None:
    """Take note of which loop each test runs on."""
    wider: dict[Node, Node] = {}
    wide = {item: set(_wide_nodes(item)) for item in items}
    for nodes in wide.values():
        _join(nodes, wider)
    for item, nodes in wide.items():
        for node in nodes:
            item.stash[_OWNER] = _widest(node, wider)


def _join(nodes: set[Node], wider: dict[Node, Node]) -> None:
    """Have all of ``nodes`` lead to the widest that any of them leads to."""
    tops = {_widest(node, wider) for node in nodes}
    # They stand one above the other: all of them are above one test, or above a node that is.
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
    """Return a number that is the smaller, the more tests a node holds."""
    return len(node.listchain())


def is_asynchronous(fixturedef: pytest.FixtureDef[object]) -> bool:
    """Return whether a fixture is a coroutine that no other plugin has claimed."""
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
    """Yield the fixtures that a test uses, as far as it says so by name."""
    if not isinstance(item, pytest.Function):
        return
    for name in item.fixturenames:
        # The nearest comes last. It overrides the one before, which it may use by the same name.
        for fixturedef in reversed(item._fixtureinfo.name2fixturedefs.get(name, ())):
            yield fixturedef
            if name not in fixturedef.argnames:
                break


def _node_of(fixturedef: pytest.FixtureDef[object], item: pytest.Item) -> Node:
    """Return the node with which a fixture is torn down, as ``request.node`` says later."""
    node: Node | None = item
    if fixturedef.scope == "class":
        node = item.getparent(pytest.Class)
    elif fixturedef.scope == "module":
        node = item.getparent(pytest.Module)
    elif fixturedef.scope == "package":
        packages = [each for each in item.listchain() if isinstance(each, pytest.Package)]
        of_it = (each for each in packages if each.nodeid == fixturedef.baseid)
        node = next(of_it, item.session)
    elif fixturedef.scope == "session":
        node = item.session
    return item if node is None else node

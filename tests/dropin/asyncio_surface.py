"""Public surface of ``asyncio`` in the running Python, and its records for other releases.

``python -m tests.dropin.asyncio_surface`` records the running release in ``asyncio_surface.json``.
It must run without ``runtime``, which replaces functions of asyncio.

A surface maps dotted names to short texts: a function to its signature, anything else to its kind.
The file holds the oldest release in full; for each later release it holds the differences from the
one before. ``test_asyncio_differences.py`` compares the running Python with the records.
"""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import dis
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

Surface = dict[str, str]
Release = tuple[int, int, int]

DATA = Path(__file__).with_name("asyncio_surface.json")

LAZY = ("AbstractEventLoopPolicy", "DefaultEventLoopPolicy")
"""Public names missing from ``asyncio.__all__`` and ``dir(asyncio)`` from Python 3.14 on."""

OF_SUBPROCESS = ("DEVNULL", "PIPE", "Process", "STDOUT", "SubprocessStreamProtocol")
"""Names of ``asyncio.subprocess`` that ``asyncio`` itself lacks."""

SPECIAL_METHODS = (
    *("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__class_getitem__"),
    *("__enter__", "__exit__", "__iter__", "__next__"),
)
"""Special methods through which a class supports a statement or an expression."""

WINDOWS_ONLY = re.compile("Windows|Proactor")


def running_release() -> Release:
    """Return the version of the running Python, without its release level."""
    return sys.version_info[:3]


def text(release: Release) -> str:
    """Return a release as it is written: 3.14.10."""
    return ".".join(map(str, release))


# -- Reading a surface -----------------------------------------------------------------------------


def read_surface() -> Surface:
    """Return the surface of the running Python's asyncio."""
    surface: Surface = {}
    recorded: dict[type, str] = {}
    for name, value, deprecated in _public_objects():
        if isinstance(value, type):
            entries = _class_entries(name, value, recorded)
            recorded.setdefault(value, name)
        else:
            entries = {name: _description(value)}
        if deprecated:
            entries[name] = f"deprecated {entries[name]}"
        surface |= entries
    return dict(sorted(surface.items()))


def _public_objects() -> Iterator[tuple[str, Any, bool]]:
    """Yield (name, object, whether access is deprecated), base classes before derived ones."""
    found = []
    # In the order of __all__: a class's own name comes before its aliases.
    for name in dict.fromkeys([*asyncio.__all__, *dir(asyncio), *LAZY]):
        if WINDOWS_ONLY.search(name) or (name.startswith("_") and name not in asyncio.__all__):
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = getattr(asyncio, name, None)
        if value is not None and not isinstance(value, ModuleType):
            found.append((name, value, bool(caught)))
    found += [
        (f"subprocess.{each}", getattr(asyncio.subprocess, each), False) for each in OF_SUBPROCESS
    ]
    yield from sorted(found, key=lambda each: _depth(each[1]))


def _depth(value: Any) -> int:
    return len(value.__mro__) if isinstance(value, type) else 0


def _class_entries(name: str, kind: type, recorded: Mapping[type, str]) -> Surface:
    """Return the entries of a class and of the members that no recorded base class has."""
    if kind in recorded:
        return {name: f"= {recorded[kind]}"}
    if issubclass(kind, BaseException):
        head = f"exception({', '.join(base.__name__ for base in kind.__bases__)})"
    else:
        head = "class"
    surface = {name: f"{head} {_signature(kind)}".rstrip()}
    for member in {*dir(kind), *_instance_attributes(kind)}:
        if member.startswith("_") and member not in SPECIAL_METHODS:
            continue
        owner = next((base for base in kind.__mro__ if member in vars(base)), kind)
        if owner.__module__ == "builtins" or owner in recorded:
            continue
        if member in SPECIAL_METHODS:
            # Record only that it exists: some methods in C have a signature on some Pythons only.
            surface[f"{name}.{member}"] = "special method"
        else:
            surface[f"{name}.{member}"] = _description(inspect.getattr_static(kind, member, None))
    return surface


def _instance_attributes(kind: type) -> set[str]:
    """Return the public names that ``__init__`` of the class stores in an object."""
    code = getattr(vars(kind).get("__init__"), "__code__", None)
    if code is None:
        return set()
    stored = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR"}
    return {name for name in stored if not name.startswith("_")}


def _description(value: Any) -> str:
    """Return the text that is recorded for a function, a member of a class, or a constant."""
    if isinstance(value, (classmethod, staticmethod)):
        return f"{type(value).__name__} {_description(value.__func__)}"
    if isinstance(value, (int, str)):
        return f"= {value!r}"
    if not callable(value):
        return "attribute"
    signature = _signature(value) or "(unknown)"
    return f"async {signature}" if inspect.iscoroutinefunction(value) else signature


def _signature(value: Any) -> str:
    """Return the signature without annotations, or '' for an object that tells none."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    empty = inspect.Parameter.empty
    parameters = [each.replace(annotation=empty) for each in signature.parameters.values()]
    bare = str(signature.replace(parameters=parameters, return_annotation=empty))
    # Members of an enumeration without their numbers, which a platform chooses, and objects without
    # their addresses.
    bare = re.sub(r"<(\w+\.\w+): -?\w+>", r"\1", bare)
    return re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "<object>", bare)


# -- Comparing -------------------------------------------------------------------------------------


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return a line of text for each name that two surfaces disagree about."""
    lines = {}
    for name in sorted({*old, *new}):
        if name not in old:
            lines[name] = f"added    {name}: {new[name]}"
        elif name not in new:
            lines[name] = f"removed  {name}: {old[name]}"
        elif old[name] != new[name]:
            lines[name] = f"changed  {name}: {old[name]}  ->  {new[name]}"
    return lines


def unrecorded(
    running: Release, surface: Mapping[str, str], recorded: Mapping[Release, Mapping[str, str]]
) -> list[str]:
    """Return a line for each thing in ``surface``, of ``running``, that the records do not explain.

    A release that is recorded must be as recorded, and a later one of the same minor version as the
    last one recorded. An earlier one, or one between two records, may lack names and have other
    signatures, but must have no name that is not recorded for its minor version. A minor version
    without a record is never explained: it is compared with the last record there is.
    """
    of_minor = [release for release in recorded if release[:2] == running[:2]]
    if not of_minor:
        newest = max(recorded)
        title = f"Python {text(running)} has no record. Compared with {text(newest)}, it has:"
        return [title, *(difference(recorded[newest], surface).values() or ["no difference"])]
    if running in recorded or running > max(of_minor):
        return list(difference(recorded[min(running, max(of_minor))], surface).values())
    known = {name for release in of_minor for name in recorded[release]}
    return [f"added    {name}: {surface[name]}" for name in sorted(surface.keys() - known)]


# -- The records -----------------------------------------------------------------------------------


def load() -> dict[Release, Surface]:
    """Return the recorded surfaces, the oldest release first."""
    surfaces: dict[Release, Surface] = {}
    surface: Surface = {}
    for release, changes in json.loads(DATA.read_text()).items():
        surface = {**surface, **changes["entries"]}
        for name in changes["removed"]:
            del surface[name]
        major, minor, micro = map(int, release.split("."))
        surfaces[major, minor, micro] = surface
    return surfaces


def save(surfaces: Mapping[Release, Surface]) -> None:
    """Write surfaces to the file, each as the differences from the one before."""
    records = {}
    before: Surface = {}
    for release, surface in sorted(surfaces.items()):
        entries = {name: surface[name] for name in sorted(surface)}
        records[text(release)] = {
            "removed": sorted(before.keys() - surface.keys()),
            "entries": {n: entry for n, entry in entries.items() if before.get(n) != entry},
        }
        before = surface
    DATA.write_text(json.dumps(records, indent=1) + "\n")


def main() -> None:
    """Record the running release, in place of earlier ones with the same surface."""
    assert "runtime" not in sys.modules
    release, surface = running_release(), read_surface()
    kept = {
        each: recorded
        for each, recorded in (load() if DATA.exists() else {}).items()
        if each[:2] != release[:2] or each > release or recorded != surface
    }
    save({**kept, release: surface})
    print(f"{DATA.name}: recorded Python {text(release)}, {len(surface)} names")


if __name__ == "__main__":
    main()

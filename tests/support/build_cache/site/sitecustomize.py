"""Reuse of the output of mypyc. Python imports this module at its start, from PYTHONPATH.

The first build from certain sources keeps the C files that ``mypycify`` has written, and its
result, in the folder TRANSLATIONS, in place of those from other sources. A later build from the
same sources takes them from there. What does not pass mypyc is not kept.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import os
import pickle
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

_MODULE = "mypyc.build"
_BUILD = Path("build")


def _written() -> dict[Path, tuple[int, int]]:
    """Return the C files in the folder of the build, with their sizes and times."""
    kept = Path(os.environ["TRANSLATIONS"]).name
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in _BUILD.rglob("*.[ch]")
        if kept not in path.parts
    }


def _reusing(mypycify: Any) -> Any:
    """Return ``mypycify``, made to reuse earlier output."""

    def reuse(paths: list[str], **options: Any) -> Any:
        versions = (sys.version, metadata.version("mypy"), metadata.version("setuptools"))
        digest = hashlib.sha256(repr((versions, paths, sorted(options.items()))).encode())
        for path in sorted(Path("src").rglob("*.py")):
            digest.update(f"\0{path}\0".encode() + path.read_bytes())
        kept = Path(os.environ["TRANSLATIONS"], digest.hexdigest())
        if (kept / "result").is_file():  # It is written last.
            shutil.copytree(kept / "files", _BUILD, dirs_exist_ok=True)
            return pickle.loads((kept / "result").read_bytes())
        before = _written()
        result = mypycify(paths, **options)
        shutil.rmtree(kept.parent, ignore_errors=True)
        # mypyc does not write a file of an earlier build again that has not changed.
        parts = {Path(name) for each in result for name in (*each.sources, *each.depends)}
        for path, state in _written().items():
            if path in parts or before.get(path) != state:
                copy = kept / "files" / path.relative_to(_BUILD)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        (kept / "result").write_bytes(pickle.dumps(result))
        return result

    return reuse


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ``mypyc.build`` as usual, and replaces its ``mypycify``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                module.mypycify = _reusing(module.mypycify)

            loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())

"""``pip install .`` on machines with missing or broken tools: the package always works.

The builds reuse what mypyc and the compiler have made of the same sources, as far as the test is
not about that: see ``tests/support/build_cache``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.matrix import COMPILER
from tests.support import build_cache
from tests.support.programs import ROOT

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(
        shutil.which(COMPILER) is None
        or None in map(importlib.util.find_spec, ("mypyc", "setuptools"))
        or int(metadata.version("setuptools").split(".")[0]) < 77,
        reason="needs what the build needs: a C compiler, mypy, setuptools 77",
    ),
]

DESCRIBE = """
import runtime
from runtime.kernel.native import accelerator
async def answer():
    return 42
async def main():
    return await runtime.create_task(answer())
assert runtime.run(main()) == 42
print(runtime.compiled, accelerator.has_accelerator)
"""


CACHE = "cache"
"""Name of the link from a tree to the folder of the object files that its builds reuse."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("builds")


@pytest.fixture
def tree(tmp_path: Path, cache: Path) -> Path:
    """Return a copy of the files that a build reads."""
    return copied_tree(tmp_path, cache)


def copied_tree(folder: Path, cache: Path) -> Path:
    """Copy the files that a build reads into a new folder ``tree``, with a link to the cache."""
    copy = folder / "tree"
    copy.mkdir()
    (copy / CACHE).symlink_to(cache)
    shutil.copytree(
        ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def compiler_script(tree: Path, special: str = "") -> str:
    """Write a C compiler script that does not optimize, and reuses objects, which saves time."""
    script = tree / "compiler"
    reusing = build_cache.compiler((tree / CACHE).resolve(), COMPILER)
    script.write_text(f'#!/bin/sh\n{special}\nexec {reusing} "$@" -O0\n')
    script.chmod(0o755)
    return str(script)


INHERITED = {
    name: value
    for name, value in os.environ.items()
    if name not in {"PYTHONPATH", "LD_PRELOAD", "PYTHONMALLOC", "CC"}
    and not name.startswith("RUNTIME_")
}


def pip(
    tree: Path, command: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Have pip build the package in ``tree``, without downloads."""
    if "CC" not in environment:
        environment["CC"] = compiler_script(tree)
    options = ("--verbose", "--no-index", "--no-deps", "--no-build-isolation")
    reusing = build_cache.environment()
    return subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments, "."],
        cwd=tree,
        env=INHERITED | reusing | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def describe(target: Path) -> tuple[bool, bool]:
    """Return whether the package in ``target`` is compiled, and has its accelerator."""
    described = subprocess.run(
        [sys.executable, "-c", DESCRIBE],
        cwd=target,
        env=INHERITED | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert described.returncode == 0, described.stderr
    compiled, accelerator = (word == "True" for word in described.stdout.split())
    return compiled, accelerator


class Installed:
    """Result of an installation of ``tree`` into its folder ``name``."""

    def __init__(self, tree: Path, name: str = "installed", **environment: str) -> None:
        self.target = tree / name
        done = pip(tree, "install", "--no-compile", "--target", str(self.target), **environment)
        self.log = done.stdout + done.stderr
        assert done.returncode == 0, self.log
        self.compiled, self.accelerator = describe(self.target)
        self.libraries = {path.name.split(".")[0] for path in self.target.rglob("*.so")}


def hide_mypyc(tree: Path) -> None:
    """Let ``import mypyc`` fail where the tree is in the path of modules."""
    (tree / "mypyc.py").write_text("raise ImportError('no mypyc here')\n")


def break_accelerator(tree: Path) -> None:
    accelerator = tree / "src/runtime/kernel/native/_accelerator.c"
    accelerator.write_text(accelerator.read_text() + "\nthis is not C\n")


def break_types(tree: Path) -> None:
    """Put a wrong type into a module; have only this one compiled, of which mypy says so sooner."""
    timers = tree / "src/runtime/kernel/timers.py"
    timers.write_text(timers.read_text() + "\n_WRONG: int = 'a string'\n")
    setup = tree / "setup.py"
    one = f'COMPILED = ("{timers.relative_to(tree)}",)\n'
    text, count = re.subn(r"(?ms)^COMPILED = \(\n.*?^\)\n", one, setup.read_text())
    assert count == 1
    setup.write_text(text)


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Installed]:
    """Return a tree with a complete build, and the build."""
    # Objects of another tree would hide the paths of this one.
    shutil.rmtree(cache)
    cache.mkdir()
    tree = copied_tree(tmp_path_factory.mktemp("complete"), cache)
    return tree, Installed(tree)


def test_everything_is_there_and_nothing_of_the_building_machine(
    complete: tuple[Path, Installed],
) -> None:
    tree, built = complete
    assert (built.compiled, built.accelerator) == (True, True)
    assert "WARNING (runtime)" not in built.log
    for library in built.target.rglob("*.so"):
        for folder in (tree, ROOT):  # The modules may have been translated in either of them.
            assert str(folder).encode() not in library.read_bytes()


def test_nothing_of_an_earlier_build_gets_into_the_next(complete: tuple[Path, Installed]) -> None:
    tree, _ = complete
    pure = Installed(tree, "pure", RUNTIME_PURE="1")
    assert (pure.compiled, pure.accelerator, pure.libraries) == (False, False, set())
    accelerator_only = Installed(tree, "accelerator", RUNTIME_ACCELERATOR_ONLY="1")
    assert (
        accelerator_only.compiled,
        accelerator_only.accelerator,
        accelerator_only.libraries,
    ) == (False, True, {"_accelerator"})


def test_a_missing_compiler(tree: Path) -> None:
    built = Installed(tree, CC="no-such-compiler")
    assert (built.compiled, built.accelerator, built.libraries) == (False, False, set())
    assert "WARNING (runtime): the kernel's modules and the C accelerator were" in built.log


def test_a_compiler_that_fails(tree: Path) -> None:
    """The package is installed without compiled modules; its wheel is one for any platform."""
    done = pip(tree, "wheel", "--wheel-dir", "wheels", CC="/bin/false")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tree / "wheels").iterdir()
    assert wheel.name.split("-", 2)[2] == "py3-none-any.whl"
    assert "WARNING (runtime): the kernel's modules" in done.stdout + done.stderr
    assert "WARNING (runtime): the C accelerator was" in done.stdout + done.stderr
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree / "installed")
        assert not any(name.endswith(".so") for name in archive.namelist())
    assert describe(tree / "installed") == (False, False)


def test_a_accelerator_that_does_not_compile(tree: Path) -> None:
    break_accelerator(tree)
    built = Installed(tree)
    assert (built.compiled, built.accelerator) == (True, False)
    assert "WARNING (runtime): the C accelerator was not compiled" in built.log


def test_a_module_that_mypyc_refuses(tree: Path) -> None:
    break_types(tree)
    built = Installed(tree)
    assert (built.compiled, built.accelerator, built.libraries) == (False, True, {"_accelerator"})
    assert "WARNING (runtime): the kernel's modules were not compiled: mypyc failed" in built.log


def test_no_mypyc(tree: Path) -> None:
    hide_mypyc(tree)
    built = Installed(tree, PYTHONPATH=str(tree))
    assert (built.compiled, built.accelerator) == (False, True)
    assert "no mypyc here" in built.log


def test_a_library_that_fails_halfway_takes_the_others_with_it(tree: Path) -> None:
    # The compiler fails on one of the modules' shims, after the shared library was built.
    compiler = compiler_script(tree, 'case "$*" in *kernel/core.c*) exit 1;; esac')
    built = Installed(tree, CC=compiler)
    assert (built.compiled, built.accelerator, built.libraries) == (False, True, {"_accelerator"})
    assert "WARNING (runtime): the kernel's modules were not compiled" in built.log


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PYTHONPATH": "."}, "the kernel's modules were not compiled"),
        ({"CC": "no-such-compiler"}, "no C compiler was found"),
        ({"RUNTIME_PURE": "1"}, "so is RUNTIME_PURE"),
    ],
)
def test_it_can_be_asked_for_that_it_is_compiled(
    tree: Path, environment: dict[str, str], reason: str
) -> None:
    hide_mypyc(tree)
    target = tree / "installed"
    done = pip(
        tree, "install", "--target", str(target), RUNTIME_REQUIRE_COMPILED="1", **environment
    )
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    assert "RUNTIME_REQUIRE_COMPILED is set" in done.stdout + done.stderr
    assert not target.exists()


def test_the_wheel_of_a_compiled_build_is_specific_to_its_platform(tree: Path) -> None:
    done = pip(tree, "wheel", "--wheel-dir", "wheels", RUNTIME_ACCELERATOR_ONLY="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tree / "wheels").iterdir()
    assert f"-cp3{sys.version_info[1]}-" in wheel.name
    assert "none-any" not in wheel.name
